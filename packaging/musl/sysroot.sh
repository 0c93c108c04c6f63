#!/bin/sh
# sysroot.sh OUT: builds Rust's standard library for static programs on musl, from the source that Debian ships beside its
# compiler (packages rustc-web, cargo-web, rust-web-src, musl-tools). Does nothing if OUT has it already for these versions.
#
# For size: compiled with opt-level "s", and without the code that turns addresses into symbols, of which a stripped
# binary has none.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=x86_64-unknown-linux-musl
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(/usr/bin/rustc -V | cut -d' ' -f2)
source=/usr/src/rustc-$version
[ -d "$source/library" ] || { echo "rust-web-src does not match rustc-web $version" >&2; exit 1; }
stamp=$(/usr/bin/rustc -Vv; gcc --version | head -1; cksum /usr/lib/x86_64-linux-musl/libc.a "$here"/*)
[ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
echo "== building the standard library of Rust $version for musl in $out"

lib=$out/lib/rustlib/$target/lib
own=$lib/self-contained
work=$out/.work
rm -rf "${out:?}/lib" "$work"
mkdir -p "$own" "$work"
cp -r "$source/library" "$work/library" # a copy: cargo writes beside the manifest
(
	cd "$work/library"
	RUSTC_BOOTSTRAP=1 RUSTC="$here/rustc.sh" KES_SYSROOT="" KES_TOP="$work/library" KES_NAME=/rustc/library \
		CARGO_PROFILE_RELEASE_PANIC=unwind CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_OPT_LEVEL=s \
		CARGO_TARGET_DIR="$work/t" \
		RUSTFLAGS="-Cforce-unwind-tables=yes -Cembed-bitcode=yes -Zforce-unstable-if-unmarked" \
		/usr/bin/cargo build --release --target $target --manifest-path sysroot/Cargo.toml \
		-p std -p panic_abort -p proc_macro --features panic-unwind
)
cp "$work/t/$target/release/deps/"*.rlib "$lib/"
musl=/usr/lib/x86_64-linux-musl
cp $musl/crt1.o $musl/rcrt1.o $musl/crti.o $musl/crtn.o $musl/libc.a "$own/"
for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do cp "$(gcc -print-file-name=$file)" "$own/"; done
musl-gcc -O2 -fPIC -fvisibility=hidden -c "$here/unwind_shim.c" -o "$work/shim.o"
cp "$(gcc -print-file-name=libgcc_eh.a)" "$own/libunwind.a"
ar rcsD "$own/libunwind.a" "$work/shim.o"
rm -rf "$work"
echo "$stamp" >"$out/stamp"
