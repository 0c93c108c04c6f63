#!/bin/sh
# Debian's rustc, with our standard library (KES_SYSROOT, if set) and without the folders of this machine (KES_TOP stands for
# KES_NAME) where it compiles for musl. A wrapper and not flags: cargo makes flags a part of the names that the compiler
# makes, which would then differ from folder to folder.
case " $* " in
*" --target x86_64-unknown-linux-musl "*)
	exec /usr/bin/rustc "$@" ${KES_SYSROOT:+--sysroot "$KES_SYSROOT"} --remap-path-prefix "$KES_TOP=$KES_NAME" \
		--remap-path-prefix "${CARGO_HOME:-$HOME/.cargo}=/cargo"
	;;
esac
exec /usr/bin/rustc "$@"
