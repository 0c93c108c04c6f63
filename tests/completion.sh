#!/usr/bin/env bash
# Completion as the shells do it: the scripts are read by their shells, bash and zsh complete on a pseudo-terminal, fish
# with its own command, and what they offer is what the help lists.
. "$(dirname "$0")/common.sh"
export HOME=$T XDG_CONFIG_HOME=$T/config
unset ZDOTDIR COMP_LINE COMP_POINT KES_COMPLETION
mkdir -p bin files
ln -s "$KES_BIN" bin/kes
PATH=$T/bin:$PATH
touch files/fileone.yml files/filetwo.yml
for shell in bash zsh fish; do kes completion $shell >kes.$shell || bad "kes completion $shell"; done

# same NAME WANTED GOT
same() { [ "$2" = "$3" ] && ok "$1" || bad "$1" "wanted: $2
got: $3"; }
# ask LINE: the candidates by the protocol, on one line
ask() { COMP_LINE=$1 COMP_POINT=${#1} kes | sort | tr '\n' ' '; }

# The protocol: candidates are the commands and flags that the help lists.
# help_words SECTION COMMAND...: the first words of a section of the help, on one line
help_words() {
	local section=$1
	shift
	kes "$@" --help | awk -v section="$section:" '
		/^[A-Z]/ { inside = ($0 == section); next }
		inside && /^    [a-z]/ { print $1 }
		inside && /^ +-/ { for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); sub(/\[=.*/, "", $i); print $i } }' | sort | tr '\n' ' '
}
# walk COMMAND...: compares a command, then those within it
walk() {
	local inner
	same "flags of 'kes${*:+ $*}'" "$(help_words Options "$@")" "$(ask "kes ${*:+$* }-")"
	for inner in $(help_words Commands "$@"); do
		[ $# -lt 3 ] && walk "$@" "$inner"
	done
	inner=$(help_words Commands "$@")
	[ -z "$inner" ] || same "commands of 'kes${*:+ $*}'" "$inner" "$(ask "kes ${*:+$* }")"
}
walk
same "a word begun narrows them" "server " "$(ask 'kes ser')"
same "values of a flag" "off on " "$(ask 'kes server --auth ')"
same "the cursor may stand within the line" "server " "$(COMP_LINE='kes ser --auth' COMP_POINT=7 kes | tr '\n' ' ')"
same "where anything may stand there is nothing" "" "$(ask 'kes server --config ')"
COMP_LINE='kes ' kes identity of /nothing >/dev/null && ok "any call answers the shell" || bad "any call answers the shell"

# --auto-completion
for shell in bash zsh fish; do
	SHELL=/bin/$shell kes --auto-completion >out1 2>&1 && grep -q '^Added completion' out1 && ok "--auto-completion adds to $shell" || bad "--auto-completion adds to $shell" "$(cat out1)"
	cat .bashrc .zshrc config/fish/completions/kes.fish >before 2>/dev/null
	same "and a second time says so" "Completion is already installed." "$(SHELL=/bin/$shell kes --auto-completion)"
	cat .bashrc .zshrc config/fish/completions/kes.fish 2>/dev/null | cmp -s before - && ok "and changes nothing" || bad "and changes nothing"
done
SHELL=/bin/tcsh kes --auto-completion >out1 2>&1
same "another shell is refused" "1 1" "$? $(grep -c '^Error: no completion' out1)"
printf 'no newline' >.bashrc
SHELL=/bin/bash kes --auto-completion >/dev/null
same "a file without a newline at its end keeps its last line" "no newline" "$(head -1 .bashrc)"
mkdir "odd 'place"
cp "$KES_BIN" "odd 'place/kes"
rm .bashrc
SHELL=/bin/bash "odd 'place/kes" --auto-completion >/dev/null

# On a terminal. type SHELL KEYS...: types each of KEYS when the screen is quiet, prints the whole screen.
cat >type.py <<'PY'
import os, pty, select, signal, sys, time
argv, wanted, keys = sys.argv[1].split(' '), sys.argv[2], sys.argv[3:]
pid, screen = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
seen = b''
def read(until, limit):
    global seen
    start, end = len(seen), time.monotonic() + limit
    while until not in seen[start:] and time.monotonic() < end:
        if select.select([screen], [], [], 0.5)[0]:
            try:
                seen += os.read(screen, 65536)
            except OSError:
                return False
    return until in seen[start:]
# The prompt is set by a command whose text does not contain it.
os.write(screen, (os.environ.get('SETUP', '') + "PS1=$(printf 're%s> ' ady)\r").encode())
good = read(b'ready> ', 60)
for key in keys:
    os.write(screen, key.encode().decode('unicode_escape').encode())
    time.sleep(0.05)
good = read(wanted.encode(), 60) and good
os.close(screen)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
if not good:
    print(repr(seen))
sys.exit(not good)
PY
# typed NAME SHELL WANTED KEYS: WANTED comes to the screen
typed() {
	local out
	out=$(TERM=dumb python3 type.py "$2" "$3" "$4" 2>&1) && ok "$1" || bad "$1" "$out"
}
# The screen shows what the line was completed to, as the command prints its words.
cat >bin/show <<'SH'
#!/bin/sh
printf '<%s>' "$@"
SH
chmod +x bin/show

bash -n kes.bash && ok "bash reads its script" || bad "bash reads its script"
if command -v shellcheck >/dev/null; then
	out=$(shellcheck -s bash kes.bash 2>&1) && ok "shellcheck has nothing to say" || bad "shellcheck has nothing to say" "$out"
fi
printf 'source %q\ncomplete -o default -C kes show\n' "$T/kes.bash" >rc.bash
bash="bash --noprofile --rcfile rc.bash -i"
typed "bash completes a command" "$bash" '<server>' 'show ser\t\r'
typed "bash completes the command of a command" "$bash" '<identity><of>' 'show identity o\t\r'
typed "bash completes a flag" "$bash" '<server><--addr>' 'show server --ad\t\r'
typed "bash completes a value" "$bash" '<--auth><off>' 'show server --auth of\t\r'
typed "bash completes a value after an equals sign" "$bash" '<--auth=off>' 'show server --auth=of\t\r'
typed "bash completes files elsewhere" "$bash" '<--config><files/fileone.yml>' 'show server --config files/fileo\t\r'
typed "bash lists candidates" "$bash" 'version' 'show \t\t'
sed 's/kes$/show/' .bashrc >rc.bash
typed "bash runs a program in an odd place" "$bash" '<--auth><off>' 'show server --auth of\t\r'

if command -v zsh >/dev/null; then
	zsh -n kes.zsh && ok "zsh reads its script" || bad "zsh reads its script"
	# The way of a package: a function of the name in the path of functions.
	mkdir functions && cp kes.zsh functions/_kes
	zsh="zsh -f -i"
	export SETUP="fpath=($T/functions \$fpath); autoload -Uz compinit; compinit -u -D; compdef _kes show; "
	typed_zsh() { typed "$1" "$zsh" "$2" "$3"; }
	typed_zsh "zsh completes a command" '<server>' 'show ser\t\r'
	typed_zsh "zsh completes the command of a command" '<identity><of>' 'show identity o\t\r'
	typed_zsh "zsh completes a flag" '<server><--addr>' 'show server --ad\t\r'
	typed_zsh "zsh completes a value" '<--auth><off>' 'show server --auth of\t\r'
	typed_zsh "zsh completes a value after an equals sign" '<--auth=off>' 'show server --auth=of\t\r'
	typed_zsh "zsh completes files elsewhere" '<--config><files/fileone.yml>' 'show server --config files/fileo\t\r'
	typed_zsh "zsh lists candidates with what they do" 'Start a KES server.' 'show \t'
else
	echo "skipped: zsh is not installed"
fi
if command -v fish >/dev/null; then
	fish -n kes.fish && ok "fish reads its script" || bad "fish reads its script"
	# fished NAME WANTED LINE
	fished() {
		local out
		out=$(fish --no-config -c "source kes.fish; complete -C '$3'" 2>&1 | cut -f1 | tr '\n' ' ')
		same "$1" "$2" "$out"
	}
	fished "fish completes a command" "server " "kes ser"
	fished "fish completes a flag" "--addr " "kes server --ad"
	fished "fish completes a value" "off " "kes server --auth of"
	fished "fish completes files elsewhere" "files/fileone.yml " "kes server --config files/fileo"
	fish --no-config -c "source kes.fish; complete -C 'kes ser'" | grep -q 'Start a KES server' && ok "fish shows what a command does" || bad "fish shows what a command does"
else
	echo "skipped: fish is not installed"
fi
finish
