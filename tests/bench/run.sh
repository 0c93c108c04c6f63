#!/usr/bin/env bash
# What the server costs, each beside a yardstick in the same run: CPU per request beside nginx answering a static 250 bytes
# over the same TLS settings and key pair, in interleaved rounds; a durable key beside the bare system calls for a durable
# file; a listing beside ls. Medians. Ends with an error if a limit is missed. ROUNDS, SECONDS_EACH, MANY (keys in the big
# store) and IDLE (connections) may be set.
. "$(dirname "$0")/../common.sh"
ROUNDS=${ROUNDS:-5} EACH=${SECONDS_EACH:-5} MANY=${MANY:-1000000} IDLE=${IDLE:-10000}
ulimit -Sn "$(ulimit -Hn)"
NGINX=$(PATH=$PATH:/usr/sbin command -v nginx) || { echo "nginx is not installed (apt-get install nginx as root): nothing to compare with"; FAIL=1; finish; }
identities
config "log: { audit: on }"
MLOCK=--mlock
[ "$(id -u)" -eq 0 ] || [ "$(ulimit -l)" = unlimited ] || { MLOCK=; echo "no right to lock memory: the figures of memory are without --mlock"; }
start $MLOCK
KES_PID=$PID

free_port() { local p; while :; do p=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo $p; return; }; done; }
NP=$(free_port)
mkdir nginx
cat >nginx.conf <<CONF
daemon off; pid $T/nginx/pid; worker_processes 2; worker_rlimit_nofile 8192; error_log $T/nginx/error.log;
events { worker_connections 4096; }
http {
	access_log off; keepalive_requests 100000000;
	client_body_temp_path $T/nginx/b; proxy_temp_path $T/nginx/p; fastcgi_temp_path $T/nginx/f; uwsgi_temp_path $T/nginx/u; scgi_temp_path $T/nginx/s;
	server {
		listen 127.0.0.1:$NP ssl backlog=4096;
		ssl_certificate $T/server.crt; ssl_certificate_key $T/server.key;
		ssl_protocols TLSv1.3; ssl_verify_client optional_no_ca; ssl_session_tickets on;
		default_type application/json;
		location / { return 200 '$(printf 'x%.0s' $(seq 250))'; }
	}
}
CONF
"$NGINX" -p "$T/nginx/" -c "$T/nginx.conf" -e "$T/nginx/error.log" 2>nginx.err &
NGINX_PID=$!
PIDS="$PIDS $NGINX_PID"
for _ in $(seq 50); do (exec 3<>"/dev/tcp/127.0.0.1/$NP") 2>/dev/null && break; sleep 0.1; done
WORKERS=$(pgrep -P $NGINX_PID | paste -sd,)
[ -n "$WORKERS" ] || { bad "nginx starts" "$(cat nginx.err nginx/error.log)"; finish; }

run() { # LABEL OPTIONS...: one round, its JSON is added to LABEL.json
	local label=$1
	shift
	"$TOOLS/kesload" -ca server.crt -cert client.crt -key client.key -c 32 -d "${EACH}s" "$@" >>"$label.json" || bad "$label" "$(tail -1 "$label.json")"
}
for round in $(seq "$ROUNDS"); do
	echo "round $round of $ROUNDS"
	run kes-keepalive -addr "$ADDRESS" -pid $KES_PID -conn keepalive
	run nginx-keepalive -addr 127.0.0.1:$NP -pid "$WORKERS" -op get -conn keepalive
	run kes-h2 -addr "$ADDRESS" -pid $KES_PID -conn h2
	run kes-handshake -addr "$ADDRESS" -pid $KES_PID -conn handshake
	run nginx-handshake -addr 127.0.0.1:$NP -pid "$WORKERS" -op get -conn handshake
	run kes-resume -addr "$ADDRESS" -pid $KES_PID -conn resume
	run nginx-resume -addr 127.0.0.1:$NP -pid "$WORKERS" -op get -conn resume
	"$TOOLS/kesload" -ca server.crt -cert client.crt -key client.key -c 1 -d 2s -warm 200ms -addr "$ADDRESS" -op create -name "bench-$round-" >>create.json || bad "create" "$(tail -1 create.json)"
	mkdir -p bare
	"$TOOLS/kesload" -op fsync -dir bare -c 1 -d 2s >>fsync.json || bad "the bare sequence of calls" "$(tail -1 fsync.json)"
done
RSS=$(awk '/^VmRSS:/ { print $2 }' /proc/$KES_PID/status)
"$TOOLS/kesload" -ca server.crt -cert client.crt -key client.key -c 1 -d 1s -addr "$ADDRESS" -pid $KES_PID -idle "$IDLE" >idle.json || bad "idle connections" "$(cat idle.json)"
stop $KES_PID

# A store of many keys: names of copies of one key file, which a start does not read and a listing does not open.
echo "making a store of $MANY keys"
START_PORT=$(free_port)
KEY=$(find keys -type f | head -1)
fresh() { # COUNT: a key directory with that many keys
	rm -rf many many.seal && mkdir -m 700 many && cp keys.seal many.seal && "$TOOLS/kesload" -op fill -dir many -path "$KEY" -n "$1"
}
sed -i "s|path: ./keys|path: ./many|" config.yml
fresh 100000 || bad "a store of 100,000 keys"
for _ in 1 2 3 4 5; do
	"$TOOLS/kesload" -ca server.crt -cert client.crt -key client.key -addr "127.0.0.1:$START_PORT" -path /v1/status "$KES_BIN" server --config config.yml --addr "127.0.0.1:$START_PORT" >>start.json || bad "start with 100,000 keys" "$(tail -1 start.json)"
done
fresh "$MANY" || bad "a store of $MANY keys"
start --addr "127.0.0.1:$START_PORT"
for _ in 1 2 3 4 5; do
	curl -sS -o list.out -w '{"list_us":%{time_total}}\n' --cacert server.crt --cert client.crt --key client.key "https://127.0.0.1:$START_PORT/v1/key/list/many-00000*" | awk -F'[:}]' '{ printf "{\"list_us\":%d}\n", $2 * 1e6 }' >>list.json
	begin=$(date +%s%N)
	ls -fU many >ls.out
	echo "{\"ls_us\":$((($(date +%s%N) - begin) / 1000))}" >>ls.json
done
[ "$(grep -o 'many-' list.out | wc -l)" -gt 0 ] || bad "the listing has names" "$(head -c 300 list.out)"
stop "$PID"
rm -rf many

median() { # FIELD LABEL
	grep -Eo "\"$1\":[0-9.]+" "$2.json" | cut -d: -f2 | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
cpu() { median server_cpu_us_per_request "$1"; }
row() { # TEXT VALUE YARDSTICK LIMIT UNIT: their ratio and the limit
	local r
	r=$(ratio "$2" "$3")
	printf '%-44s %10.1f %10.1f %s  ratio %s\n' "$1" "$2" "$3" "$5" "$r" >>table
	check "$1" "$r" "$4"
}
check() { # TEXT VALUE LIMIT
	awk -v v="$2" -v l="$3" 'BEGIN { exit !(v <= l) }' && ok "$1: $2 (at most $3)" || bad "$1: $2 (at most $3)"
}
NK=$(cpu nginx-keepalive)
row "generate, kept HTTP/1.1; nginx, static" "$(cpu kes-keepalive)" "$NK" 0.95 "us CPU"
row "generate, HTTP/2; nginx HTTP/1.1, static" "$(cpu kes-h2)" "$NK" 1.15 "us CPU"
row "new connection, full handshake; nginx" "$(cpu kes-handshake)" "$(cpu nginx-handshake)" 0.22 "us CPU"
row "new connection, resumed; nginx" "$(cpu kes-resume)" "$(cpu nginx-resume)" 0.28 "us CPU"
row "create, durable and sealed; the bare calls" "$(median p50_us create)" "$(median p50_us fsync)" 1.5 "us    "
row "list a prefix in $MANY keys; ls -fU" "$(median list_us list)" "$(median ls_us ls)" 1.3 "us    "
check "resident memory${MLOCK:+ with $MLOCK} after all loads, kB" "$RSS" 16384
check "memory for each of $(field company "$(cat idle.json)") idle connections, bytes" "$(median server_bytes_per_idle_connection idle)" 12288
check "start to first answer, 100,000 keys, us" "$(median first_answer_us start)" 50000
printf '\n%-44s %10s %10s\n' '' kes yardstick
cat table
for mode in keepalive h2 handshake resume; do echo "p99 of $mode: $(median p99_us kes-$mode) us"; done
echo "resident at the start with 100,000 keys: $(median server_rss_kb start) kB; nginx: $(median server_rss_kb nginx-keepalive) kB"
finish
