#!/usr/bin/env bash
# The way of an operator from the original to the sealed store and back: MinIO writes objects under keys in plain files
# that the original made, the store is sealed where it is, the objects still decrypt, and so they do after the way back.
. "$(dirname "$0")/common.sh"
export HOME=$T MC_CONFIG_DIR=$T/mc
for v in $(compgen -e); do case $v in MINIO_* | KES_API_KEY | KES_SERVER | KES_CONFIG) unset "$v" ;; esac; done
mc() { timeout -k 2 120 "$TOOLS/mc" "$@"; }
kes() { timeout -k 2 120 "$KES_BIN" "$@"; }
TAKEN=
free_port() { local p; while :; do p=$((20000 + RANDOM % 12000)); case " $TAKEN " in *" $p "*) continue ;; esac; (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo $p; return; }; done; }
KP=$(free_port) TAKEN=$KP MP=$(free_port)

# stored NAME: the content of a key's file as the original wrote it
stored() { awk -v name="$1" -F'"' '$2 == "name" { is = $4 == name } is && $2 == "stored" { gsub(/\\"/, "\""); sub(/^ *"stored": "/, ""); sub(/",?$/, ""); printf "%s", $0 }' "$ROOT/tests/vectors/keys.json"; }
mkdir keys original in out mc
stored aes >original/minio-aes
stored chacha >original/minio-chacha
cp original/* keys/
[ "$(wc -c <keys/minio-aes)" -gt 100 ] && [ "$(wc -c <keys/minio-chacha)" -gt 100 ] || { bad "the vectors are read" "$(ls -l keys)"; finish; }

identities
config
start --addr "127.0.0.1:$KP"
grep -q 'not sealed' kes.out && ok "a store of the original is served as it is" || bad "a store of the original is served as it is" "$(cat kes.out)"

MINIO=
start_minio() {
	local i
	(
		export MINIO_KMS_KES_ENDPOINT=https://127.0.0.1:$KP MINIO_KMS_KES_KEY_NAME=minio-aes MINIO_KMS_KES_CAPATH=server.crt
		export MINIO_KMS_KES_CERT_FILE=client.crt MINIO_KMS_KES_KEY_FILE=client.key
		export MINIO_ROOT_USER=minio MINIO_ROOT_PASSWORD=minio123
		exec "$TOOLS/minio" server ./data --address "127.0.0.1:$MP" --console-address 127.0.0.1:0 >>minio.log 2>&1 </dev/null
	) &
	MINIO=$!
	PIDS="$PIDS $MINIO"
	for i in $(seq 120); do mc ls demo >/dev/null 2>&1 && return 0; alive $MINIO || break; sleep 0.5; done
	bad "MinIO starts" "$(tail -5 minio.log)"
	finish
}
printf '{"version":"10","aliases":{"demo":{"url":"http://127.0.0.1:%s","accessKey":"minio","secretKey":"minio123","api":"S3v4","path":"auto"}}}\n' "$MP" >mc/config.json
start_minio
# put KEY OBJECT: into the bucket of that key
put() { mc cp "in/$2" "demo/$1/$2" >mc.out 2>&1 && ok "an object is written under $1: $2" || bad "an object is written under $1: $2" "$(cat mc.out)"; }
# decrypts WHEN OBJECT...: each comes back from both buckets
decrypts() {
	local when=$1 key object
	shift
	for key in minio-aes minio-chacha; do
		for object; do
			rm -f out/object
			mc cp "demo/$key/$object" out/object >mc.out 2>&1 && cmp -s "in/$object" out/object &&
				ok "$when: $key/$object decrypts" || bad "$when: $key/$object decrypts" "$(cat mc.out; tail -3 kes.err)"
		done
	done
}
head -c 100000 /dev/urandom >in/before
head -c 100000 /dev/urandom >in/after
for key in minio-aes minio-chacha; do
	mc mb "demo/$key" >mc.out 2>&1 && mc encrypt set sse-kms "$key" "demo/$key" >>mc.out 2>&1 || bad "a bucket for $key" "$(cat mc.out)"
	put $key before
done
decrypts "plain" before

# Sealed where it is, beside the running server.
kes seal adopt --config config.yml >adopt.out 2>&1 && ok "the store is adopted" || { bad "the store is adopted" "$(cat adopt.out)"; finish; }
for key in minio-aes minio-chacha; do
	head -c 14 keys/$key | grep -qx 'kes-sealed v1 ' && ok "$key is sealed" || bad "$key is sealed" "$(head -c 40 keys/$key)"
done
kes seal verify --config config.yml >verify.out 2>&1 && ok "every key opens" || bad "every key opens" "$(cat verify.out)"
decrypts "just sealed" before
stop "$PID"
start --addr "127.0.0.1:$KP"
# Nothing that MinIO may have kept helps it.
stop $MINIO
start_minio
decrypts "sealed" before
for key in minio-aes minio-chacha; do put $key after; done
mc admin kms key create demo minio-new >mc.out 2>&1 && ok "a key is created" || bad "a key is created" "$(cat mc.out)"

# The way back.
stop "$PID"
kes seal export --config config.yml --yes minio-aes >exported 2>exported.err
cmp -s exported original/minio-aes && ok "an exported key is what the original wrote" || bad "an exported key is what the original wrote" "$(cat exported.err)"
sed 's/path: .*/path: .\/plain, seal: off } }/' config.yml >plain.yml
kes migrate --from config.yml --to plain.yml >migrate.out 2>&1 && grep -q 'Migrated      3 keys' migrate.out &&
	ok "the keys go back into plain files" || bad "the keys go back into plain files" "$(cat migrate.out)"
for key in minio-aes minio-chacha; do
	cmp -s plain/$key original/$key && ok "$key is byte for byte what it was" || bad "$key is byte for byte what it was"
done
mv plain.yml config.yml
start --addr "127.0.0.1:$KP"
decrypts "plain again" before after
finish
