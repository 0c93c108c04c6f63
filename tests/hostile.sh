#!/usr/bin/env bash
# Attacks the server in every way of tests/hostile while normal clients use it; prints how they fared (p99) and how much
# memory the server took. SECONDS_EACH is the length of one attack, 10 by default; `short` takes a second for each and
# leaves out what needs other programs.
. "$(dirname "$0")/common.sh"
export PATH=$PATH:/usr/sbin
LENGTH=${SECONDS_EACH:-10}s
[ "${1:-}" = short ] && LENGTH=1s
ulimit -Sn "$(ulimit -Hn)"
identities
"$KES_BIN" identity new --key stranger.key --cert stranger.crt stranger >/dev/null
"$KES_BIN" identity new --key attacker.key --cert attacker.crt attacker >/dev/null &&
	ATTACKER=$("$KES_BIN" identity of attacker.crt | grep -Eo '[0-9a-f]{64}')
ID="$ID, $ATTACKER"
config "keys: [ { name: hostile } ]"

# attack OPTIONS...: runs the attacks against the server at $ADDRESS and counts them
attack() {
	"$TOOLS/hostile" -addr "$ADDRESS" -pid "$PID" -d "$LENGTH" "$@" >hostile.out 2>&1
	local status=$? line
	while read -r line; do
		case $line in
		"ok "*) ok "${line#ok     }" ;;
		FAILED*) bad "${line#FAILED }" ;;
		*) echo "        $line" ;;
		esac
	done <hostile.out
	[ "$status" -le 1 ] || bad "the attacks run" "$(tail -3 hostile.out)"
	alive "$PID" && ok "the server lives" || bad "the server lives" "$(tail -3 kes.err)"
	grep -qi panic kes.err && bad "nothing has panicked" "$(grep -i panic kes.err)" || ok "nothing has panicked"
}

start
attack

if command -v openssl >/dev/null; then
	# R on a line of its own asks for a renegotiation, which a server must not grant (RFC 5746, CVE-2011-1473).
	out=$( (sleep 1; echo R; sleep 1) | timeout 20 openssl s_client -connect "$ADDRESS" -tls1_2 -cert client.crt -key client.key 2>&1)
	grep -q RENEGOTIATING <<<"$out" && grep -qiE 'no.renegotiation|alert|error' <<<"$out" &&
		ok "a renegotiation is refused" || bad "a renegotiation is refused" "$(tail -5 <<<"$out")"
	for version in ssl3 tls1 tls1_1; do
		timeout 20 openssl s_client -connect "$ADDRESS" -$version -cipher ALL:@SECLEVEL=0 </dev/null >version.out 2>&1 &&
			grep -q 'Cipher is [A-Z]*-' version.out && bad "$version is refused" "$(tail -5 version.out)" || ok "$version is refused"
	done
fi
stop "$PID"

# A server with room for few connections, most of which are taken by nobody.
(ulimit -n 400 && exec "$KES_BIN" server --config config.yml >kes.out 2>kes.err </dev/null) &
PID=$!
PIDS="$PIDS $PID"
for i in $(seq 100); do grep -q 'up and running' kes.out && break; sleep 0.1; done
ADDRESS=$(grep -Eo '127\.0\.0\.1:[0-9]+' kes.out | head -1)
attack -only ceiling
stop "$PID"

if [ "${1:-}" != short ] && [ -x "$TOOLS/sslyze/bin/sslyze" ]; then
	# The scanner's old OpenSSL does not know Ed25519.
	for name in server client; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.crt -days 2 \
			-subj /CN=$name -addext subjectAltName=IP:127.0.0.1 2>/dev/null
	done
	start
	"$TOOLS/sslyze/bin/sslyze" --json_out=scan.json --cert client.crt --key client.key --compression --reneg --robot --heartbleed \
		--openssl_ccs --early_data --ems --sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 "$ADDRESS" >scan.out 2>&1
	python3 "$ROOT/tests/hostile/scan.py" scan.json >findings 2>&1 || bad "sslyze runs" "$(tail -5 scan.out findings)"
	while read -r verdict text; do
		[ "$verdict" = ok ] && ok "sslyze: $text" || bad "sslyze: $text"
	done <findings
	stop "$PID"
fi
finish
