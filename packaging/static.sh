#!/bin/sh
# static.sh [DIR [OPTION...]]: builds the static binary for musl with Debian's Rust, into DIR (default target/static)/kes.
# The options are for cargo build.
# Two builds of one commit with the same Debian packages are the same bytes, wherever they are made.
set -eu
cd "$(dirname "$0")/.."
out=${1:-target/static}
[ $# -eq 0 ] || shift
target=x86_64-unknown-linux-musl

missing=
[ "$(uname -m)" = x86_64 ] || missing="$missing an-x86_64-machine"
for file in /usr/bin/rustc /usr/bin/cargo /usr/bin/musl-gcc /usr/bin/gcc /usr/bin/clang /usr/bin/objcopy /usr/bin/python3; do [ -x $file ] || missing="$missing $file"; done
if [ -z "$missing" ]; then
	version=$(/usr/bin/rustc -V | cut -d' ' -f2)
	[ -d "/usr/src/rustc-$version/library" ] || missing=" /usr/src/rustc-$version/library"
fi
if [ -n "$missing" ]; then
	cat >&2 <<-TEXT
		The static binary for musl cannot be built here; missing:$missing
		On Debian: apt-get install rustc-web cargo-web rust-web-src musl-tools gcc clang binutils python3
		Elsewhere 'make static-gnu' makes a static binary with glibc from any Rust toolchain that has its
		x86_64-unknown-linux-gnu target: larger, and names are looked up in files and DNS only.
	TEXT
	exit 1
fi

packaging/musl/sysroot.sh target/musl
mkdir -p "$out"
env -u RUSTC_BOOTSTRAP -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTUP_TOOLCHAIN \
	KES_COMMIT="${KES_COMMIT:-unknown}" KES_TOP="$PWD" KES_NAME=/src KES_SYSROOT="$PWD/target/musl" \
	RUSTC="$PWD/packaging/musl/rustc.sh" CC_x86_64_unknown_linux_musl=/usr/bin/clang \
	CFLAGS_x86_64_unknown_linux_musl="-isystem /usr/include/x86_64-linux-musl -ffile-prefix-map=$PWD=/src -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
	/usr/bin/cargo build --release --locked --target $target --target-dir "$out/build" "$@"

# The list of what it is made of, for scanners (rust-audit-info, cargo-audit, trivy, grype ...).
/usr/bin/cargo metadata --format-version 1 --locked --filter-platform $target >"$out/metadata.json"
packaging/dependencies.py embed <"$out/metadata.json" >"$out/dep-v0"
objcopy --add-section .dep-v0="$out/dep-v0" --set-section-flags .dep-v0=noload,readonly "$out/build/$target/release/kes" "$out/kes"
echo "== $out/kes: $(stat -c %s "$out/kes") bytes"
