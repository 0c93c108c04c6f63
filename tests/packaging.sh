#!/usr/bin/env bash
# What can be said of the packages without building them: every file that they name is there and every file for them is
# named, scripts are sound, the unit is well-formed and exposed little, the program's own configuration is valid.
. "$(dirname "$0")/common.sh"
cd "$ROOT/packaging" || exit 2

missing=$(awk '$1 == "-" && $2 == "src:" { print $3 }' nfpm.yaml | grep -v '^target/packages/tree/' | sort -u | while read -r file; do [ -e "$ROOT/$file" ] || echo "$file"; done)
[ -z "$missing" ] && ok "the files that the packages name are there" || bad "the files that the packages name are there" "$missing"
missing=$(awk '$1 ~ /^(pre|post)(install|remove|upgrade):$/ { print $2 }' nfpm.yaml | while read -r file; do [ -x "$ROOT/$file" ] || echo "$file"; done)
[ -z "$missing" ] && ok "their scripts are there" || bad "their scripts are there" "$missing"
unnamed=$(for file in deb/* rpm/* apk/* openrc/* ./*.conf ./*.service; do grep -qF "packaging/${file#./}" nfpm.yaml || echo "$file"; done | grep -v rpmlint.toml)
[ -z "$unnamed" ] && ok "no script or service file is forgotten" || bad "no script or service file is forgotten" "$unnamed"
modes=$(awk '/^- (src|dst):/ { n++ } /file_info:/ { m++ } END { if (n != m) print n " files, " m " modes" }' nfpm.yaml)
[ -z "$modes" ] && ok "every file's mode is set" || bad "every file's mode is set" "$modes"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | head -1)
grep -q "^- semver: $version-1\$" changelog.yaml && ok "the changelog begins with this version" || bad "the changelog begins with this version"

if command -v shellcheck >/dev/null; then
	out=$(shellcheck -S warning deb/post* deb/prerm apk/p* && shellcheck -s sh -S warning rpm/pre rpm/post rpm/preun rpm/postun openrc/kes.initd 2>&1)
	[ $? -eq 0 ] && ok "the packages' scripts pass shellcheck" || bad "the packages' scripts pass shellcheck" "$out"
fi
for script in deb/p* rpm/p* apk/p* openrc/kes.initd; do sh -n "$script" || bad "$script is read by the shell"; done

if command -v systemd-analyze >/dev/null; then
	# The program is not installed here; before 253 the second type is not known and the first counts.
	mkdir "$T/unit" && sed "s|/usr/bin/kes|$KES_BIN|" kes.service >"$T/unit/kes.service"
	out=$(systemd-analyze verify --man=no "$T/unit/kes.service" 2>&1 | grep 'kes.service' | grep -v -e notify-reload -e 'Unknown key name' -e landlock)
	[ -z "$out" ] && ok "the unit is well-formed" || bad "the unit is well-formed" "$out"
	score=$(systemd-analyze security --offline=true kes.service 2>/dev/null | sed -n 's/.*exposure level for kes.service: \([0-9.]*\).*/\1/p')
	if [ -z "$score" ]; then
		echo "        this systemd-analyze cannot rate units that do not run"
	elif awk "BEGIN { exit !($score <= 1.5) }"; then
		ok "the unit's exposure is at most 1.5 ($score)"
	else
		bad "the unit's exposure is at most 1.5" "$score"
	fi
fi

cd "$T" && identities && sed -e "s|/etc/kes/private.key|$T/server.key|; s|/etc/kes/public.crt|$T/server.crt|" "$ROOT/packaging/config.yml" >config.yml
out=$("$KES_BIN" server --check --strict --config config.yml 2>&1) && ok "the example configuration is valid" || bad "the example configuration is valid" "$out"
sed -n '/^  config.yml: |$/,/^---$/p' "$ROOT/docs/kubernetes/kes.yaml" | sed '1d; $d; s/^    //' |
	sed -e "s|/etc/kes/tls/private.key|$T/server.key|; s|/etc/kes/tls/public.crt|$T/server.crt|; s|MINIO_IDENTITY|$ID|" >kubernetes.yml
out=$("$KES_BIN" server --check --config kubernetes.yml 2>&1) && ok "the configuration for Kubernetes is valid" || bad "the configuration for Kubernetes is valid" "$out"

if command -v cargo >/dev/null && command -v python3 >/dev/null; then
	cargo metadata --format-version 1 --locked --manifest-path "$ROOT/Cargo.toml" >metadata.json 2>metadata.err || bad "cargo lists the dependencies" "$(cat metadata.err)"
	for what in embed sbom notices; do
		"$ROOT/packaging/dependencies.py" $what <metadata.json >"$what" 2>"$what.err" && [ -s "$what" ] && ok "dependencies.py $what" || bad "dependencies.py $what" "$(cat "$what.err")"
	done
fi

# The restart after an upgrade, with a systemctl and a /proc that say what the real ones would.
mkdir -p bin proc/7
ln -s "$T" proc/7/cwd
cat >bin/systemctl <<'X'
#!/bin/sh
case $1 in show) echo 7 ;; try-restart) echo restarted >>calls ;; esac
X
chmod 755 bin/systemctl
restart() { # ADMIN: as after an upgrade, while a server runs with this value in its environment
	rm -f calls
	printf 'ADMIN=%s\0PATH=%s\0' "$1" "$PATH" >proc/7/environ
	printf '%s\0' "$KES_BIN" server --config config.yml --quiet >proc/7/cmdline
	# Where systemd does not run the script does nothing: that line is left out here.
	sed '/run\/systemd/d' "$ROOT/packaging/restart.sh" >restart.sh
	PATH=$T/bin:$PATH KES_PROC=$T/proc sh restart.sh 2>restart.err
}
sed -i 's/identity: disabled.*/identity: ${ADMIN}/' config.yml
restart disabled && [ -e calls ] && ok "an upgrade restarts the server, checked with its own environment" || bad "an upgrade restarts the server, checked with its own environment" "$(cat restart.err)"
sed -i 's/^address:.*/address: nowhere/' config.yml
restart disabled && [ ! -e calls ] && grep -q 'NOT restarted' restart.err && ok "a configuration that the new version refuses is not restarted into" || bad "a configuration that the new version refuses is not restarted into" "$(cat restart.err)"
finish
