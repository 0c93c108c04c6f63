#!/bin/sh
# Installs what the tests need, and does nothing where it is there already:
#   tools.sh NAME MODULE@VERSION   a Go program, into target/tools
#   tools.sh local NAME...         programs of tests/bench and tests, into target/tools
#   tools.sh debian NAME...        Debian packages, where root; PROGRAM=PACKAGE where the names differ
#   tools.sh python FOLDER PACKAGE==VERSION...  Python packages, into an environment of their own, target/tools/FOLDER
set -eu
TOOLS=${TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/target/tools}
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$TOOLS"
GOBIN=$TOOLS
export GOBIN

case $1 in
local)
	shift
	for name; do
		echo "== building $name"
		folder=$HERE/bench/$name
		[ -d "$folder" ] || folder=$HERE/$name
		(cd "$folder" && go build -o "$TOOLS/$name" .)
	done
	;;
debian)
	shift
	missing=
	for name; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${name%=*}" >/dev/null 2>&1 || missing="$missing ${name#*=}"
	done
	[ -n "$missing" ] || exit 0
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "== not installed:$missing (needs root and apt-get); what needs them is skipped and says so"
		exit 0
	fi
	echo "== installing Debian packages:$missing"
	# Servers among them are for the tests alone: their services are not started.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		trap 'rm -f $policy' EXIT
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
	fi
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends $missing >/dev/null
	;;
python)
	folder=$TOOLS/$2
	shift 2
	[ -x "$folder/bin/python3" ] && [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$*" ] && exit 0
	echo "== installing Python packages: $*"
	rm -rf "$folder"
	# On Debian, making environments is a package of its own.
	python3 -m venv "$folder" >/dev/null 2>&1 || {
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
		python3 -m venv "$folder"
	}
	"$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
	echo "$*" >"$folder/.stamp"
	;;
*)
	stamp=$TOOLS/.$1
	[ -x "$TOOLS/$1" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$2" ] && exit 0
	echo "== installing $2 (this may take some minutes)"
	go install "$2"
	echo "$2" >"$stamp"
	;;
esac
