#!/usr/bin/env bash
# 64 clients put and get small objects through MinIO into an encrypted bucket: no errors, and MinIO keeps everything on
# one or two HTTP/2 connections to the key server.
. "$(dirname "$0")/common.sh"
export HOME=$T
for v in $(compgen -e); do case $v in MINIO_* | MC_*) unset "$v" ;; esac; done
identities
config "keys: [ { name: minio-load } ]"
start
free_port() { local p; while :; do p=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo $p; return; }; done; }
MP=$(free_port)
(
	export MINIO_KMS_KES_ENDPOINT=https://$ADDRESS MINIO_KMS_KES_KEY_NAME=minio-load MINIO_KMS_KES_CAPATH=server.crt
	export MINIO_KMS_KES_CERT_FILE=client.crt MINIO_KMS_KES_KEY_FILE=client.key
	export MINIO_ROOT_USER=minio MINIO_ROOT_PASSWORD=minio123
	exec "$TOOLS/minio" server ./data --address "127.0.0.1:$MP" --console-address 127.0.0.1:0 >minio.log 2>&1 </dev/null
) &
MINIO=$!
PIDS="$PIDS $MINIO"
for i in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$MP") 2>/dev/null && break; alive $MINIO || break; sleep 0.2; done
alive $MINIO && ok "MinIO starts" || { bad "MinIO starts" "$(tail -5 minio.log)"; finish; }

# Established connections to the server's port, as the kernel counts them.
port=$(printf '%04X' "${ADDRESS#*:}")
connections() { awk -v p=":$port" '$4 == "01" && $3 ~ p "$" { n++ } END { print n + 0 }' /proc/net/tcp; }
MOST=0
"$TOOLS/s3load" -addr "127.0.0.1:$MP" -key minio-load -c 64 -d 5s >s3load.out 2>&1 &
LOAD=$!
while alive $LOAD; do n=$(connections); [ "$n" -gt "$MOST" ] && MOST=$n; sleep 0.1; done
wait $LOAD && ok "s3load -c 64 ends without errors" || bad "s3load -c 64 ends without errors" "$(cat s3load.out)"
sed 's/^/        /' s3load.out
grep -Eq '"errors":[1-9]' s3load.out && bad "no operation failed" "$(cat s3load.out)" || ok "no operation failed"
[ "$MOST" -ge 1 ] && [ "$MOST" -le 2 ] && ok "MinIO uses $MOST connection(s)" || bad "MinIO uses one or two connections" "$MOST"
finish
