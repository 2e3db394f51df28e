# Sourced by run.sh before a case: guests beside peers. A case is a file case-NAME.sh of functions test_NAME, each run in
# a shell of its own; "# limit: SECONDS" on the line of a function is its time (default 60).
#   RINGLET, BUILD   what is tested; guests are in $BUILD/peers/guests
#   COUNT=N          how often what is repeated is (default: 10 or so)
# shellcheck shell=bash
# shellcheck source=tests/peers/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
build=${BUILD:-build}
ringlet=${RINGLET:-$build/ringlet}
guests=$build/peers/guests
declare -gA guest_pid=() guest_in=()

fail() {
	echo "FAILED: $*"
	exit 1
}

skip() {
	echo "SKIP: $*"
	exit 77
}

cases_end() {
	local status=$? name
	trap '' TERM
	# shellcheck disable=SC2154 # run.sh makes it
	for name in "${!guest_pid[@]}"; do
		kill -KILL "${guest_pid[$name]}" 2>/dev/null
		wait "${guest_pid[$name]}" 2>/dev/null
		case $status in 0 | 77) ;; *) echo "--- guest $name" && tail -n 15 "$tmp/$name.out" "$tmp/$name.err" | tr -d '\r' ;; esac
	done
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		for name in "${!peers_pid[@]}"; do peer_show "$name" 12; done
	fi
	peer_stop_all
	declare -F at_end >/dev/null && at_end
	rm -rf "$tmp"
	exit "$status"
}

# ---- guests

guest_start() { # NAME GUEST ARGUMENTS OPTION...
	local name=$1 guest=$2 arguments=$3 fd
	shift 3
	mkfifo "$tmp/$name.in"
	exec {fd}<>"$tmp/$name.in"
	guest_in[$name]=$fd
	setpriv --pdeathsig KILL "$ringlet" run -k "$guests/$guest.elf" -m 64M --timeout "${TIMEOUT:-300}s" \
		--control "$tmp/$name.ctl" -a "$arguments" "$@" <&"$fd" >"$tmp/$name.out" 2>"$tmp/$name.err" &
	guest_pid[$name]=$!
}

guest_alive() { kill -0 "${guest_pid[$1]}" 2>/dev/null; }

until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS <= end)) || return 1
		sleep 0.05
	done
}

guest_line() { # NAME PATTERN [SECONDS]: until it has printed that; or it fails
	local end=$((SECONDS + ${3:-20}))
	until grep -sqaE -- "$2" "$tmp/$1.out" "$tmp/$1.err"; do
		guest_alive "$1" || grep -sqaE -- "$2" "$tmp/$1.out" "$tmp/$1.err" || fail "guest $1 ended without a line like '$2'"
		((SECONDS <= end)) || fail "guest $1 has not printed a line like '$2' in ${3:-20} s"
		sleep 0.05
	done
}

guest_ready() { guest_line "$1" '^ready' "${2:-20}"; }

guest_say() { printf '%s' "$2" >&"${guest_in[$1]}"; }

# Sets $answer to the line it prints for that.
guest_ask() { # NAME CHARACTER WORD [SECONDS]
	local before end=$((SECONDS + ${4:-20}))
	before=$(grep -ca "^$3 .* \." "$tmp/$1.out")
	guest_say "$1" "$2"
	while [ "$(grep -ca "^$3 .* \." "$tmp/$1.out")" -le "$before" ]; do
		guest_alive "$1" || fail "guest $1 has ended"
		((SECONDS <= end)) || fail "guest $1 does not answer '$2' within ${4:-20} s"
		sleep 0.02
	done
	answer=$(grep -a "^$3 " "$tmp/$1.out" | tail -n 1 | tr -d '\r')
}

# The number after a word in $answer.
field() { # WORD
	local rest=" $answer "
	rest=${rest#* "$1" }
	echo "${rest%% *}"
}

# What guest NAME's counter WORD is by 'p'.
guest_count() { # NAME WORD
	guest_ask "$1" p state
	field "$2"
}

# Until that counter is N higher than FROM.
guest_grows() { # NAME WORD FROM N [SECONDS]
	local end=$((SECONDS + ${5:-20})) now
	while :; do
		guest_ask "$1" p state
		now=$(field "$2")
		((now < $3 + $4)) || return 0
		((SECONDS <= end)) || fail "guest $1: $2 went from $3 to only $now in ${5:-20} s: $answer"
		sleep 0.05
	done
}

# It ends by itself and nothing was wrong.
guest_end() { # NAME [SECONDS]
	local name=$1 fd=${guest_in[$1]} status
	until_true "${2:-30}" guest_ended "$name" || fail "guest $name has not ended in ${2:-30} s"
	wait "${guest_pid[$name]}"
	status=$?
	! grep -qa '^not ok' "$tmp/$name.out" || fail "guest $name: $(grep -am1 '^not ok' "$tmp/$name.out" | tr -d '\r')"
	[ "$status" = 0 ] || fail "guest $name ended with status $status"
	grep -aE '^(done|crc|offered|tag|fuse|features)' "$tmp/$name.out" | tr -d '\r' | sed "s/^/$name: /"
	exec {fd}>&-
	rm -f "$tmp/$name.in"
	unset "guest_pid[$name]" "guest_in[$name]"
}
guest_ended() { ! guest_alive "$1"; }

guest_quit() { # NAME [SECONDS]
	guest_say "$1" q
	guest_end "$@"
}

# From start to end: guest_run NAME GUEST ARGUMENTS OPTION...
guest_run() {
	guest_start "$@"
	guest_end "$1" "${RUN_SECONDS:-40}"
}

ctl() { # NAME COMMAND...
	local name=$1
	shift
	timeout 20 "$ringlet" ctl "$tmp/$name.ctl" "$@"
}

# File descriptors and threads of guest NAME's process.
guest_handles() {
	local fds=("/proc/${guest_pid[$1]}/fd"/*)
	# The kernel's workers for io_uring come and go by themselves.
	echo "fds ${#fds[@]} threads $(cat "/proc/${guest_pid[$1]}/task"/*/comm 2>/dev/null | grep -cv '^iou-')"
}

crc_of_file() { # FILE BYTES
	python3 -c 'import sys, zlib
print("%08x" % zlib.crc32(open(sys.argv[1], "rb").read(int(sys.argv[2]))))' "$1" "$2"
}

# The file holds what guest NAME has read at the end; before guest_end.
same_as_file() { # NAME FILE
	local crc bytes
	read -r crc bytes < <(tr -d '\r' <"$tmp/$1.out" | awk '$1 == "crc" { print $2, $4 }')
	[ -n "$crc" ] || fail "guest $1 tells no checksum"
	[ "$(crc_of_file "$2" "$bytes")" = "$crc" ] || fail "$2 holds something else than guest $1 has written"
}
