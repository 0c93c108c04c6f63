#!/bin/sh
# Runs every fuzz target for SECONDS_EACH seconds (20 by default). Needs a nightly toolchain and cargo-fuzz
# (cargo install cargo-fuzz); says so where they are missing.
set -eu
cd "$(dirname "$0")/.."
cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "fuzzing needs a nightly toolchain and cargo-fuzz: cargo install cargo-fuzz"; exit 1; }
for target in fuzz/fuzz_targets/*.rs; do
	name=$(basename "$target" .rs)
	echo "== fuzzing $name"
	cargo +nightly fuzz run "$name" -- -max_total_time="${SECONDS_EACH:-20}" -max_len=4096
done
