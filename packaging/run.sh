#!/bin/sh
# run.sh KES DIR ADDRESS: starts KES in DIR. On the first run it makes there the key pairs of the server and of MinIO, a
# configuration and, by the server itself, a sealed key store; later runs use what the first one made.
set -eu
kes=$1 dir=$2 addr=$3
umask 077
mkdir -p "$dir"
cd "$dir"
host=${addr%:*}
case $host in '' | 0.0.0.0 | localhost) host=127.0.0.1 ;; esac
if [ ! -e private.key ] || [ ! -e public.crt ]; then
	echo "== making the server's key pair: $dir/private.key, $dir/public.crt"
	"$kes" identity new --key private.key --cert public.crt --ip "$host" --ip 127.0.0.1 --dns localhost --expiry 8760h --force localhost
fi
if [ ! -e client.key ] || [ ! -e client.crt ]; then
	echo "== making MinIO's key pair: $dir/client.key, $dir/client.crt"
	"$kes" identity new --key client.key --cert client.crt --expiry 8760h --force MinIO
fi
if [ ! -e config.yml ]; then
	echo "== writing $dir/config.yml"
	identity=$("$kes" identity of client.crt | grep -Eo '[0-9a-f]{64}')
	cat >config.yml.new <<YML
version: v1
address: 127.0.0.1:7373

admin:
  identity: disabled

tls:
  key: private.key
  cert: public.crt

policy:
  minio:
    allow:
    - /v1/key/create/*
    - /v1/key/generate/*
    - /v1/key/decrypt/*
    - /v1/key/describe/*
    - /v1/key/list/*
    - /v1/key/hmac/*
    - /v1/status
    - /v1/api
    identities:
    - $identity # client.crt

keystore:
  fs:
    path: ./keys # sealed under the root key in ./keys.seal
YML
	mv config.yml.new config.yml
fi
port=${addr##*:}
cat <<TEXT

To point MinIO at this server, paste into the shell that starts MinIO:

export MINIO_KMS_KES_ENDPOINT=https://$host:$port
export MINIO_KMS_KES_CERT_FILE=$dir/client.crt
export MINIO_KMS_KES_KEY_FILE=$dir/client.key
export MINIO_KMS_KES_CAPATH=$dir/public.crt
export MINIO_KMS_KES_KEY_NAME=minio-default-key

TEXT
exec "$kes" server --config config.yml --addr "$addr"
