#!/bin/sh
# packages.sh [KES]: from the static binary (default target/static/kes) makes everything that a release consists of, in
# target/packages: deb, rpm, apk, an OCI image layout, the bill of materials, SHA256SUMS. Needs nfpm in TOOLS, python3.
# The same commit gives the same bytes: all times are those of the commit.
set -eu
cd "$(dirname "$0")/.."
kes=${1:-target/static/kes}
tools=${TOOLS:-target/tools}
out=target/packages
tree=$out/tree

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
export SOURCE_DATE_EPOCH
KES_VERSION=$version
# Whoever releases packages puts his name here.
KES_MAINTAINER=${KES_MAINTAINER:-kes maintainers <maintainers@kes.invalid>}
export KES_VERSION KES_MAINTAINER

rm -rf "$out"
mkdir -p "$tree/man" "$tree/completion" "$tree/monitoring"
cp "$kes" "$tree/kes"
chmod 755 "$tree/kes"
for page in man/*.[1-8]; do gzip -9nc "$page" >"$tree/man/${page##*/}.gz"; done
for shell in bash zsh fish; do "$tree/kes" completion $shell >"$tree/completion/kes.$shell"; done
mv "$tree/completion/kes.zsh" "$tree/completion/_kes"
find packaging/monitoring -maxdepth 1 -type f ! -name '*_test.*' ! -name '*-test.*' -exec cp {} "$tree/monitoring/" \;

target=x86_64-unknown-linux-musl
cargo=/usr/bin/cargo
[ -x $cargo ] || cargo=cargo
$cargo metadata --format-version 1 --locked --filter-platform $target >"$out/metadata.json"
packaging/dependencies.py sbom <"$out/metadata.json" >"$tree/sbom.cdx.json"
packaging/dependencies.py notices <"$out/metadata.json" | gzip -9n >"$tree/third-party-notices.gz"
rm "$out/metadata.json"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

for format in deb rpm apk; do "$tools/nfpm" package --config packaging/nfpm.yaml --packager $format --target $out/ >$out/nfpm.log || { cat $out/nfpm.log >&2; exit 1; }; done
rm $out/nfpm.log
cp "$tree/sbom.cdx.json" "$out/kes-$version.cdx.json"
cp "$tree/kes" "$out/kes-$version-linux-amd64"
packaging/image.py "$tree/kes" "$tree/third-party-notices.gz" LICENSE "$version" "$SOURCE_DATE_EPOCH" "$out/kes-$version-oci.tar"
(cd $out && sha256sum -- *.deb *.rpm *.apk *.json *.tar kes-*-linux-amd64 >SHA256SUMS && cat SHA256SUMS)
