#!/bin/sh
# Builds the static binary of this commit twice, each from a clean checkout in a folder of its own, with a standard library
# built there too, and compares: `make reproduce`. Takes some minutes.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/kes-reproduce.XXXXXX")
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse --short=12 HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "== uncommitted changes are left out"
for folder in one another/place; do
	mkdir -p "$work/$folder"
	git archive HEAD | tar -x -C "$work/$folder"
	echo "== building $commit in $work/$folder"
	KES_COMMIT=$commit "$work/$folder/packaging/static.sh" target/static >"$work/log" 2>&1 || { tail -20 "$work/log"; exit 1; }
	(cd "$work/$folder" && sha256sum target/static/kes)
	mv "$work/$folder/target/static/kes" "$work/kes.${folder%%/*}"
	rm -rf "${work:?}/$folder"
done
if ! cmp "$work/kes.one" "$work/kes.another"; then
	echo "0 passed, 1 failed"
	exit 1
fi
if grep -aqF -e "$work" -e "${CARGO_HOME:-$HOME/.cargo}" "$work/kes.one"; then
	echo "== the binary names folders of this machine"
	echo "1 passed, 1 failed"
	exit 1
fi
mkdir -p target/static
mv "$work/kes.one" target/static/kes
echo "2 passed, 0 failed"
