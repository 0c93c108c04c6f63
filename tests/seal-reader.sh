#!/usr/bin/env bash
# A reader in another language, written from kes-seal(5) alone, opens the fixed files and a store that kes has just made.
. "$(dirname "$0")/common.sh"
VECTORS=$ROOT/tests/vectors/seal
PYTHON=$TOOLS/seal-reader/bin/python3
[ -x "$PYTHON" ] || { bad "the Python of 'make tools' is there" "$PYTHON"; finish; }
reader() { "$PYTHON" "$ROOT/tests/seal_reader.py" "$@"; }
# prints NAME WANTED GOT: passes if what was printed is what is wanted
prints() { [ "$2" = "$3" ] && ok "$1" || bad "$1" "$3"; }

# Seal files: each unlock method gives the root keys of the file without one.
ROOTS=$(reader "$VECTORS/none.seal") && ok "none.seal opens" || bad "none.seal opens" "$ROOTS"
while read -r kind file hex; do
	[ "$kind" = secret ] || continue
	printf '%b' "$(printf %s "$hex" | sed 's/../\\x&/g')" >secret
	prints "$file opens with its secret" "$ROOTS" "$(reader --secret secret "$VECTORS/$file" 2>&1)"
	printf x >>secret
	prints "$file is refused with another" "refused $VECTORS/$file: does not authenticate" \
		"$(reader --secret secret "$VECTORS/$file" 2>&1)"
done <"$VECTORS/expect.txt"
for end in '' '\n' '\r\n'; do
	printf "correct horse battery staple$end" >passphrase
	prints "passphrase.seal opens with its passphrase and '$end'" "$ROOTS" \
		"$(reader --passphrase passphrase "$VECTORS/passphrase.seal" 2>&1)"
done

# Key files: all that are listed, and no other.
mkdir values
reader --out values "$VECTORS/none.seal" "$VECTORS"/keys/* >out
while read -r kind name hash; do
	case $kind in
	key) grep -qx "key $name $hash" out && ok "key file $name opens" || bad "key file $name opens" "$(grep "$name" out)" ;;
	refused) grep -q "^refused $name: " out && ok "key file $name is refused" || bad "key file $name is refused" "$(grep "$name" out)" ;;
	esac
done <"$VECTORS/expect.txt"
prints "nothing is opened beside these" "$(grep -cE '^(key|refused) ' "$VECTORS/expect.txt")" "$(grep -cE '^(key|refused) ' out)"
prints "the values are written out" "$(awk '$1 == "key" { print $3 }' out | sort)" "$(sha256sum values/* | cut -d' ' -f1 | sort)"

# One changed byte anywhere in the text.
"$PYTHON" -B - "$VECTORS/keys/aes" "$VECTORS/none.seal" <<'PY' >flips 2>&1 && ok "$(cat flips)" || bad "each changed byte is refused" "$(cat flips)"
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(sys.argv[1]), "../../.."))
import seal_reader as reader
def refuses(read, text):
    for i in range(len(text)):
        changed = text[:i] + bytes([text[i] ^ 1]) + text[i + 1:]
        try:
            read(changed)
        except reader.Refused:
            continue
        sys.exit(f"byte {i} of {text!r} can be changed")
    return len(text)
key, seal = (reader.read_file(path) for path in sys.argv[1:])
roots = reader.read_seal_file(seal, None, None)
n = refuses(lambda text: reader.read_key_file(b"aes", text, roots), key)
n += refuses(lambda text: reader.read_seal_file(text, None, None), seal)
print(f"each of {n} changed bytes is refused")
PY

# What this build of kes writes.
export CREDENTIALS_DIRECTORY=$T
identities
config "keys: [ { name: one }, { name: two-two }, { name: _3 } ]"
start
stop "$PID"
reader keys.seal keys/* >out && ok "the store of a running kes opens" || bad "the store of a running kes opens" "$(cat out)"
keys() { awk '$1 == "key" { print $2 }' out | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//'; }
prints "its keys are all there" "_3 one two-two" "$(keys)"
seal() { "$KES_BIN" seal "$@" --config config.yml </dev/null >seal.out 2>&1 || bad "kes seal $1" "$(cat seal.out)"; }
seal rotate
reader keys.seal keys/* >out && grep -q '^root [0-9a-f]* retired ' out && prints "and after a rotation" "_3 one two-two" "$(keys)" ||
	bad "the store opens after a rotation" "$(cat out)"

# What it writes for each way to unlock.
cp keys.seal saved
printf 'a passphrase of ours\n' >passphrase
head -c 40 /dev/urandom >secret
chmod 600 passphrase secret
while read -r method given to; do
	seal rewrap --kdf-memory 1024 --to "$to"
	grep -aqx "unlock $method.*" keys.seal && reader "--$given" "$given" keys.seal keys/* >out &&
		prints "a seal file opens that kes has protected by $method" "_3 one two-two" "$(keys)" ||
		bad "a seal file opens that kes has protected by $method" "$(cat out seal.out)"
	cat saved >keys.seal
done <<END
passphrase passphrase { passphrase: { file: $T/passphrase } }
command secret { command: [/bin/cat, $T/secret] }
credential secret { credential: secret }
END
finish
