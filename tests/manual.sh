#!/usr/bin/env bash
# Runs every example of the manual pages and of the README against a real server, and checks every configuration in them.
# Ports are the only thing that is changed. tests/examples.py says how examples are told apart. With arguments, runs only
# those of these pages (kes-key.1 README.md).
. "$(dirname "$0")/common.sh"
for name in $(compgen -e); do
	case $name in MINIO_* | MC_* | KES_[A-Z]*) [ "$name" = KES_BIN ] || unset "$name" ;; esac
done
mkdir bin server
for program in minio mc; do [ -x "$TOOLS/$program" ] && ln -s "$TOOLS/$program" bin/; done
ln -s "$KES_BIN" bin/kes
export PATH=$T/bin:$PATH TERM=dumb
command -v jq >/dev/null || echo "skipped: what needs jq, which is not installed"

# free_port: a port that is free now, and not among those that the system gives to clients
free_port() {
	python3 -c '
import random, socket
while True:
    port = random.randrange(10000, 30000)
    try:
        s = socket.socket(); s.bind(("127.0.0.1", port)); print(port); break
    except OSError:
        pass'
}
# until_seen PATTERN FILE PID: waits until the file has it; fails when the process is gone or after two minutes
until_seen() {
	local i
	for i in $(seq 600); do
		grep -qE "$1" "$2" 2>/dev/null && return 0
		alive "$3" || return 1
		sleep 0.2
	done
	return 1
}

# The server that most pages talk to.
cd server || exit 2
identities
cat >config.yml <<YML
address: 127.0.0.1:0
admin: { identity: $("$KES_BIN" identity new --key admin.key --cert admin.crt admin >/dev/null && "$KES_BIN" identity of admin.crt | grep -Eo '[0-9a-f]{64}') }
tls: { key: server.key, cert: server.crt }
policy:
  my-app: { allow: [ "/v1/*" ], deny: [ "/v1/key/delete/my-key" ], identities: [ $ID ] }
keystore: { fs: { path: ./keys } }
YML
cp server.key private.key
cp server.crt public.crt
start
cd "$T" || exit 2
ask() { curl -s -m 10 -o /dev/null --cacert "$T/server/server.crt" --cert "$T/server/admin.crt" --key "$T/server/admin.key" "$@"; }

# fresh PAGE: the keys that a page finds: one, where it does not make it itself
fresh() {
	local key
	for key in $(curl -s -m 10 --cacert server/server.crt --cert server/admin.crt --key server/admin.key "https://$ADDRESS/v1/key/list/" | grep -Eo '"[a-zA-Z0-9_-]+"' | tr -d '"' | grep -vx names); do
		ask -X DELETE "https://$ADDRESS/v1/key/delete/$key"
	done
	[ "$1" = kes-key.1 ] || ask -X PUT "https://$ADDRESS/v1/key/create/my-key"
}
client_environment() {
	cat <<ENV
export KES_SERVER=$ADDRESS MINIO_KMS_KES_CAPATH=$T/server/server.crt
export KES_CLIENT_KEY=$T/server/client.key KES_CLIENT_CERT=$T/server/client.crt
ENV
}
# What `make run` does once the program is built.
RUN="$ROOT/packaging/run.sh $KES_BIN \$PWD/run 127.0.0.1:7373"
# example PAGE NUMBER KIND TEXT: runs one; the environment goes on in the file environment
example() {
	local name="$1, example $2" kind=$3 text pid line port=${ADDRESS##*:} i
	case $kind in run | background) [ -z "$KES_PORT" ] || port=$KES_PORT ;; esac
	text=${4//make run/$RUN}
	text=${text//'$PWD/target/tools'/$T/bin}
	text=$(printf '%b' "$text" | sed "s/127\.0\.0\.1:7373/127.0.0.1:$port/g; s/127\.0\.0\.1:9000/127.0.0.1:$MINIO_PORT/g; s#target/tools/#$T/bin/#g; s#kes:v1:\.\.\.#$API_KEY#")
	[ "$(id -u)" -eq 0 ] || text=${text// --mlock/}
	if [[ $text == *jq* ]] && ! command -v jq >/dev/null; then return; fi
	if [[ $text =~ (^|[^a-z])(minio|mc)\  ]] && [ ! -x "$T/bin/minio" ]; then echo "skipped: $name needs MinIO"; return; fi
	case $kind in
	run | another)
		[ "$kind" = run ] || client_environment >environment
		printf 'shopt -s expand_aliases\n. ./environment\nset -e -o pipefail\n%s\nexport -p >environment\n' "$text" >script
		bash script >out 2>err </dev/null && ok "$name" || bad "$name" "$text
$(cat out err)"
		;;
	background)
		printf '. ./environment\n%s\n' "$text" | sed '$s/^/exec /' >script
		KES_PORT=${KES_PORT:-$port}
		bash script >"out.$2" 2>&1 </dev/null &
		pid=$!
		PIDS="$PIDS $pid" PAGE_PIDS="$pid $PAGE_PIDS"
		sed '1d; $d' script >>environment
		if [[ $text == *"minio server"* ]]; then
			for i in $(seq 600); do
				curl -s -m 5 -f "http://127.0.0.1:$MINIO_PORT/minio/health/live" && break
				alive $pid || break
				sleep 0.2
			done
			curl -s -m 5 -f "http://127.0.0.1:$MINIO_PORT/minio/health/live" && ok "$name" || bad "$name" "$(cat "out.$2")"
		else
			until_seen 'up and running' "out.$2" $pid && ok "$name" || bad "$name" "$(cat "out.$2")"
			grep '^export MINIO_KMS' "out.$2" >>environment
			API_KEY=$(grep -Eo 'kes:v1:[A-Za-z0-9+/=]+' "out.$2")
		fi
		;;
	until)
		while IFS= read -r line; do
			[[ $line == *'|'* ]] || line="exec $line"
			printf '. ./environment\n%s\n' "$line" >script
			: >out
			set -m
			bash script >out 2>err </dev/null &
			pid=$!
			set +m
			PIDS="$PIDS $pid"
			# Something must happen for it to be shown.
			for i in $(seq 600); do
				[ -s out ] && [ "$(wc -l <out)" -gt 1 ] && break
				alive $pid || break
				ask -X PUT "https://$ADDRESS/v1/key/create/event-$i"
				ask -X PUT -d junk "https://$ADDRESS/v1/key/encrypt/event-$i"
				sleep 0.1
			done
			alive $pid && [ -s out ] && ok "$name: ${line#exec }" || bad "$name: $line" "$(cat out err)"
			kill -INT -- "-$pid"
			wait $pid 2>/dev/null
			i=$?
			case $line in *'|'*) ;; *) [ $i -eq 0 ] && ok "$name ends with status 0" || bad "$name ends with status 0" "$i" ;; esac
		done <<<"$text"
		;;
	esac
}

for page in "$ROOT"/man/*.[1-8] "$ROOT/README.md"; do
	name=${page##*/}
	[ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
	python3 "$ROOT/tests/examples.py" "$page" >"$T/examples" || { bad "$name is read"; continue; }
	[ -s "$T/examples" ] || continue
	mkdir "$T/$name"
	fresh "$name"
	KES_PORT='' MINIO_PORT=$(free_port) API_KEY=none PAGE_PIDS=
	# What the pages that do not make it themselves expect to be there.
	case $name in kes-minio.7 | kes-identity.1 | README.md) ;; *) cp server/*.key server/*.crt server/config.yml "$name" ;; esac
	cd "$T/$name" || exit 2
	case $name in
	kes-migrate.1)
		# A plain store with three keys, and two sealed ones to be.
		for store in plain sealed other; do sed "s#path: ./keys#path: ./$store-keys#" config.yml >$store.yml; done
		sed -i 's#plain-keys#old-keys, seal: off#' plain.yml
		printf 'keys: [ { name: minio-a }, { name: minio-b }, { name: my-key } ]\n' | cat plain.yml - >config.yml
		address=$ADDRESS
		start
		stop "$PID"
		ADDRESS=$address
		;;
	esac
	cp "$ROOT/README.md" .
	export HOME=$PWD MC_CONFIG_DIR=$PWD/.mc
	client_environment >environment
	case $name in kes-minio.7 | kes-server.8 | kes.1 | README.md) KES_PORT=$(free_port); : >environment ;; esac
	number=0
	while IFS= read -r -u 3 line; do
		kind=${line%% *} text=${line#* }
		number=$((number + 1))
		case $kind in
		skip) echo "        $name: not run: ${text%% *}" | tr _ ' ' ;;
		file)
			printf '%b\n' "${text#* }" | sed "s/127\.0\.0\.1:7373/127.0.0.1:${KES_PORT:-0}/" >"${text%% *}"
			;;
		config) printf '%b\n' "$text" >example.yml ;;
		shown)
			number=$((number - 1))
			printf '%b\n' "$text" >shown
			missing=$(grep -vxFf out shown)
			[ -z "$missing" ] && ok "$name, example $number prints what the page shows" || bad "$name, example $number prints what the page shows" "$missing
-- instead of
$(cat out)"
			;;
		*) example "$name" $number "$kind" "$text" ;;
		esac
		case $kind in file | config)
			# Files that an example names by their place on a server are here.
			[ "$kind" = config ] && file=example.yml || file=${text%% *}
			sed "s#/etc/kes/#$T/server/#" "$file" >check.yml
			cp -n "$T"/server/{private.key,public.crt} . 2>/dev/null
			[[ $text == *tls* ]] || continue
			MINIO_IDENTITY=$ID kes server --check --strict --config check.yml >out 2>&1 && ok "$name, configuration $number" || bad "$name, configuration $number" "$(cat out)"
			;;
		esac
	done 3<"$T/examples"
	for pid in $PAGE_PIDS; do stop "$pid"; done
	cd "$T" || exit 2
done
finish
