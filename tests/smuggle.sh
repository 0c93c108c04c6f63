#!/usr/bin/env bash
# Requests that two readers could take for different ones, sent to the server and through a real nginx and haproxy, which
# refuse the path in them: it must never reach the server. Skips what is not installed, and says so.
. "$(dirname "$0")/common.sh"
export PATH=$PATH:/usr/sbin
command -v python3 >/dev/null || { ok "skipped: python3 is not installed"; finish; }
identities
config "keys: [ { name: mine } ]"
start
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# rows NAME HOST:PORT [CA CERT KEY]
rows() {
	python3 "$ROOT/tests/hostile/smuggle.py" "$@" >rows.out 2>&1 || bad "$1: the rows are sent" "$(tail -5 rows.out)"
	[ "$(wc -l <rows.out)" -ge 80 ] && ok "$1: $(wc -l <rows.out) rows are sent" || bad "$1: the rows are sent" "$(tail -5 rows.out)"
	grep -q smuggled kes.out && bad "$1: no request came through" "$(grep smuggled kes.out | head -5)" || ok "$1: no request came through"
	alive "$PID" && ! grep -qi panic kes.err && ok "$1: the server lives" || bad "$1: the server lives" "$(tail -5 kes.err)"
}
# through NAME: the rows through the proxy at $FRONT
through() {
	local i
	for i in $(seq 100); do curl -s -o /dev/null "http://$FRONT/version" && break; sleep 0.1; done
	curl -s -X PUT "http://$FRONT/v1/key/generate/mine" | grep -q plaintext && ok "$1: it passes requests on" || bad "$1: it passes requests on"
	curl -s -o /dev/null -w '%{http_code}' -X PUT "http://$FRONT/v1/key/create/smuggled" | grep -q 403 && ok "$1: it refuses the path" || bad "$1: it refuses the path"
	rows "$1" "$FRONT"
	curl -s -X PUT "http://$FRONT/v1/key/generate/mine" | grep -q plaintext && ok "$1: it still passes requests on" || bad "$1: it still passes requests on"
}

rows direct "$ADDRESS" server.crt client.crt client.key
bad_codes=$(grep -E ': a (length (before|after)|short length beside) a coding|: lengths of|: a length of' rows.out | grep -vE ': \[(400|501|505)?\]$')
[ -z "$bad_codes" ] && ok "direct: what is ambiguous is refused, and nothing after it is read" || bad "direct: what is ambiguous is refused, and nothing after it is read" "$bad_codes"

if command -v nginx >/dev/null; then
	for buffering in on off; do
		FRONT=127.0.0.1:$(free)
		cat >nginx.conf <<CONF
daemon off; pid nginx.pid; error_log nginx.err warn;
events {}
http {
	access_log off;
	client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
	upstream kes { server $ADDRESS; keepalive 8; }
	server {
		listen $FRONT;
		location ~ smuggled { return 403; }
		location / {
			proxy_pass https://kes;
			proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_request_buffering $buffering;
			proxy_ssl_certificate client.crt; proxy_ssl_certificate_key client.key; proxy_ssl_verify off;
		}
	}
}
CONF
		nginx -p "$T" -c nginx.conf 2>nginx.out &
		FRONTEND=$!
		PIDS="$PIDS $FRONTEND"
		through "nginx, buffering $buffering"
		stop "$FRONTEND"
	done
else
	echo "        skipped: nginx is not installed"
fi

if command -v haproxy >/dev/null; then
	cat client.crt client.key >client.pem
	for protocol in http/1.1 h2; do
		FRONT=127.0.0.1:$(free)
		cat >haproxy.cfg <<CONF
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	http-reuse always
frontend front
	bind $FRONT
	http-request deny deny_status 403 if { path_sub smuggled }
	default_backend kes
backend kes
	server kes $ADDRESS ssl crt client.pem ca-file server.crt verify required alpn $protocol
CONF
		haproxy -f haproxy.cfg >haproxy.out 2>&1 &
		FRONTEND=$!
		PIDS="$PIDS $FRONTEND"
		through "haproxy, $protocol"
		stop "$FRONTEND"
	done
else
	echo "        skipped: haproxy is not installed"
fi
# That the log would have shown it.
curl -s -o /dev/null --cacert server.crt --cert client.crt --key client.key -X PUT "https://$ADDRESS/v1/key/create/smuggled"
for i in $(seq 100); do grep -q smuggled kes.out && break; sleep 0.1; done
grep -q smuggled kes.out && ok "a request that comes through is seen" || bad "a request that comes through is seen" "$(tail -3 kes.out)"
finish
