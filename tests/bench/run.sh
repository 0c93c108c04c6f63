#!/usr/bin/env bash
# Server CPU per request of kes, beside nginx answering a static 250 bytes over the same TLS settings and key pair, in
# interleaved rounds of one run; medians. Ends with an error if a limit is missed. ROUNDS and SECONDS_EACH may be set.
. "$(dirname "$0")/../common.sh"
ROUNDS=${ROUNDS:-3} EACH=${SECONDS_EACH:-4}
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
done
median() { # FIELD LABEL
	grep -Eo "\"$1\":[0-9.]+" "$2.json" | cut -d: -f2 | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
cpu() { median server_cpu_us_per_request "$1"; }
check() { # TEXT VALUE LIMIT
	awk -v v="$2" -v l="$3" 'BEGIN { exit !(v <= l) }' && ok "$1: $2 (at most $3)" || bad "$1: $2 (at most $3)"
}
printf '\n%-34s %10s %10s %8s %10s\n' 'server CPU, us per request' kes nginx ratio 'kes p99 us'
NK=$(cpu nginx-keepalive)
for mode in keepalive h2 handshake resume; do
	case $mode in h2) n=$NK ;; *) n=$(cpu nginx-$mode) ;; esac
	printf '%-34s %10.2f %10.2f %8s %10s\n' "$mode" "$(cpu kes-$mode)" "$n" "$(ratio "$(cpu kes-$mode)" "$n")" "$(median p99_us kes-$mode)"
done
RSS=$(grep -Eo '"server_rss_kb":[0-9]+' kes-*.json | cut -d: -f3 | sort -g | tail -1)
echo "h2 is compared with nginx's HTTP/1.1. kes: at most $RSS kB resident under load${MLOCK:+ with $MLOCK}; nginx: $(median server_rss_kb nginx-keepalive) kB."
check "generate over HTTP/1.1, of nginx's static reply" "$(ratio "$(cpu kes-keepalive)" "$NK")" 1.10
check "new connection, of nginx's" "$(ratio "$(cpu kes-handshake)" "$(cpu nginx-handshake)")" 0.30
check "resident memory under load, kB" "$RSS" 30720
finish
