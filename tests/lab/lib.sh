# Sourced by the cases of the lab. A case prints what it sees; it ends 0, or through fail or skip, whose words are
# the last line and so the reason in the report.
# shellcheck shell=bash
#   RINGLET=PROGRAM   runs that instead of build/ringlet
#   KERNEL=NAME       boots that of build/guest where a case does not choose one
#   LAB_LIMIT         seconds that the case is given, from the lab's agent
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

ringlet=${RINGLET:-build/ringlet}
kernel=${KERNEL:-6.12-cloud}
tmp=$(mktemp -d)
patience=$((${LAB_LIMIT:-120} - 10)) # a guest that hangs shall be ended by ringlet, with its console in the log
pid=
trap 'show "$tmp/console" "$tmp/out" "$tmp/err"; fail "ended by signal TERM"' TERM
trap 'if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT

fail() {
	echo "$*"
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

need_guest() { # NAME
	[ -e "build/guest/$1/initramfs.cpio" ] || fail "build/guest/$1/initramfs.cpio is missing; run: make guest-images"
	guest_args=(-k "build/guest/$1/vmlinuz" -i "build/guest/$1/initramfs.cpio")
}

show() { # FILE...  into the log of the case
	local file
	for file; do
		if [ -s "$file" ]; then
			echo "--- ${file##*/}"
			tail -n 60 "$file" | tr -d '\r'
		fi
	done
	echo "---"
}

# Runs one guest to its end: $status, $tmp/out, $tmp/err, $tmp/console where there is a command.
run_guest() { # OPTIONS... [-- COMMAND...]
	local option log=()
	need_guest "$kernel"
	for option; do
		if [ "$option" = -- ]; then
			log=(--log "$tmp/console")
			break
		fi
	done
	status=0
	"$ringlet" run "${guest_args[@]}" "${log[@]}" "$@" <"${input:-/dev/null}" >"$tmp/out" 2>"$tmp/err" || status=$?
	show "$tmp/console" "$tmp/out" "$tmp/err"
	echo "exit status $status"
}

# Starts a guest with its console on $tmp/out, to be talked to with say and wait_for; finish waits for its end.
start_guest() { # OPTIONS...
	need_guest "$kernel"
	mkfifo "$tmp/in"
	"$ringlet" run "${guest_args[@]}" "$@" <"$tmp/in" >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	exec {guest_in}>"$tmp/in"
}

# A guest that has just ended takes no input. That is finish's to report, and not by SIGPIPE.
say() {
	(
		trap '' PIPE
		printf '%s\n' "$*" >&"$guest_in"
	) 2>/dev/null || true
}

lines_with() { # PATTERN
	tr -d '\r' <"$tmp/out" | grep -ac -- "$1" || true
}

# wait_for PATTERN [SECONDS [TIMES]]: until the console has shown it on that many lines
wait_for() {
	local pattern=$1 left=$((${2:-60} * 5)) times=${3:-1}
	while [ "$(lines_with "$pattern")" -lt "$times" ]; do
		if ! kill -0 "$pid" 2>/dev/null; then
			show "$tmp/out" "$tmp/err"
			fail "the guest ended before its console said '$pattern'"
		fi
		if ((left-- == 0)); then
			show "$tmp/out" "$tmp/err"
			fail "the console did not say '$pattern' within ${2:-60} s"
		fi
		sleep 0.2
	done
}

wait_for_shell() { # [TIMES]
	wait_for '^ringlet:~# ' 80 "${1:-1}"
}

finish() { # SECONDS
	local left=$(($1 * 5))
	while kill -0 "$pid" 2>/dev/null; do
		if ((left-- == 0)); then
			show "$tmp/out" "$tmp/err"
			fail "ringlet had not ended $1 s later"
		fi
		sleep 0.2
	done
	status=0
	wait "$pid" || status=$?
	pid=
	show "$tmp/out" "$tmp/err"
	echo "exit status $status"
}

expect_status() { # NUMBER WHY
	[ "$status" = "$1" ] || fail "exit status $status and not $1 after $2"
}

expect_line() { # FILE PATTERN
	grep -aqiE -- "$2" "$1" || fail "nothing like '$2' in ${1##*/}"
}

# A guest with the disk of tools as /dev/vda runs SCRIPT: $status, $tmp/out, $tmp/err, $tmp/console.
in_guest() { # OPTIONS... -- SCRIPT
	local options=()
	while [ "$1" != -- ]; do options+=("$1") && shift; done
	[ -e build/guest/tools.img ] || fail "build/guest/tools.img is missing; run: make guest-images"
	run_guest --timeout "${patience}s" --disk build/guest/tools.img,ro "${options[@]}" -- \
		sh -c "$(cat tests/lab/guest/prelude.sh)"$'\n'"$2"
}

sha() { # FILE
	sha256sum "$1" | cut -d ' ' -f 1
}

# A tap with an address, made beforehand as an administrator would: $tap.
make_tap() { # MTU [multi_queue]
	tap=tap0
	ip link del $tap 2>/dev/null # of the case before
	# shellcheck disable=SC2086 # a word or none
	ip tuntap add dev $tap mode tap vnet_hdr ${2:-} || fail "no tap can be made"
	ip addr add 10.1.0.1/24 dev $tap
	ip link set $tap mtu "$1" up
}
