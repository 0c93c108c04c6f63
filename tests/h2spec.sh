#!/usr/bin/env bash
# h2spec over TLS, strict and normal, against a server that lets clients without a certificate in: on an unknown path, and on
# /v1/ready, which answers from another thread and without a body.
. "$(dirname "$0")/common.sh"
identities
config "api: { /v1/ready: { skip_auth: true } }"
start
for run in "-S /" "-S /v1/ready" "/"; do
	strict=${run%"${run##* }"} path=${run##* }
	# shellcheck disable=SC2086 # an option or none
	"$TOOLS/h2spec" -h 127.0.0.1 -p "${ADDRESS#*:}" -t -k $strict -P "$path" -o 5 >h2spec.out 2>&1
	last=$(tail -1 h2spec.out)
	echo "        ${strict:+strict, }$path: $last"
	n=$(printf '%s\n' "$last" | grep -Eo '[0-9]+ passed' | cut -d' ' -f1)
	if printf '%s\n' "$last" | grep -q ', 0 failed'; then PASS=$((PASS + n)); else bad "h2spec $path" "$(grep -A5 '×' h2spec.out)"; fi
done
finish
