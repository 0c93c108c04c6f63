#!/usr/bin/env bash
# How many instructions of user code a request costs, counted by callgrind, against recorded ceilings: times are not stable
# on a busy machine, these are. A ceiling is about a tenth above what docs/performance.md has; lower it with the figure.
. "$(dirname "$0")/common.sh"
command -v valgrind >/dev/null || { echo "        valgrind is not installed: nothing is counted"; ok "nothing to count with"; finish; }
# Which of the routines of ring and the C library run depends on the processor; valgrind shows programs one of this kind. It
# names no ADX, so that Curve25519 is counted in ring's general code, not in the one that real processors run.
[ "$(uname -m)" = x86_64 ] && grep -q avx2 /proc/cpuinfo || { echo "        another processor than the ceilings are for"; ok "nothing to compare with"; finish; }

identities
# The sandbox allows no such guest in the process.
config "sandbox: off" "log: { audit: on }"
[ -z "${KEEP:-}" ] || echo "profiles: $T"
count() { # LABEL OPTIONS...: instructions of a whole life with this load, into TOTAL
	local label=$1 i
	shift
	: >kes.out
	valgrind --tool=callgrind --callgrind-out-file="$label.out" "$KES_BIN" server --config config.yml >kes.out 2>kes.err </dev/null &
	PID=$!
	PIDS="$PIDS $PID"
	for i in $(seq 600); do grep -q 'up and running' kes.out && break; alive $PID || break; sleep 0.1; done
	ADDRESS=$(grep -Eo '127\.0\.0\.1:[0-9]+' kes.out | head -1)
	[ -n "$ADDRESS" ] || { bad "the server starts under valgrind" "$(tail -5 kes.err)"; finish; }
	"$TOOLS/kesload" -ca server.crt -cert client.crt -key client.key -addr "$ADDRESS" -c 1 "$@" >"$label.json" || bad "$label" "$(cat "$label.json")"
	kill -TERM $PID
	wait $PID
	TOTAL=$(awk '/^(summary|totals):/ { n = $2 } END { print n }' "$label.out")
	[ -n "$TOTAL" ] || { bad "callgrind has counted" "$(tail -5 kes.err)"; finish; }
}
# musl copies and wipes with plainer code than glibc.
STATIC=0
ldd "$KES_BIN" >/dev/null 2>&1 && ldd "$KES_BIN" | grep -q libc || STATIC=1
check() { # TEXT REQUESTS CEILING CEILING-FOR-MUSL
	local each=$(((TOTAL - BASE) / $2))
	[ $STATIC -eq 0 ] || set -- "$1" "$2" "$4"
	[ "$each" -gt 1000 ] && [ "$each" -le "$3" ] && ok "$1: $each instructions (at most $3)" || bad "$1: $each instructions (at most $3)"
}

# The first life makes the key that the others use, the second is what they have in common.
count first -n 1
count base -n 1
BASE=$TOTAL
count keepalive -n 401
check "generate over HTTP/1.1" 400 41000 56000
count h2 -n 401 -conn h2
check "generate over HTTP/2" 400 43500 58500
count handshake -n 41 -conn handshake
check "generate over a new connection" 40 2250000 2280000
count resume -n 41 -conn resume
check "generate over a resumed connection" 40 1430000 1460000
[ -z "${KEEP:-}" ] || cp ./*.out "$KEEP"
finish
