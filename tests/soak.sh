#!/usr/bin/env bash
# Reloads under load: no request fails, and descriptors, threads and memory are afterwards what they were before.
# RELOADS (300) and EVERY (0.1, seconds) tell how many and how often.
. "$(dirname "$0")/common.sh"
RELOADS=${RELOADS:-300} EVERY=${EVERY:-0.1}
identities
config 'probe: { address: 127.0.0.1:0 }' 'keys: [ { name: soak } ]'
cp config.yml one.yml
# The other configuration differs in policies, cache, timeouts and the level of the log.
sed 's/^policy:.*/policy: { other: { allow: ["\/v1\/key\/*"], identities: ['"$ID"'] }, more: { deny: ["*"] } }/' one.yml >two.yml
printf '%s\n' 'cache: { expiry: { any: 1m, unused: 10s } }' 'api: { /v1/key/generate/: { timeout: 14s } }' 'log: { error: warn }' >>two.yml
start
PROBE=$(grep -Eo 'http://127\.0\.0\.1:[0-9]+' kes.out | head -1)

value() { curl -s -m 60 "$PROBE/v1/metrics" | sed -n "s/^$1 //p"; }
descriptors() { find "/proc/$PID/fd" -mindepth 1 | wc -l; }
threads() { find "/proc/$PID/task" -mindepth 1 -maxdepth 1 | wc -l; }
memory() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$PID/status"; }
sum() { cat load.* | grep -Eo "\"$1\":[0-9]+" | awk -F: '{ n += $2 } END { printf "%d\n", n }'; }

# Four kinds of load, one run after the other until the file `enough` is there.
load() { # KIND CLIENTS
	while [ ! -e enough ]; do
		"$TOOLS/kesload" -addr "$ADDRESS" -ca server.crt -cert client.crt -key client.key -name soak -c "$2" -d 3s -warm 0s -conn "$1" >>"load.$1" 2>&1 ||
			echo '"errors":1 kesload failed' >>"load.$1"
	done
}
begin() {
	LOADS=
	rm -f enough
	# One client is enough where each request needs a port of its own.
	for kind in "keepalive 2" "h2 2" "handshake 1" "resume 1"; do
		# shellcheck disable=SC2086 # words
		load $kind &
		LOADS="$LOADS $!"
	done
}
end() {
	: >enough
	# shellcheck disable=SC2086 # words
	wait $LOADS
}
# reload COUNT: that many, each after the one before is complete.
reload() {
	local i j
	for i in $(seq "$1"); do
		[ $((i % 2)) -eq 0 ] && cp one.yml config.yml || cp two.yml config.yml
		kill -HUP "$PID"
		for j in $(seq 3000); do [ "$(grep -c 'after SIGHUP signal completed' kes.out)" -ge $((DONE + i)) ] && break; sleep 0.02; done
		sleep "$EVERY"
	done
	DONE=$((DONE + $1))
}
# settle: the last clients are gone.
settle() {
	local i
	for i in $(seq 600); do [ "$(value kes_connections_open)" = 1 ] && break; sleep 0.1; done
}

# round COUNT: that many reloads under load, then quiet.
round() {
	begin
	reload "$1"
	end
	settle
}

DONE=0
round 120
state="$(descriptors) descriptors, $(threads) threads" small=$(memory)
since=$(date +%s)
round "$RELOADS"
took=$(($(date +%s) - since)) big=$(memory)
requests=$(sum requests) failed=$(sum errors)
echo "        $RELOADS reloads in $took s; $requests requests in all, $failed failed; $small kB before, $big kB after"
if [ "$big" -gt $((small + small / 20)) ]; then
	# What has only not been touched before is touched once; what leaks grows again.
	echo "        grown by more than five per cent: once more"
	small=$big
	round "$RELOADS"
	big=$(memory) failed=$(sum errors)
	echo "        $small kB before, $big kB after"
fi
now="$(descriptors) descriptors, $(threads) threads"
[ "$(value kes_reloads_total)" = "$DONE" ] && ok "every reload was done" || bad "every reload was done" "$(value kes_reloads_total)"
[ "$(value kes_reload_failures_total)" = 0 ] && ok "no reload failed" || bad "no reload failed" "$(tail -3 kes.err)"
[ "$requests" -gt "$RELOADS" ] && ok "there was load" || bad "there was load" "$(tail -2 load.*)"
[ "$failed" -eq 0 ] && ok "no request failed" || bad "no request failed" "$(grep -h first_error load.* | head -5)"
for kind in keepalive h2 handshake resume; do
	grep -q '"requests":[1-9]' load.$kind && ok "load of the kind $kind" || bad "load of the kind $kind" "$(tail -2 load.$kind)"
done
[ "$state" = "$now" ] && ok "as many descriptors and threads as before: $now" || bad "as many descriptors and threads as before" "$state, then $now: $(ls -l "/proc/$PID/fd")"
[ "$big" -le $((small + small / 20)) ] && ok "memory within five per cent" || bad "memory within five per cent" "$small kB, then $big kB"
finish
