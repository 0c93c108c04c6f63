#!/usr/bin/env bash
# Every command of docs/from-the-original.md, one after the other, on a store that the original wrote.
. "$(dirname "$0")/common.sh"
unset KES_CONFIG KES_API_KEY KES_SERVER
mkdir bin keys
ln -s "$KES_BIN" bin/kes
PATH=$T/bin:$PATH
# The keys that can be used, in the current form; one is called as in the text.
awk -F'"' '$2 == "name" { name = $4 } $2 == "stored" { stored = $4 } $2 == "parsed" && stored ~ /^C[A-Za-z0-9+\/=]+$/ { printf "%s", stored >("keys/" name); close("keys/" name) }' \
	"$ROOT/tests/vectors/keys.json"
cp keys/aes keys/my-key
identities
cp server.key private.key
cp server.crt public.crt
config
cp -a keys original

# The blocks marked `sh`, in files 1.sh, 2.sh, ...
awk '/^```sh$/ { n++; file = n ".sh"; next } /^```$/ { file = "" } file { print >file }' "$ROOT/docs/from-the-original.md"
run() { # NUMBER NAME: one block
	bash -eu "$1.sh" >out 2>&1 </dev/null && ok "$2" || { bad "$2" "$(cat "$1.sh" out)"; finish; }
}
served() { # NAME: the server starts and has the keys
	start
	grep -q "$2" kes.out && ok "$1" || bad "$1" "$(cat kes.out)"
	stop "$PID"
}
run 1 "the configuration is checked"
run 2 "everything is copied"
served "the store is served as it is" 'not sealed'
run 3 "adoption is tried"
diff -r keys original >/dev/null && ok "the trial changes nothing" || bad "the trial changes nothing"
run 4 "the store is adopted"
grep -L '^kes-sealed v1 ' keys/* | grep -q . && bad "every key is sealed" || ok "every key is sealed"
diff -r keys.plain original >/dev/null && ok "the plain files are kept" || bad "the plain files are kept" "$(ls keys.plain)"
served "the store is served sealed" 'sealed (root key'
run 5 "the copies are removed"
run 6 "the way back"
diff -r keys-for-the-original original >out && ok "the files are byte for byte what they were" || bad "the files are byte for byte what they were" "$(cat out)"
kes seal export --config config.yml --yes my-key | cmp -s - original/my-key && ok "and so is one exported key" || bad "and so is one exported key"
run 7 "a single key is exported"
[ "$(ls ./*.sh | wc -l)" -eq 7 ] && ok "there are no other commands in the text" || bad "there are no other commands in the text" "$(ls)"
finish
