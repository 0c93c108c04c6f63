#!/bin/sh
# Runs every fuzz target for SECONDS_EACH seconds (20 by default; a thorough run is SECONDS_EACH=1800, half an hour each).
# What it finds goes to target/fuzz; `tests/fuzz.sh minimise` then puts the smallest set of files that reaches the same
# code into fuzz/corpus. Needs a nightly toolchain and cargo-fuzz; says so where they are missing.
set -eu
cd "$(dirname "$0")/.."
cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "fuzzing needs a nightly toolchain and cargo-fuzz: cargo install cargo-fuzz"; exit 1; }
for target in fuzz/fuzz_targets/*.rs; do
	name=$(basename "$target" .rs)
	found=target/fuzz/$name
	mkdir -p "$found"
	if [ "${1:-}" = minimise ]; then
		echo "== minimising the corpus of $name"
		cp fuzz/corpus/"$name"/* "$found"
		rm -r "fuzz/corpus/$name"
		mkdir "fuzz/corpus/$name"
		cargo +nightly fuzz run "$name" "fuzz/corpus/$name" "$found" -- -set_cover_merge=1 -use_counters=0 -max_len=4096
	else
		echo "== fuzzing $name"
		cargo +nightly fuzz run "$name" "$found" "fuzz/corpus/$name" -- \
			-max_total_time="${SECONDS_EACH:-20}" -max_len=4096 -timeout=25 -print_final_stats=1
	fi
done
