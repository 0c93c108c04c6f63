#!/bin/sh
# Debian's rustc, with our standard library and without the paths of this machine where it compiles for musl. A wrapper and
# not flags, because the flags would go into the names that the compiler makes, and differ from folder to folder.
case " $* " in
*" --target x86_64-unknown-linux-musl "*)
	exec /usr/bin/rustc "$@" --sysroot "$KES_SYSROOT" --remap-path-prefix "$KES_TOP=/src" \
		--remap-path-prefix "${CARGO_HOME:-$HOME/.cargo}=/cargo"
	;;
esac
exec /usr/bin/rustc "$@"
