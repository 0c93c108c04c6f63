#!/usr/bin/env bash
# What an auditor counts: crates, what they may be, unsafe code and where it is, the size of the source files.
. "$(dirname "$0")/common.sh"
cd "$ROOT" || exit 2
MOST_CRATES=60 MOST_UNSAFE=90 MOST_LINES=620

cargo tree --locked -e normal --prefix none >"$T/tree" 2>"$T/tree.err" || bad "cargo tree runs" "$(cat "$T/tree.err")"
crates=$(awk '{ print $1, $2 }' "$T/tree" | sort -u | wc -l)
[ "$crates" -gt 1 ] && [ "$crates" -le "$MOST_CRATES" ] && ok "$crates crates, at most $MOST_CRATES" || bad "at most $MOST_CRATES crates" "$crates"
for crate in tokio async-std smol futures-executor openssl openssl-sys native-tls aws-lc-rs aws-lc-sys; do
	grep -q "^$crate v" "$T/tree" && bad "$crate is not used" "$(cargo tree --locked -e normal -i "$crate")" || ok "$crate is not used"
done

# What is fuzzed is what is shipped: the workspace of the fuzzers locks the same versions.
awk '{ print $1, substr($2, 2) }' "$T/tree" | sort -u >"$T/shipped"
awk -F '"' '/^name = / { name = $2 } /^version = / && name { print name, $2; name = "" }' fuzz/Cargo.lock | sort -u >"$T/fuzzed"
missing=$(comm -23 "$T/shipped" "$T/fuzzed")
[ -s "$T/shipped" ] && [ -z "$missing" ] && ok "fuzz/Cargo.lock has every crate in its version" ||
	bad "fuzz/Cargo.lock has every crate in its version" "$missing"

# Blocks, functions, implementations and attributes; words in comments and lints do not count.
unsafe() { grep -rnE --include=*.rs '(^|[^_[:alnum:]])unsafe( *\{| +(fn|impl|trait|extern)|\()' "$@" | grep -vE '^[^:]+:[0-9]+: *//'; }
elsewhere=$(unsafe src | grep -v '^src/sys/')
[ -z "$elsewhere" ] && ok "no unsafe code outside of src/sys" || bad "no unsafe code outside of src/sys" "$elsewhere"
count=$(unsafe src/sys | wc -l)
[ "$count" -gt 0 ] && [ "$count" -le "$MOST_UNSAFE" ] && ok "unsafe code in src/sys: $count places" || bad "at most $MOST_UNSAFE places with unsafe code" "$count"
grep -q '^unsafe_code = "deny"' Cargo.toml && [ "$(grep -rlE 'allow\(unsafe_code\)' src)" = src/lib.rs ] &&
	[ "$(grep -c 'allow(unsafe_code)' src/lib.rs)" = 1 ] && grep -A1 'allow(unsafe_code)' src/lib.rs | grep -q 'mod sys;' &&
	ok "the compiler allows it nowhere else" || bad "the compiler allows it nowhere else"

long=$(find src -name '*.rs' -exec wc -l {} + | awk -v most=$MOST_LINES '$2 != "total" && $1 > most')
[ -z "$long" ] && ok "no source file has more than $MOST_LINES lines" || bad "no source file has more than $MOST_LINES lines" "$long"

if cargo deny --version >/dev/null 2>&1; then
	out=$(cargo deny check bans licenses sources 2>&1) && ok "cargo deny: $(tail -1 <<<"$out")" || bad "cargo deny" "$out"
else
	echo "        cargo-deny is not installed: licences are not checked"
fi
finish
