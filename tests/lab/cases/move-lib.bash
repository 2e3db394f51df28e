# Sourced, after lib.sh, by the cases in which a running device is moved from one datapath to another under a load whose every byte
# is compared. The guest runs in the background, since daemons die with the shell that started them.
# shellcheck shell=bash disable=SC2154
#   TEST_MOVES=100   how often, rounded up so that the device ends where it began
: >"$tmp/moves"
guest=

stop() { # WHY...  with what the guest has said
	show "$tmp/moves" "$tmp/console" "$tmp/out" "$tmp/err"
	fail "$*"
}

guest_starts() { # OPTIONS... -- SCRIPT
	: >"$tmp/out"
	(
		in_guest --name moved "$@"
		exit "$status"
	) &
	guest=$!
}

guest_says() { # LINE SECONDS
	local end=$((SECONDS + $2))
	until grep -aq "^$1" "$tmp/out"; do
		kill -0 "$guest" 2>/dev/null || stop "the guest ended before it said '$1'"
		((SECONDS < end)) || stop "the guest did not say '$1' within $2 s"
		sleep 0.2
	done
}

guest_ends() { # AFTER WHAT
	status=0
	wait "$guest" || status=$?
	expect_status 0 "$1"
}

guest_pid() { # of its Ringlet
	[ -z "$guest" ] || cat "/proc/$guest/task/$guest/children" 2>/dev/null
}

# Before the daemons: "vdpa dev del" waits, deaf to signals, for whoever has the device open.
guest_gone() {
	local ringlet_pid
	ringlet_pid=$(guest_pid)
	if [ -n "$ringlet_pid" ]; then
		kill -KILL "${ringlet_pid% }"
		wait "$guest"
	fi
} >/dev/null 2>&1

# Descriptors and threads of Ringlet; the kernel's io_uring workers come and go.
handles() {
	local ringlet_pid
	ringlet_pid=$(guest_pid)
	ringlet_pid=${ringlet_pid% }
	echo "$(find "/proc/$ringlet_pid/fd" -mindepth 1 | wc -l) descriptors, $(cat "/proc/$ringlet_pid/task"/*/comm | grep -cv '^iou-') threads"
}

# Until COMMAND succeeds.
until_so() { # SECONDS WHAT COMMAND...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		kill -0 "$guest" 2>/dev/null || stop "the guest ended after $(moved) moves, before this: $what"
		((SECONDS < end)) || stop "after $(moved) moves not to be seen: $what"
		sleep 0.02
	done
}

move() { # DEVICE WHO
	"$ringlet" ctl moved datapath "$1" "$2" >>"$tmp/moves" 2>&1 || stop "move $(($(moved) + 1)), to $2, is refused"
}

moved() { grep -c ': from ' "$tmp/moves"; }

refused() { # DEVICE WHO PATTERN
	if "$ringlet" ctl moved datapath "$1" "$2" >"$tmp/refused" 2>&1; then stop "it is moved to $2"; fi
	grep -qE -- "$3" "$tmp/refused" || stop "the refusal does not name '$3': $(cat "$tmp/refused")"
}

# How often each pair, and how long the vCPUs stood still and nobody served the device.
report_moves() { # EXPECTED
	sed -nE 's/^[^:]*: from (.*) to (.*); vCPUs stood still for ([0-9]+) us, nobody served it for ([0-9]+) of them$/\1 to \2\t\3\t\4/p' \
		"$tmp/moves" >"$tmp/pauses"
	[ "$(wc -l <"$tmp/pauses")" = "$1" ] || stop "not $1 moves with a pause but $(wc -l <"$tmp/pauses")"
	{
		cut -f 1 "$tmp/pauses" | sort -u
		echo "all"
	} | while read -r pair; do
		echo "$pair: $(pauses "$pair" 2 "vCPUs stood still"), $(pauses "$pair" 3 "nobody served it")"
	done
}

pauses() { # PAIR COLUMN WHAT
	awk -F '\t' -v pair="$1" -v column="$2" 'pair == "all" || $1 == pair { print $column }' "$tmp/pauses" | sort -n |
		awk -v column="$2" -v what="$3" '{ us[NR] = $1 } END {
			printf "%s%s: median %.1f ms, worst %.1f ms", column == 2 ? NR " moves, " : "", what, us[int((NR + 1) / 2)] / 1000, us[NR] / 1000 }'
}
