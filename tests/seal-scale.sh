#!/usr/bin/env bash
# A store of many keys (COUNT, default 100,000): time and memory of everything that touches all of them, and that a start
# does not. Prints figures; takes minutes, so it is not a part of `make test`.
. "$(dirname "$0")/common.sh"
COUNT=${COUNT:-100000}
PYTHON=$TOOLS/seal-reader/bin/python3
[ -x "$PYTHON" ] || { bad "the Python of 'make tools' is there" "$PYTHON"; finish; }
identities
config
mkdir keys
value=$(awk -F'"' '$2 == "name" { is = $4 == "aes" } is && $2 == "stored" { print $4 }' "$ROOT/tests/vectors/keys.json")
awk -v n="$COUNT" -v value="$value" 'BEGIN { for (i = 0; i < n; i++) { file = sprintf("keys/k%05d", i); printf "%s", value >file; close(file) } }'
echo "        $COUNT keys, load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors, $(stat -f -c %T .)"

# measured NAME ARGUMENTS...: runs kes; passes if it succeeds, and tells how long it took and how much memory
measured() {
	local name=$1
	shift
	if "$PYTHON" - "$KES_BIN" "$@" >out 2>figures <<'PY'
import os, re, subprocess, sys, time
start = time.monotonic()
child = subprocess.Popen(sys.argv[1:])
memory = 0
while child.poll() is None:
    try:
        with open(f"/proc/{child.pid}/status") as status:
            memory = max(memory, *map(int, re.findall(r"VmHWM:\s*(\d+)", status.read())), 0)
    except OSError:
        pass
    time.sleep(0.02)
used = os.times()
print(f"{time.monotonic() - start:.1f} s ({used.children_user + used.children_system:.1f} s of processor), {memory / 1024:.1f} MiB", file=sys.stderr)
sys.exit(child.returncode)
PY
	then ok "$name: $(tail -1 figures)"; else bad "$name" "$(cat out figures)"; fi
}
# served NAME: a start, and how much it read before it was ready
served() {
	local started ready bytes
	started=$(date +%s%N)
	start
	ready=$(date +%s%N)
	bytes=$(awk '/^rchar/ { print $2 }' "/proc/$PID/io")
	[ "$bytes" -lt 1000000 ] && ok "$1: $(((ready - started) / 1000000)) ms, $bytes bytes read in all, $(awk '/VmHWM/ { printf "%.1f MiB", $2 / 1024 }' "/proc/$PID/status")" ||
		bad "$1 does not read every key" "$bytes bytes"
}
ask() { curl -sS --cacert server.crt --cert client.crt --key client.key "https://$ADDRESS/v1/key/$1"; }

served "start on the plain store"
stop "$PID"
measured "adopt" seal adopt --config config.yml
measured "status" seal status --config config.yml
measured "verify" seal verify --config config.yml
served "start on the sealed store"
listing=$(date +%s%N)
n=$(ask list/ | grep -o '"k[0-9]*"' | wc -l)
listing=$((($(date +%s%N) - listing) / 1000000))
[ "$n" = "$COUNT" ] && ok "list: $n names in $listing ms" || bad "list" "$n names"
measured "rotate, beside the running server" seal rotate --config config.yml
measured "verify after it" seal verify --config config.yml
last=$(printf 'k%05d' $((COUNT - 1)))
ask "describe/$last" | grep -q AES256 &&
	ok "the running server opens a key under the new root key" || bad "the running server opens a key under the new root key" "$(tail -3 kes.err)"
stop "$PID"
sed 's/path: .*/path: .\/copy, seal: off } }/' config.yml >plain.yml
measured "migrate to plain files" migrate --from config.yml --to plain.yml --quiet
finish
