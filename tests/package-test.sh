#!/usr/bin/env bash
# The packages of target/packages, as root: installed in Debian systems of their own (bookworm and trixie), with systemd
# really running in namespaces; set up, started, used by MinIO, upgraded, removed, purged. Then rpm, apk, the image and
# what the linters say. `make package-test`; takes some minutes. Nothing of the machine itself is changed.
. "$(dirname "$0")/common.sh"
PACKAGES=$ROOT/target/packages
CHROOTS=$ROOT/target/chroots
SUITES=${SUITES:-bookworm trixie}
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | head -1)
DEB=$PACKAGES/kes_$VERSION-1_amd64.deb
RPM=$PACKAGES/kes-$VERSION-1.x86_64.rpm
APK=$(echo "$PACKAGES"/kes*.apk)
[ "$(id -u)" -eq 0 ] || { echo "package-test needs root"; exit 1; }
for file in "$DEB" "$RPM" "$APK"; do [ -e "$file" ] || { echo "$file is missing: make packages"; exit 1; }; done
chmod 755 "$T"

# check NAME COMMAND...: passes if the command succeeds
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$name"; else bad "$name" "$out"; fi
}
has() { grep -qF -- "$1" "$2"; }

binary() {
	local file=$PACKAGES/kes-$VERSION-linux-amd64 size
	case $(file -b "$file") in *"static-pie linked"*stripped*) ok "the binary is static-pie" ;; *) bad "the binary is static-pie" "$(file "$file")" ;; esac
	case $(ldd "$file" 2>&1) in *"statically linked"*) ok "ldd says statically linked" ;; *) bad "ldd says statically linked" "$(ldd "$file" 2>&1)" ;; esac
	check "it has no interpreter" sh -c "! readelf -lW '$file' | grep -q INTERP"
	size=$(stat -c %s "$file")
	[ "$size" -le 3145728 ] && ok "it has at most 3 MiB ($size bytes)" || bad "it has at most 3 MiB" "$size"
	check "it holds the list of what it is made of" python3 "$ROOT/tests/packages/contents.py" "$file" "$ROOT/Cargo.lock" "$PACKAGES/kes-$VERSION.cdx.json"
	check "the sums of all files are right" env -C "$PACKAGES" sha256sum --quiet -c SHA256SUMS
}

# newer: the same package with a higher version, for upgrades, as $T/newer.deb
newer() {
	dpkg-deb -R "$DEB" newer && sed -i "s/^Version: .*/Version: $VERSION-2/" newer/DEBIAN/control && dpkg-deb -Zgzip -b newer newer.deb >/dev/null
}

inside() { nsenter -t "$INIT" -m -p -u -i -C -r -- "$@"; }
unit() { inside systemctl show -p "$1" --value kes.service; }
# wait_for SECONDS COMMAND...
wait_for() {
	local i seconds=$1
	shift
	for ((i = 0; i < seconds * 5; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
	return 1
}

boot() {
	unshare -m -p -u -i -C -f --kill-child "$ROOT/tests/packages/boot.sh" "$1" >"$1.log" 2>&1 &
	BOOT=$!
	PIDS="$PIDS $BOOT"
	wait_for 20 sh -c "pgrep -P $BOOT" || return 1
	INIT=$(pgrep -P "$BOOT")
	wait_for 60 inside sh -c 'case $(systemctl is-system-running) in running|degraded) ;; *) false ;; esac'
}

suite() {
	local root=$T/$1 base=$CHROOTS/$1 score states before pid
	echo "-- $1"
	if [ ! -e "$base/.complete" ]; then
		rm -rf "$base" && mkdir -p "$base"
		debootstrap --variant=minbase --include=systemd,dbus "$1" "$base" >"$1.debootstrap" 2>&1 || { bad "$1: debootstrap" "$(tail "$1.debootstrap")"; return; }
		touch "$base/.complete"
	fi
	cp -a "$base" "$root"
	cp "$DEB" newer.deb "$root/root/"
	boot "$root" || { bad "$1: systemd runs in namespaces" "$(tail "$root.log")"; return; }
	ok "$1: systemd $(inside systemctl --version | awk 'NR == 1 { print $2 }') runs in namespaces"

	check "$1: the package installs" inside dpkg -i "/root/${DEB##*/}"
	check "$1: its user is there" inside getent passwd kes
	[ "$(inside systemctl is-enabled kes)" = disabled ] && ok "$1: the service is not enabled by itself" || bad "$1: the service is not enabled by itself"
	check "$1: the unit is sound" inside sh -c 'out=$(systemd-analyze verify --man=no kes.service 2>&1) || true; out=$(printf "%s" "$out" | grep kes.service | grep -v notify-reload); echo "$out"; [ -z "$out" ]'
	score=$(inside systemd-analyze security kes.service 2>/dev/null | sed -n 's/.*exposure level for kes.service: \([0-9.]*\).*/\1/p')
	awk "BEGIN { exit !(\"$score\" != \"\" && $score + 0 <= 1.5) }" && ok "$1: its exposure is at most 1.5 ($score)" || bad "$1: its exposure is at most 1.5" "$score"

	check "$1: kes setup" inside kes setup --ip 127.0.0.1
	states=$(inside stat -c '%n %a %U %G' /etc/kes /etc/kes/private.key /etc/kes/client.key /etc/kes/config.yml /var/lib/kes /var/lib/kes/keys.seal)
	[ "$states" = "/etc/kes 750 root kes
/etc/kes/private.key 640 root kes
/etc/kes/client.key 600 root root
/etc/kes/config.yml 640 root kes
/var/lib/kes 700 kes kes
/var/lib/kes/keys.seal 600 kes kes" ] && ok "$1: owners and modes are right" || bad "$1: owners and modes are right" "$states"
	before=$(inside sh -c 'cat /etc/kes/* /var/lib/kes/keys.seal | sha256sum')
	check "$1: kes setup again" inside kes setup
	[ "$before" = "$(inside sh -c 'cat /etc/kes/* /var/lib/kes/keys.seal | sha256sum')" ] && ok "$1: it has changed nothing" || bad "$1: it has changed nothing"

	# Where the limit of locked memory cannot be raised, --mlock would refuse to start: only that is changed.
	if ! (ulimit -l unlimited) 2>/dev/null; then
		echo "        the limit of locked memory cannot be raised here: started without --mlock"
		inside mkdir -p /etc/systemd/system/kes.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/bin/kes server --config /etc/kes/config.yml\n' |
			inside tee /etc/systemd/system/kes.service.d/no-mlock.conf >/dev/null
	fi
	sed -i "s/^address: .*/address: 127.0.0.1:$PORT/" "$root/etc/kes/config.yml"
	inside systemctl daemon-reload
	check "$1: the service starts and says that it is ready" inside systemctl enable --now kes
	[ "$(unit ActiveState)" = active ] && ok "$1: it is active" || bad "$1: it is active" "$(inside journalctl -u kes | tail -20)"
	check "$1: it reloads" inside systemctl reload kes
	wait_for 20 inside sh -c 'journalctl -u kes | grep -q "after SIGHUP signal completed"' && ok "$1: it has read its configuration again" || bad "$1: it has read its configuration again" "$(inside journalctl -u kes | tail)"
	minio "$1" "$root"

	# An upgrade keeps what was edited, and restarts what ran if the configuration is sound, as the unit sees it.
	printf '# edited\n' >>"$root/etc/kes/config.yml"
	sed -i 's/^  identity: disabled.*/  identity: ${KES_ADMIN}/' "$root/etc/kes/config.yml"
	echo "KES_ADMIN=disabled" >"$root/etc/kes/environment"
	inside systemctl restart kes || bad "$1: it starts with a variable of the unit" "$(inside journalctl -u kes | tail)"
	pid=$(unit MainPID)
	inside dpkg -i /root/newer.deb >upgrade.log 2>&1 && ok "$1: the package is upgraded" || bad "$1: the package is upgraded" "$(cat upgrade.log)"
	check "$1: the edited configuration is kept" has '# edited' "$root/etc/kes/config.yml"
	[ "$(unit ActiveState)" = active ] && [ "$(unit MainPID)" != "$pid" ] && ok "$1: the server was restarted, with a variable that only the unit has" || bad "$1: the server was restarted, with a variable that only the unit has" "$(cat upgrade.log; inside journalctl -u kes | tail)"
	pid=$(unit MainPID)
	echo 'nonsense: [' >>"$root/etc/kes/config.yml"
	inside dpkg -i /root/newer.deb >upgrade.log 2>&1
	[ "$(unit MainPID)" = "$pid" ] && has "NOT restarted" upgrade.log && ok "$1: with a broken configuration the old server goes on, and the upgrade says so" || bad "$1: with a broken configuration the old server goes on, and the upgrade says so" "$(cat upgrade.log)"
	sed -i '$d' "$root/etc/kes/config.yml"

	check "$1: the package is removed" inside dpkg -r kes
	[ "$(inside systemctl is-active kes)" != active ] && ok "$1: the server is stopped" || bad "$1: the server is stopped"
	[ -e "$root/etc/kes/config.yml" ] && [ -e "$root/var/lib/kes/keys.seal" ] && ok "$1: configuration and keys are kept" || bad "$1: configuration and keys are kept"
	check "$1: the package is purged" inside dpkg -P kes
	[ ! -e "$root/etc/kes" ] && ok "$1: the configuration is gone" || bad "$1: the configuration is gone" "$(ls "$root/etc/kes")"
	[ -e "$root/var/lib/kes/keys.seal" ] && ok "$1: the keys are still there" || bad "$1: the keys are still there"
	kill -KILL "$INIT"
	wait "$BOOT" 2>/dev/null
	rm -rf "$root"
}

# minio SUITE ROOT: MinIO on this side keeps its objects encrypted with keys of the service in there
minio() {
	local alias=k$1 i port
	mkdir -p "minio-$1/data"
	cp "$2"/etc/kes/client.key "$2"/etc/kes/client.crt "$2"/etc/kes/public.crt "minio-$1/"
	port=$(free_port)
	env MINIO_KMS_KES_ENDPOINT="https://127.0.0.1:$PORT" MINIO_KMS_KES_CERT_FILE="minio-$1/client.crt" \
		MINIO_KMS_KES_KEY_FILE="minio-$1/client.key" MINIO_KMS_KES_CAPATH="minio-$1/public.crt" \
		MINIO_KMS_KES_KEY_NAME=minio-default-key MINIO_ROOT_USER=minio MINIO_ROOT_PASSWORD=minio123 \
		"$TOOLS/minio" server --quiet --address "127.0.0.1:$port" "minio-$1/data" >"minio-$1.log" 2>&1 &
	local pid=$!
	PIDS="$PIDS $pid"
	export MC_CONFIG_DIR=$T/mc
	wait_for 60 "$TOOLS/mc" alias set "$alias" "http://127.0.0.1:$port" minio minio123 || bad "$1: MinIO starts" "$(cat "minio-$1.log")"
	check "$1: MinIO makes a key" "$TOOLS/mc" admin kms key create "$alias" minio-key-name
	check "$1: MinIO makes a bucket" "$TOOLS/mc" mb "$alias/bucket"
	check "$1: MinIO encrypts it with the key" "$TOOLS/mc" encrypt set sse-kms minio-key-name "$alias/bucket"
	check "$1: an object goes in" "$TOOLS/mc" cp "$ROOT/LICENSE" "$alias/bucket/"
	"$TOOLS/mc" stat "$alias/bucket/LICENSE" 2>&1 | grep -q 'SSE-KMS.*minio-key-name' && ok "$1: it is encrypted" || bad "$1: it is encrypted" "$("$TOOLS/mc" stat "$alias/bucket/LICENSE" 2>&1)"
	inside systemctl restart kes
	"$TOOLS/mc" cat "$alias/bucket/LICENSE" 2>/dev/null | cmp -s - "$ROOT/LICENSE" && ok "$1: after a restart of the service it comes back" || bad "$1: after a restart of the service it comes back" "$(inside journalctl -u kes | tail)"
	stop "$pid"
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

rpm_package() {
	local out
	echo "-- rpm"
	mkdir rpmroot
	check "rpm: the package installs" rpm --root "$T/rpmroot" -i --nodeps --noscripts "$RPM"
	check "rpm: its files are as they should be" sh -c "rpm --root '$T/rpmroot' -V --nouser --nogroup --nodeps kes"
	check "rpm: the program runs" "$T/rpmroot/usr/bin/kes" --version
	check "rpm: the package is removed" rpm --root "$T/rpmroot" -e --nodeps --noscripts kes
	[ -z "$(find rpmroot/usr -name '*kes*' -not -path '*/sysimage/*')" ] && ok "rpm: nothing is left" || bad "rpm: nothing is left" "$(find rpmroot/usr -name '*kes*')"
	# rpmlint unpacks with cpio, which takes the names in the package for absolute ones: /usr is laid over here.
	mkdir over
	out=$(unshare -m sh -c 'mount -t tmpfs tmpfs over && mkdir over/upper over/work &&
		mount -t overlay overlay -o lowerdir=/usr,upperdir=over/upper,workdir=over/work /usr && exec rpmlint -c "$1" "$2"' \
		sh "$ROOT/packaging/rpm/rpmlint.toml" "$RPM" 2>&1)
	printf '%s\n' "$out" | grep -q ' 0 errors, 0 warnings' && ok "rpm: rpmlint has nothing to say beyond the documented" || bad "rpm: rpmlint has nothing to say beyond the documented" "$out"
}

# The apk's scripts, in a system where openrc's programs note how they were called.
apk_package() {
	local scripts name
	echo "-- apk"
	mkdir apk && tar -xzf "$APK" -C apk 2>/dev/null
	scripts=$(cd apk && echo .pre-install .post-install .pre-upgrade .post-upgrade .pre-deinstall .post-deinstall)
	for name in $scripts; do
		[ -s "apk/$name" ] && sh -n "apk/$name" && ok "apk: it has the script $name" || bad "apk: it has the script $name" "$(ls -a apk)"
	done
	check "apk: the program runs" apk/usr/bin/kes --version
	[ -x apk/etc/init.d/kes ] && [ -e apk/etc/conf.d/kes ] && ok "apk: service and settings are there" || bad "apk: service and settings are there"
	[ ! -e apk/lib/systemd ] && [ ! -e apk/usr/lib/systemd ] && ok "apk: nothing of systemd is there" || bad "apk: nothing of systemd is there"
	mkdir fake
	for name in rc-service rc-update addgroup adduser; do
		printf '#!/bin/sh\necho "%s $*" >>"%s/fake/calls"\n' "$name" "$T" >"fake/$name"
		chmod 755 "fake/$name"
	done
	unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/openrc && mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/kes && touch /var/lib/kes/key &&
		PATH=$1/fake:$PATH && cd "$1/apk" && ./.pre-install && ./.post-upgrade && ./.pre-deinstall && ./.post-deinstall && [ -e /var/lib/kes/key ]' sh "$T" >apk.log 2>&1 &&
		ok "apk: its scripts run" || bad "apk: its scripts run" "$(cat apk.log)"
	check "apk: installing makes the user" has "adduser -S" fake/calls
	check "apk: an upgrade restarts the service, if it runs" has "rc-service --ifstarted kes restart" fake/calls
	check "apk: removing stops the service" has "rc-service --ifstarted kes stop" fake/calls
	check "apk: removing says that the keys are kept" has "/var/lib/kes is kept" apk.log
}

image() {
	local pid address out
	echo "-- image"
	mkdir image && tar -xf "$PACKAGES/kes-$VERSION-oci.tar" -C image
	"$TOOLS/crane" registry serve --address 127.0.0.1:0 >registry.log 2>&1 &
	pid=$!
	PIDS="$PIDS $pid"
	wait_for 20 grep -q 'port [0-9]*' registry.log || { bad "image: a registry runs" "$(cat registry.log)"; return; }
	address=127.0.0.1:$(sed -n 's/.*port \([0-9]*\).*/\1/p' registry.log | head -1)
	check "image: crane pushes the layout" "$TOOLS/crane" push --insecure image "$address/kes:$VERSION"
	check "image: crane finds it valid" "$TOOLS/crane" validate --insecure --remote "$address/kes:$VERSION"
	"$TOOLS/crane" export --insecure "$address/kes:$VERSION" image.tar 2>/dev/null
	mkdir unpacked && tar -xf image.tar -C unpacked
	check "image: it holds the program" cmp unpacked/kes "$PACKAGES/kes-$VERSION-linux-amd64"
	out=$("$TOOLS/crane" config --insecure "$address/kes:$VERSION")
	case $out in *'"65532:65532"'*'"/kes"'*) ok "image: it starts the program as nobody" ;; *) bad "image: it starts the program as nobody" "$out" ;; esac
	# As a container would: nothing but the image, an ordinary user.
	mkdir -p unpacked/proc unpacked/etc/kes
	check "image: the program runs with nothing else there" unshare -m -p -f sh -c "mount -t proc proc unpacked/proc && exec chroot --userspec=65532:65532 unpacked /kes --version"
	stop "$pid"
}

deb_lint() {
	local out
	echo "-- deb"
	out=$(lintian --fail-on error,warning --no-tag-display-limit "$DEB" 2>&1 | grep -v 'running with root privileges') ; [ -z "$(printf '%s\n' "$out" | grep '^[EW]:')" ] &&
		ok "deb: lintian has nothing to say beyond the documented" || bad "deb: lintian has nothing to say beyond the documented" "$out"
}

PORT=$(free_port)
binary
deb_lint
newer || bad "a newer package can be made"
for suite in $SUITES; do suite "$suite"; done
rpm_package
apk_package
image
finish
