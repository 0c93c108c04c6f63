#!/usr/bin/env bash
# The TLS proxy feature behind a real nginx and a real haproxy: whose request it is, where it comes from, and who is
# believed. Skips what is not installed, and says so.
. "$(dirname "$0")/common.sh"
export PATH=$PATH:/usr/sbin
identities
for name in proxy stranger; do
	"$KES_BIN" identity new --key $name.key --cert $name.crt $name >/dev/null || bad "identity of $name"
done
PROXY=$("$KES_BIN" identity of proxy.crt | grep -Eo '[0-9a-f]{64}')
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout front.key -out front.crt -days 2 -subj /CN=front \
	-addext subjectAltName=IP:127.0.0.1 2>/dev/null
cat front.crt front.key >front.pem
cat proxy.crt proxy.key >proxy.pem

# free: a port that nobody listens at
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# serve HEADER TLS-MORE: the server, which trusts the proxy to forward certificates in HEADER
serve() {
	config
	sed -i "s|^tls:.*|tls: { key: server.key, cert: server.crt, proxy: { identities: [$PROXY], header: { cert: $1 } }$2 }|" config.yml
	start
}
# ask NAME URL OPTIONS...: status and body of a request as NAME (or nobody: -)
ask() {
	local name=$1 url=$2 who=()
	shift 2
	[ "$name" = - ] || who=(--cert "$name.crt" --key "$name.key")
	curl -s -m 60 --cacert front.crt --cacert "$CA" "${who[@]}" -w '%{http_code}' "$@" "$url" | tr -d '\n'
}
# is TEXT EXPECTED GOT
is() { [ "$3" = "$2" ] && ok "$1" || bad "$1" "expected $2, got $3"; }
missing='{"message":"no client certificate is present"}400'
refused='{"message":"not authorized: insufficient permissions"}403'

# rows NAME: what must be so behind any proxy at $FRONT
rows() {
	CA=front.crt
	is "$1: a forwarded client creates a key" 200 "$(ask client "https://$FRONT/v1/key/create/by-$1" -X PUT -H 'X-Forwarded-For: 192.0.2.7')"
	line=$(grep "/v1/key/create/by-$1 " kes.out)
	grep -q "req.ip=192.0.2.7 req.identity=$ID res.code=200" <<<"$line" && ok "$1: the audit line names the client and its address" ||
		bad "$1: the audit line names the client and its address" "$line"
	curl -s --cacert front.crt --cert client.crt --key client.key "https://$FRONT/v1/key/describe/by-$1" | grep -q "\"created_by\":\"$ID\"" &&
		ok "$1: the key is the client's" || bad "$1: the key is the client's"
	is "$1: an unknown client is refused" "$refused" "$(ask stranger "https://$FRONT/v1/status")"
	is "$1: no client certificate" "$missing" "$(ask - "https://$FRONT/v1/status")"
	grep -q '^{"version"' <<<"$(ask - "https://$FRONT/version")" && ok "$1: /version needs none" || bad "$1: /version needs none"
	forged=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(open("client.crt").read()))')
	is "$1: a client's own header does not pass the proxy" "$refused" "$(ask stranger "https://$FRONT/v1/status" -H "$HEADER: $forged")"
}

# direct: the same header from those who are no proxy, and oddities of one that is
direct() {
	CA=server.crt
	local url=https://$ADDRESS forged proxied
	forged=$(python3 -c 'import urllib.parse; print(urllib.parse.quote(open("client.crt").read()))')
	is "a stranger's forged header is not looked at" "$refused" "$(ask stranger "$url/v1/status" -H "$HEADER: $forged")"
	is "nor is a client's, who stays himself" 200 "$(ask client "$url/v1/key/create/himself" -X PUT -H "$HEADER: $(python3 -c 'import urllib.parse; print(urllib.parse.quote(open("stranger.crt").read()))')" -H 'X-Forwarded-For: 192.0.2.9')"
	grep "create/himself " kes.out | grep -q "req.ip=127.0.0.1 req.identity=$ID" && ok "under his own address" || bad "under his own address" "$(grep himself kes.out)"
	is "a proxy without the header" "$missing" "$(ask proxy "$url/v1/status")"
	is "a proxy with an empty header" "$missing" "$(ask proxy "$url/v1/status" -H "$HEADER;")"
	is "a proxy with two" '{"message":"too many client certificates are present"}400' "$(ask proxy "$url/v1/status" -H "$HEADER: $forged" -H "$HEADER: $forged")"
	is "a proxy with nonsense" '{"message":"invalid client certificate"}400' "$(ask proxy "$url/v1/status" -H "$HEADER: nonsense")"
	for proxied in "$forged" "$(grep -v CERT client.crt | tr -d '\n')" ":$(grep -v CERT client.crt | tr -d '\n'):" "$(paste -sd' ' client.crt)"; do
		is "a certificate in the form ${proxied:0:20}..." 200 "$(ask proxy "$url/v1/ready" -H "$HEADER: $proxied")"
		is "the same over HTTP/1.1" 200 "$(ask proxy "$url/v1/ready" --http1.1 -H "$HEADER: $proxied")"
	done
}

HEADER=X-Tls-Client-Cert
serve "$HEADER" ""
grep -q 'Proxies  *1 trusted, by X-Tls-Client-Cert' kes.out && ok "the banner names the proxies" || bad "the banner names the proxies" "$(cat kes.out)"
direct

if command -v nginx >/dev/null 2>&1; then
	FRONT=127.0.0.1:$(free)
	cat >nginx.conf <<CONF
daemon off; pid nginx.pid; error_log nginx.err warn;
events {}
http {
	access_log off;
	client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
	upstream kes { server $ADDRESS; keepalive 8; }
	server {
		listen $FRONT ssl;
		ssl_certificate front.crt; ssl_certificate_key front.key;
		ssl_verify_client optional_no_ca;
		location / {
			proxy_pass https://kes;
			proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_ssl_certificate proxy.crt; proxy_ssl_certificate_key proxy.key;
			proxy_ssl_verify off; # nginx cannot verify a certificate for an address
			proxy_ssl_protocols TLSv1.3;
			proxy_set_header X-Tls-Client-Cert \$ssl_client_escaped_cert;
			proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
		}
	}
}
CONF
	nginx -p "$T" -c nginx.conf 2>nginx.out &
	NGINX=$!
	PIDS="$PIDS $NGINX"
	for i in $(seq 600); do curl -s -o /dev/null --cacert front.crt "https://$FRONT/version" && break; sleep 0.1; done
	rows nginx
	stop "$NGINX"
else
	echo "skipped: nginx is not installed"
fi

if command -v haproxy >/dev/null 2>&1; then
	for form in '%[ssl_c_der,base64]' ':%[ssl_c_der,base64]:'; do
		FRONT=127.0.0.1:$(free)
		cat >haproxy.cfg <<CONF
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
frontend front
	bind $FRONT ssl crt front.pem verify optional ca-file server.crt crt-ignore-err all ca-ignore-err all alpn h2,http/1.1
	http-request del-header $HEADER
	http-request set-header $HEADER $form if { ssl_c_used }
	http-request set-header X-Forwarded-For "%[req.hdr(X-Forwarded-For)], %[src]" if { req.hdr(X-Forwarded-For) -m found }
	default_backend kes
backend kes
	server kes $ADDRESS ssl crt proxy.pem ca-file server.crt verify required alpn h2,http/1.1
CONF
		haproxy -f haproxy.cfg >haproxy.out 2>&1 &
		HAPROXY=$!
		PIDS="$PIDS $HAPROXY"
		for i in $(seq 600); do curl -s -o /dev/null --cacert front.crt "https://$FRONT/version" && break; sleep 0.1; done
		name=haproxy
		[ "${form:0:1}" = : ] && name=haproxy-rfc9440
		rows $name
		stop "$HAPROXY"
	done
else
	echo "skipped: haproxy is not installed"
fi
stop "$PID"

echo "-- with tls.auth on, what is forwarded must chain"
openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 30 -addext basicConstraints=critical,CA:TRUE 2>/dev/null
openssl req -new -key client.key -subj /CN=client -out client.csr 2>/dev/null
printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n' >leaf.ext
openssl x509 -req -in client.csr -extfile leaf.ext -out signed.crt -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 2>/dev/null
mkdir roots && cp ca.crt proxy.crt roots
serve Client-Cert ", auth: on, ca: roots"
CA=server.crt
der() { printf ':%s:' "$(openssl x509 -in "$1" -outform DER | base64 -w0)"; }
is "a certificate of the CA" 200 "$(ask proxy "https://$ADDRESS/v1/ready" -H "Client-Cert: $(der signed.crt)")"
is "the same key in a certificate of nobody" "$refused" "$(ask proxy "https://$ADDRESS/v1/ready" -H "Client-Cert: $(der client.crt)")"
is "the proxy's own certificate" "$refused" "$(ask proxy "https://$ADDRESS/v1/ready" -H "Client-Cert: $(der proxy.crt)")"
is "the CA's own certificate is nobody's" '{"message":"tls: client certificate is required"}400' "$(ask proxy "https://$ADDRESS/v1/ready" -H "Client-Cert: $(der ca.crt)")"
finish
