# Sourced by the test scripts: a server of their own in a temporary folder, counters, the last line.
# shellcheck shell=bash
set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KES_BIN=${KES_BIN:-$ROOT/target/release/kes}
TOOLS=${TOOLS:-$ROOT/target/tools}
T=$(mktemp -d "${TMPDIR:-/tmp}/kes-test.XXXXXX") || exit 2
cd "$T" || exit 2
PASS=0 FAIL=0 PIDS=

ok() { PASS=$((PASS + 1)); echo "ok      $1"; }
bad() { FAIL=$((FAIL + 1)); echo "FAILED  $1"; [ $# -lt 2 ] || printf '%s\n' "$2" | head -20 | sed 's/^/        | /'; }

alive() { kill -0 "$1" 2>/dev/null; }
stop() { # PID: ask, wait up to 30 s, then insist
	local i
	kill -TERM "$1" 2>/dev/null
	for i in $(seq 300); do alive "$1" || break; sleep 0.1; done
	alive "$1" && kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null
}
finish() {
	local pid
	trap - EXIT
	for pid in $PIDS; do stop "$pid"; done
	cd / && rm -rf "$T"
	echo "$PASS passed, $FAIL failed"
	[ "$FAIL" -eq 0 ] && [ "$PASS" -gt 0 ]
	exit
}
trap finish EXIT

# identities: server.key/.crt for 127.0.0.1, client.key/.crt, and ID
identities() {
	"$KES_BIN" identity new --key server.key --cert server.crt --ip 127.0.0.1 localhost >/dev/null &&
		"$KES_BIN" identity new --key client.key --cert client.crt client >/dev/null &&
		ID=$("$KES_BIN" identity of client.crt | grep -Eo '[0-9a-f]{64}')
}
# config MORE...: config.yml for port 0, the client may do everything
config() {
	cat >config.yml <<YML
address: 127.0.0.1:0
admin: { identity: disabled }
tls: { key: server.key, cert: server.crt }
policy: { client: { allow: ["/v1/*"], identities: [$ID] } }
keystore: { fs: { path: ./keys } }
YML
	printf '%s\n' "$@" >>config.yml
}
# start OPTIONS...: starts the server; PID and ADDRESS
start() {
	local i
	: >kes.out
	"$KES_BIN" server --config config.yml "$@" >kes.out 2>kes.err </dev/null &
	PID=$!
	PIDS="$PIDS $PID"
	for i in $(seq 600); do grep -q 'up and running' kes.out && break; alive "$PID" || break; sleep 0.1; done
	ADDRESS=$(grep -Eo '127\.0\.0\.1:[0-9]+' kes.out | head -1)
	[ -n "$ADDRESS" ] || { bad "the server starts" "$(cat kes.err)"; finish; }
}
# field NAME JSON: a number out of one line of JSON
field() { printf '%s\n' "$2" | grep -Eo "\"$1\":[0-9.]+" | head -1 | cut -d: -f2; }
