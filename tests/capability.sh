#!/usr/bin/env bash
# --mlock, as in the tutorial: an ordinary user may lock memory if the program has the capability, and is told what to do
# if it has not. As root only, because only root can give a capability.
. "$(dirname "$0")/common.sh"
if [ "$(id -u)" -ne 0 ]; then
	"$KES_BIN" --version >/dev/null && ok "the program runs; not root: the rest is skipped"
	finish
fi
chmod 755 "$T"
install -m 755 "$KES_BIN" kes
mkdir etc data
identities && config
sed -i "s|\./keys|$T/data/keys|" config.yml
chown -R nobody server.key config.yml data

# as_nobody OPTION...: the server as nobody, with a small limit of locked memory; its output in kes.out and kes.err.
# setpriv keeps no capability, the inheritable and ambient sets included.
as_nobody() {
	: >kes.out
	(ulimit -l 1024 && exec setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --inh-caps=-all \
		./kes server --config config.yml "$@" >kes.out 2>kes.err </dev/null) &
	PID=$!
	PIDS="$PIDS $PID"
	for _ in $(seq 600); do grep -q 'up and running' kes.out && return; alive "$PID" || return 1; sleep 0.1; done
	return 1
}

as_nobody --mlock && bad "without the capability --mlock refuses to start"
text=$(cat kes.err)
case $text in *"failed to lock memory"*) ok "without the capability --mlock refuses to start" ;; *) bad "without the capability --mlock refuses to start" "$text" ;; esac
case $text in *"setcap cap_ipc_lock=+ep"*) ok "it names the command that gives the capability" ;; *) bad "it names the command that gives the capability" "$text" ;; esac
case $text in *"which is 1024 KiB"*"LimitMEMLOCK="*) ok "it names the limit and where to raise it" ;; *) bad "it names the limit and where to raise it" "$text" ;; esac

if as_nobody; then
	ok "without the option the server starts"
	grep -q MLock kes.out && bad "it does not claim to lock memory" "$(cat kes.out)" || ok "it does not claim to lock memory"
	stop "$PID"
else
	bad "without the option the server starts" "$(cat kes.err)"
fi

if ! setcap cap_ipc_lock=+ep kes 2>setcap.err; then
	echo "        setcap: $(cat setcap.err): the rest is skipped"
	finish
fi
if as_nobody --mlock; then
	ok "with the capability an ordinary user's server starts with --mlock"
	grep -q 'MLock *enabled' kes.out && ok "it reports 'MLock enabled'" || bad "it reports 'MLock enabled'" "$(cat kes.out)"
	locked=$(awk '$1 == "VmLck:" { print $2 }' "/proc/$PID/status")
	[ "${locked:-0}" -gt 1024 ] && ok "its memory is locked ($locked kB)" || bad "its memory is locked" "$locked"
	stop "$PID"
elif grep -q 'Operation not permitted' kes.err; then
	echo "        files with capabilities cannot be run here: the rest is skipped"
else
	bad "with the capability an ordinary user's server starts with --mlock" "$(cat kes.err)"
fi
finish
