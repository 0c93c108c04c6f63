#!/usr/bin/env bash
# Runs every test and adds up what passed. Stops at the first part that fails. The last line is `N passed, N failed`.
# KES_BIN names the binary under test, TOOLS the folder with the programs of `make tools`.
set -u
cd "$(dirname "$0")/.." || exit 2
PASSED=0
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

# part NAME COUNTER COMMAND...: runs the command; COUNTER is a function that prints how many tests passed, from $LOG.
part() {
	local name=$1 counter=$2 count start
	shift 2
	start=$(date +%s)
	printf '\n== %s\n' "$name"
	if ! "$@" 2>&1 | tee "$LOG"; then
		echo "== $name FAILED"
		echo "$PASSED passed, 1 failed"
		exit 1
	fi
	count=$($counter)
	PASSED=$((PASSED + count))
	echo "== $name: $count passed ($(($(date +%s) - start)) s)"
	[ "$count" -gt 0 ] || { echo "== $name ran no test"; echo "$PASSED passed, 1 failed"; exit 1; }
}
set -o pipefail

one() { echo 1; }
cargo_tests() { awk '/^test result: ok\. / { n += $4 } END { print n + 0 }' "$LOG"; }
go_tests() { grep -cE '^ *--- PASS' "$LOG"; }
lines() { awk '/^[0-9]+ passed, 0 failed$/ { n = $1 } END { print n + 0 }' "$LOG"; }

part "format" one cargo fmt --all --check
part "lints" one cargo clippy --all-targets --locked -- -D warnings
part "unit, property and integration tests" cargo_tests cargo test --locked
part "crash points of the store" cargo_tests cargo test --locked --features fault-points --test store_faults
part "panics on purpose" cargo_tests cargo test --locked --features fault-points --test faults a_panic
part "man pages" lines tests/man.sh
part "scripts" lines tests/scripts.sh
part "packaging" lines tests/packaging.sh
part "instructions for each request" lines tests/instructions.sh
part "locked memory and the capability for it" lines tests/capability.sh
part "completion" lines tests/completion.sh
part "examples of the manual and the README" lines tests/manual.sh
part "a reader in another language" lines tests/seal-reader.sh
part "from the original and back" lines tests/from-the-original.sh
part "public SDK, vectors over the API, crashes, bad input" go_tests \
	env -C tests/sdk go test -count=1 -timeout 20m -v ./...
part "compatibility, row by row" go_tests env -C tests/compat go test -count=1 -timeout 20m -v ./...
part "TLS alerts, with openssl" lines tests/alerts.sh
part "TLS proxies: nginx and haproxy" lines tests/proxy.sh
part "metrics: promtool and Prometheus" lines tests/monitoring.sh
part "reloads under load" lines tests/soak.sh
part "dashboards and alert rules" lines tests/dashboards.sh
part "h2spec, strict" lines tests/h2spec.sh
part "crates, unsafe code" lines tests/audit.sh
part "attacks, briefly" lines tests/hostile.sh short
part "request smuggling: nginx and haproxy" lines tests/smuggle.sh
part "idle and trickling clients" lines tests/company.sh
part "the tutorial with MinIO" lines \
	env MINIO_BIN="$TOOLS/minio" MC_BIN="$TOOLS/mc" bash tests/minio-tutorial.sh
part "MinIO under load" lines tests/minio-load.sh
part "MinIO around the sealing of its keys" lines tests/seal-minio.sh

printf '\n%s passed, 0 failed\n' "$PASSED"
