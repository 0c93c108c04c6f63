#!/usr/bin/env bash
# What a client sees of a handshake that fails, row by row, with openssl as the client: the alert's number, and the line
# in the server's log. Also what is and is not spoken: versions, suites, groups, ALPN.
. "$(dirname "$0")/common.sh"
identities

# certificate NAME EXTENSIONS OPTIONS...: NAME.key and NAME.crt, self-signed or signed by the CA
certificate() {
	local name=$1 extensions=$2
	shift 2
	openssl req -new -newkey ed25519 -nodes -keyout "$name.key" -out "$name.csr" -subj "/CN=$name" 2>/dev/null || return 1
	printf '%s\n' "$extensions" | tr ';' '\n' >"$name.ext"
	openssl x509 -req -in "$name.csr" -extfile "$name.ext" -out "$name.crt" "$@" 2>/dev/null
}
leaf='basicConstraints=critical,CA:FALSE;extendedKeyUsage=clientAuth'
openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 30 \
	-addext basicConstraints=critical,CA:TRUE 2>/dev/null
openssl req -x509 -newkey ed25519 -nodes -keyout otherca.key -out otherca.crt -subj /CN=other -days 30 \
	-addext basicConstraints=critical,CA:TRUE 2>/dev/null
signed=(-CA ca.crt -CAkey ca.key -CAcreateserial)
certificate good "$leaf" "${signed[@]}" -days 30
certificate expired "$leaf" "${signed[@]}" -days -1
certificate usage 'basicConstraints=critical,CA:FALSE;extendedKeyUsage=serverAuth' "${signed[@]}" -days 30
certificate alone "$leaf" -key alone.key -days 30 2>/dev/null || certificate alone "$leaf" -signkey alone.key -days 30
# Not valid before next year: x509 -req cannot say that, ca can.
: >index.txt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nserial=serial\ndefault_md=default\npolicy=p\n[p]\ncommonName=supplied\n' >ca.cnf
echo 77 >serial
openssl req -new -newkey ed25519 -nodes -keyout early.key -out early.csr -subj /CN=early 2>/dev/null
year=$(($(date +%Y) + 1))
openssl ca -batch -notext -config ca.cnf -in early.csr -out early.crt -cert ca.crt -keyfile ca.key \
	-startdate "${year}0101000000Z" -enddate "${year}0201000000Z" -extfile good.ext 2>/dev/null
for name in good expired usage alone early; do
	[ -s "$name.crt" ] || { bad "the certificate $name was made"; finish; }
done

# shake OPTIONS...: one handshake and one request; what openssl says
shake() {
	printf 'GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' |
		timeout 60 openssl s_client -connect "$ADDRESS" -CAfile server.crt -ign_eof -quiet "$@" 2>&1
}
# alert TEXT NUMBER LOG OPTIONS...: the handshake ends with the alert, and the log has the line once more than before
alert() {
	local text=$1 number=$2 line=$3 said before i
	shift 3
	before=$(grep -cF -- "$line" kes.err)
	said=$(shake "$@")
	grep -Eq "SSL alert number $number\$" <<<"$said" && ok "$text: alert $number" || bad "$text: alert $number" "$said"
	[ -n "$line" ] || return 0
	for i in $(seq 300); do [ "$(grep -cF -- "$line" kes.err)" -gt "$before" ] && break; sleep 0.1; done
	[ "$(grep -cF -- "$line" kes.err)" -eq $((before + 1)) ] && ok "$text: one line in the log" ||
		bad "$text: one line in the log" "$line is not in: $(tail -3 kes.err)"
}
# fine TEXT OPTIONS...: the request is answered
fine() {
	local text=$1 said
	shift
	said=$(shake "$@")
	grep -q '^HTTP/1.1 200 OK' <<<"$said" && ok "$text" || bad "$text" "$said"
}
as() { echo -cert "$1.crt" -key "$1.key"; }

echo "-- tls.auth: off"
config
start
none="tls: client didn't provide a certificate"
alert "no certificate, TLS 1.2" 40 "$none" -tls1_2
alert "no certificate, TLS 1.3" 116 "$none" -tls1_3
for name in client good expired usage alone early; do
	# shellcheck disable=SC2046 # words
	for version in -tls1_2 -tls1_3; do fine "unverified: $name, $version" $version $(as $name); done
done
client=$(as client)
# shellcheck disable=SC2086 # words
{
	alert "TLS 1.1" 70 "" -tls1_1 -cipher DEFAULT@SECLEVEL=0 $client
	alert "TLS 1.0" 70 "" -tls1 -cipher DEFAULT@SECLEVEL=0 $client
	alert "only CCM, TLS 1.3" 40 "" -tls1_3 -ciphersuites TLS_AES_128_CCM_SHA256 $client
	alert "only static RSA, TLS 1.2" 40 "" -tls1_2 -cipher AES128-GCM-SHA256 $client
	alert "only an unknown group, TLS 1.3" 40 "" -tls1_3 -groups X448 $client
	alert "only an unknown group, TLS 1.2" 40 "" -tls1_2 -groups X448 $client
	alert "only unknown protocols in ALPN" 120 "" -alpn spdy/3 $client
	for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
		fine "TLS 1.3 $suite" -tls1_3 -ciphersuites $suite $client
	done
	for suite in ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305; do
		fine "TLS 1.2 $suite" -tls1_2 -cipher $suite $client
	done
	for group in X25519 P-256 P-384; do fine "group $group" -groups $group $client; done
	fine "no ALPN is HTTP/1.1" $client
	fine "another server name" -servername elsewhere.example $client
	said=$(openssl s_client -connect "$ADDRESS" -alpn http/1.1,h2 $client </dev/null 2>&1)
	grep -q 'ALPN protocol: h2' <<<"$said" && ok "h2 is preferred" || bad "h2 is preferred" "$said"
}
stop "$PID"

echo "-- tls.auth: on"
sed -i 's/^tls:.*/tls: { key: server.key, cert: server.crt, auth: on, ca: ca.crt }/' config.yml
start
stranger='x509: certificate signed by unknown authority'
outdated='x509: certificate has expired or is not yet valid'
# shellcheck disable=SC2046 # words
for version in -tls1_2 -tls1_3; do
	fine "a certificate of the CA, $version" $version $(as good)
	alert "a stranger's certificate, $version" 48 "$stranger" $version $(as alone)
	alert "a CA that is not in the pool, $version" 48 "$stranger" $version $(as otherca)
	alert "an expired certificate, $version" 45 "$outdated" $version $(as expired)
	alert "a certificate that is not yet valid, $version" 45 "$outdated" $version $(as early)
	alert "a certificate for servers only, $version" 42 'x509: certificate specifies an incompatible key usage' $version $(as usage)
done
alert "no certificate, TLS 1.2" 40 "$none" -tls1_2
alert "no certificate, TLS 1.3" 116 "$none" -tls1_3
# shellcheck disable=SC2046 # words
said=$(openssl s_client -connect "$ADDRESS" $(as good) </dev/null 2>&1)
grep -q '^CN = ca$\|^CN=ca$' <<<"$said" && ok "the CA is named to clients" || bad "the CA is named to clients" "$said"
stop "$PID"

echo "-- optional certificates"
echo 'api: { /v1/ready: { skip_auth: true } }' >>config.yml
start
# shellcheck disable=SC2046 # words
{
	fine "no certificate, TLS 1.2" -tls1_2
	fine "no certificate, TLS 1.3" -tls1_3
	alert "a certificate that is sent is verified" 48 "$stranger" $(as alone)
}
stop "$PID"

echo "-- what is no handshake"
config
start
said=$(curl -s -m 60 -i "http://$ADDRESS/version")
[ "$said" = "$(printf 'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.')" ] &&
	ok "plain HTTP is told so" || bad "plain HTTP is told so" "$said"
exec 9<>"/dev/tcp/${ADDRESS%:*}/${ADDRESS#*:}"
begin=$(date +%s)
timeout 60 cat <&9 >/dev/null
took=$(($(date +%s) - begin))
exec 9<&-
[ "$took" -ge 4 ] && [ "$took" -lt 60 ] && ok "a silent client is closed after five seconds" || bad "a silent client is closed" "$took s"
grep -q 'http: TLS handshake error from 127.0.0.1:[0-9]*: timed out' kes.err && ok "and logged" || bad "and logged" "$(tail -3 kes.err)"
finish
