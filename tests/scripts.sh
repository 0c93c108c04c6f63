#!/usr/bin/env bash
# The scripts are free of shell mistakes.
. "$(dirname "$0")/common.sh"
for script in "$ROOT"/tests/*.sh "$ROOT"/tests/bench/*.sh "$ROOT"/packaging/*.sh "$ROOT"/packaging/*/*.sh "$ROOT/.ci/run"; do
	name=${script#"$ROOT"/}
	out=$(bash -n "$script" 2>&1) && ok "$name is read by the shell" || bad "$name is read by the shell" "$out"
	case $name in tests/minio-tutorial.sh) continue ;; esac
	command -v shellcheck >/dev/null || continue
	# SC2034, SC2154: variables that common.sh gives and takes.
	out=$(shellcheck -S warning -e SC2034,SC2154 "$script" 2>&1) && ok "$name passes shellcheck" || bad "$name passes shellcheck" "$out"
done
finish
