# kes: the commands that matter.
#   make run    build the server and start it on an embedded default (./run)
#   make static the binary for packages (target/static/kes)
#   make test   install what the tests need into target/, and run all of them
# Variables: KES_BIN (test another binary), ADDR (where `make run` listens), PREFIX and DESTDIR (make install).

CARGO   ?= cargo
GO      ?= go
PREFIX  ?= /usr/local
ADDR    ?= 127.0.0.1:7373
KES     := target/release/kes
KES_BIN ?= $(CURDIR)/$(KES)
TOOLS   := $(CURDIR)/target/tools
# ring's C code by clang, where there is one, makes a TLS handshake a tenth cheaper than by gcc (docs/performance.md).
CLANG   = $(or $(shell command -v clang),cc)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# Pinned versions of the real clients and of the protocol checker.
MINIO  := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
MC     := github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
H2SPEC := github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
NFPM   := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
CRANE  := github.com/google/go-containerregistry/cmd/crane@v0.22.1

export KES_BIN TOOLS

.PHONY: all build static static-gnu run test unit tools bench bench-tools seal-scale fuzz install clean hostile

all: build

build:
	@echo "== building $(KES)"
	KES_COMMIT=$(COMMIT) CC_x86_64_unknown_linux_gnu=$(CLANG) $(CARGO) build --release --locked

# The binary that the packages ship: static, for any Linux. See packaging/static.sh.
static:
	@KES_COMMIT=$(COMMIT) packaging/static.sh target/static

# Where the parts for musl are missing: static with glibc, larger; names are looked up in files and DNS only.
static-gnu:
	KES_COMMIT=$(COMMIT) RUSTFLAGS="-Ctarget-feature=+crt-static" \
		$(CARGO) build --release --locked --target $(shell uname -m)-unknown-linux-gnu --target-dir target/static-gnu
	@cp target/static-gnu/$(shell uname -m)-unknown-linux-gnu/release/kes target/static-gnu/kes
	@echo "== target/static-gnu/kes: $$(stat -c %s target/static-gnu/kes) bytes"

.PHONY: packages packaging-tools package-test static-panics reproduce

# deb, rpm, apk, OCI image, bill of materials and SHA256SUMS in target/packages.
packages: static packaging-tools
	@packaging/packages.sh target/static/kes

packaging-tools:
	@tests/tools.sh nfpm $(NFPM)

# Installs the packages in Debian systems of their own, starts, upgrades, removes; as root, some minutes.
package-test: packages static-panics
	@tests/tools.sh debian debootstrap lintian rpmlint rpm
	@tests/tools.sh minio $(MINIO)
	@tests/tools.sh mc $(MC)
	@tests/tools.sh crane $(CRANE)
	@tests/package-test.sh

# Panics in the static binary are caught: in a build like it that has places to panic. Its unwinder is put together by us.
static-panics:
	@packaging/static.sh target/static-faults --features fault-points
	KES_FAULT_BIN=$(CURDIR)/target/static-faults/kes RUST_BACKTRACE=1 \
		$(CARGO) test --locked --features fault-points --test faults -- --exact a_panic_costs_one_request_or_one_connection_and_nothing_else

# The static binary twice, in two folders, compared.
reproduce:
	@packaging/reproduce.sh

run: build
	@packaging/run.sh $(CURDIR)/$(KES) $(CURDIR)/run $(ADDR)

# Everything, one part after the other; the last line is `N passed, 0 failed`.
test: build tools
	@tests/all.sh

# Format, lints, unit and property tests, and the tests that start the binary.
unit:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) test --locked
	$(CARGO) test --locked --features fault-points --test store_faults --test faults

tools:
	@tests/tools.sh minio $(MINIO)
	@tests/tools.sh mc $(MC)
	@tests/tools.sh h2spec $(H2SPEC)
	@tests/tools.sh debian openssl curl mandoc shellcheck python3 nginx haproxy prometheus faketime zsh fish jq setcap=libcap2-bin systemd-analyze=systemd
	@tests/tools.sh debian valgrind
	@tests/tools.sh local kesload s3load hostile
	@tests/tools.sh python seal-reader cryptography==48.0.0

bench-tools:
	@tests/tools.sh debian nginx clang
	@tests/tools.sh local kesload

# Server CPU per request and memory, beside nginx in the same run.
bench: bench-tools build
	@tests/bench/run.sh

# 100,000 sealed keys: adopt, rotate, verify, list, start. Takes minutes.
seal-scale: build tools
	@tests/seal-scale.sh

# Attacks of many kinds, with the normal clients' p99 and the server's memory.
hostile: build
	@tests/tools.sh debian openssl python3 nginx haproxy
	@tests/tools.sh local hostile
	@tests/tools.sh python sslyze sslyze==6.3.1
	@tests/hostile.sh
	@tests/smuggle.sh

# Coverage-guided fuzzing, 20 s for each target (SECONDS_EACH=1800 for a thorough run); needs a nightly toolchain and cargo-fuzz.
fuzz:
	@tests/fuzz.sh

install: build
	install -Dm755 $(KES) $(DESTDIR)$(PREFIX)/bin/kes
	for page in man/*.[1-8]; do \
		install -Dm644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; \
	done
	install -Dm644 packaging/kes.service $(DESTDIR)$(PREFIX)/lib/systemd/system/kes.service

clean:
	$(CARGO) clean
