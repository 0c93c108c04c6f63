#!/usr/bin/env bash
# The manual pages are well-formed, and every page that one refers to is there.
. "$(dirname "$0")/common.sh"
command -v mandoc >/dev/null || { echo "        mandoc is not installed: only the references are checked"; }
for page in "$ROOT"/man/*.[1-8]; do
	name=${page##*/}
	if command -v mandoc >/dev/null; then
		# Whether a page that is referred to is installed here, and in mandoc's own list, says nothing about this one.
		out=$(mandoc -T lint -W style "$page" 2>&1 | grep -v -e 'referenced manual not found' -e 'outdated mandoc.db')
		[ -z "$out" ] && ok "$name is well-formed" || bad "$name is well-formed" "$out"
	fi
	missing=$(awk '$1 == ".Xr" && $2 ~ /^kes/ { print $2 "." $3 }' "$page" | sort -u | while read -r other; do [ -e "$ROOT/man/$other" ] || echo "$other"; done)
	[ -z "$missing" ] && ok "$name refers to pages that exist" || bad "$name refers to pages that exist" "$missing"
done
finish
