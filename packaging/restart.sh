#!/bin/sh
# Restarts a running kes after an upgrade, but only if the new program takes the configuration: a server that runs is worth
# more than a new one that does not start. Checked as the running server was started: with its arguments, its environment
# (the unit's variables included) and its folder. Its options may be those of a drop-in, so nothing is guessed here.
set -u
[ -d /run/systemd/system ] || exit 0
systemctl is-active --quiet kes.service || exit 0
pid=$(systemctl show --property=MainPID --value kes.service)
proc=${KES_PROC:-/proc}/$pid
# By its name: the folder itself belongs to the mounts of the service, and has no path here.
if [ "${pid:-0}" -gt 0 ] && cd "$(readlink "$proc/cwd")" 2>/dev/null; then
	if ! { cat "$proc/environ" "$proc/cmdline" && printf -- '--check\0'; } | xargs -0 -x env -i >/dev/null; then
		cat >&2 <<-TEXT
			kes: NOT restarted: the new version does not take the configuration (see above); the old one goes on running.
			kes: mend the configuration, then: systemctl restart kes
		TEXT
		exit 0
	fi
fi
systemctl try-restart kes.service || true
