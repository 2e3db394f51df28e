# shellcheck shell=dash disable=SC2046,SC2086,SC2154,SC2317
# What a Linux guest does for "ringlet compare", behind lines that set kind, seconds (whole), ms, hold_us, address,
# prefix, host, workloads and points; "$@" is the user's own command.  Says the words of compare/guest.h.  For busybox.
set -u
out=/tmp/compare.out

say() { echo "compare: $*"; }

fail() { # WORKLOAD WHY
	local name=$1
	shift
	say "failed $name $(printf '%s' "$*" | tr -c '\040-\176' ' ' | cut -c 1-180)"
	return 1
}

hold() { usleep "$hold_us"; }

# --- tools ---

# One of the tools, but not for ever; its words are in $out.
limit=$((seconds * 2 + 30))
t() {
	local program=$1
	shift
	timeout "$limit" chroot /mnt "/bin/$program" "$@" >"$out" 2>&1
}

# Why the last program failed with status $1
why() {
	case $1 in
	124 | 137 | 143) echo "it was ended after $limit s" ;;
	127) echo "it is not in the image of tools: $(last)" ;;
	*) echo "exit status $1: $(last)" ;;
	esac
}
last() { grep -v '^ *$' "$out" | tail -n 1; }

# On which disk they are is seen by what is on it; any other disk is the one to measure.
disk=
mount_tools() {
	local d found=1
	mkdir -p /mnt
	for d in /dev/vd?; do
		[ -b "$d" ] || continue
		if [ $found = 1 ] && mount -t ext4 -o ro "$d" /mnt 2>/dev/null; then
			if [ -x /mnt/bin/fio ]; then
				found=0
				continue
			fi
			umount /mnt
		fi
		disk=${disk:-$d}
	done
	[ $found = 0 ] || return 1
	for d in dev proc sys; do mount -o bind /$d /mnt/$d; done
	mount -t tmpfs none /mnt/tmp
}

# The user's command finds tools as programs like any other, after the guest's own.
wrap_tools() {
	local p
	mkdir -p /tmp/tools
	for p in /mnt/bin/*; do
		printf '#!/bin/sh\nexec chroot /mnt "/bin/%s" "$@"\n' "${p##*/}" >"/tmp/tools/${p##*/}"
	done
	chmod 755 /tmp/tools/*
	export PATH="$PATH:/tmp/tools"
}

# --- the device ---

card=
find_card() {
	local c
	for c in /sys/class/net/*; do
		case $(readlink "$c/device/driver") in
		*/virtio_net) card=${c##*/} && return 0 ;;
		esac
	done
	return 1
}

# "1010..." from bit 0 on, to hexadecimal
features() {
	awk '{
		for (n = length($1); n > 0; n -= 4) {
			v = 0
			for (i = 0; i < 4; i++)
				v = v * 2 + substr($1, n - i, 1)
			s = s sprintf("%x", v)
		}
		print s
	}' "$1/device/features"
}

start_net() {
	local tries=10
	[ -w "/proc/sys/net/ipv6/conf/$card/disable_ipv6" ] && echo 1 >"/proc/sys/net/ipv6/conf/$card/disable_ipv6"
	ip link set lo up
	ip link set "$card" up && ip addr add "$address/$prefix" dev "$card" || return 1
	until ping -q -c 1 -W 1 "$host" >"$out" 2>&1; do
		[ $((tries -= 1)) -gt 0 ] || return 1
	done
}

card_count() { # NAMES: the sum of these counters
	local n sum=0
	for n; do sum=$((sum + $(cat "/sys/class/net/$card/statistics/$n"))); done
	echo "$sum"
}

# Reads and writes done
disk_count() { awk '{ print $1 + $5 }' "/sys/block/${disk#/dev/}/stat"; }

# --- measurements ---

# The percentiles of the numbers that come in, one a line, to four figures: busybox's awk may have no logarithm.
percentiles() {
	awk '
		$1 > 0 {
			for (step = .001; $1 / step >= 10000; step *= 10)
				;
			count[int($1 / step + .5) * step]++
		}
		END { for (v in count) printf "%.3f %d\n", v, count[v] }' |
		sort -n | awk -v points="$points" '
		{ value[NR] = $1; n += $2; upto[NR] = n }
		END {
			if (!n)
				exit 1
			np = split(points, p, " ")
			k = 1
			for (i = 1; i <= np; i++) {
				while (k < NR && upto[k] < p[i] / 100 * n)
					k++
				printf "%s%.3f", (i > 1 ? " " : ""), value[k]
			}
			print ""
		}'
}

uptime_now() { cut -d ' ' -f 1 /proc/uptime; }

# A tool is at work for longer than it is looked at: its start and its end, which cost more than the work where KVM is slow, are not
# in what is counted. Sets $count and $took.
margin=3
measure() { # WORKLOAD COUNTER TOOL...
	local name=$1 counter=$2 idle before from pid status
	shift 2
	idle=$($counter)
	"$@" &
	pid=$!
	until [ $(($($counter) - idle)) -gt 50 ] || ! kill -0 $pid 2>/dev/null; do usleep 20000; done
	usleep 200000
	say "begin $name busy"
	before=$($counter)
	from=$(uptime_now)
	usleep $((ms * 1000))
	count=$(($($counter) - before))
	took=$(awk -v from="$from" -v to="$(uptime_now)" 'BEGIN { print to - from }')
	say "stop $name"
	kill -0 $pid 2>/dev/null
	status=$?
	wait $pid || { fail "$name" "the tool: $(why $?)"; return; }
	[ $status = 0 ] || fail "$name" "the tool has ended while it was looked at, after $took s: the guest is too slow"
}

# WORKLOAD COUNT SECONDS RATE [LATENCY...]; what is missing is told as such.
end() {
	local name=$1 count=$2 took=$3 rate=$4
	shift 4
	if [ -z "$took" ] || [ -z "$rate" ]; then
		fail "$name" "there is no result in: $(last)"
		return
	fi
	say "end $name $count $took $rate"
	[ -z "$*" ] || say "latency $name $*"
}

# What the receiver got: seconds the sender sent for, bits a second, frames a second (UDP)
iperf_result() {
	awk '
		{
			for (i = 1; i < NF; i++) {
				if ($i ~ /^[0-9.]+-[0-9.]+$/)
					split($i, span, "-")
				if ($i == "Kbits/sec")
					at = i
			}
		}
		$NF == "sender" { sent = span[2] - span[1] }
		$NF == "receiver" {
			split($(at + 3), got, "/")
			if (span[2] > 0)
				printf "%.2f %.0f %.1f\n", sent, $(at - 1) * 1000, (got[2] - got[1]) / span[2]
		}' "$out"
}

# Its server takes a moment to be done with the client before.
iperf_client() {
	local tries=10 status
	until t iperf3 -c "$host" --connect-timeout 5000 "$@"; do
		status=$?
		grep -q 'server is busy' "$out" && [ $((tries -= 1)) -gt 0 ] || return $status
		usleep 300000
	done
}

iperf() { # WORKLOAD FIELD COUNTER OPTIONS...
	local name=$1 field=$2 counter=$3 count took
	shift 3
	measure "$name" "$counter" iperf_client -f k -t $((seconds + margin)) "$@" || return
	set -- $(iperf_result)
	end "$name" "$count" "$took" "$(eval echo "\${$field-}")"
}

sent() { card_count tx_packets; }
crossed() { card_count tx_packets rx_packets; }

run_tcp() { iperf tcp 2 crossed; }
run_tcp_in() { iperf tcp-in 2 crossed -R; }
# 18 bytes of payload make a frame of 60.
run_pps() { iperf pps 3 sent -u -b 0 -l 18; }

# Of sockperf: those that count, a second
rr_rate() {
	awk -F '[=; ]+' '
		function field(name,  i) { for (i = 1; i < NF; i++) if ($i == name) return $(i + 1) }
		/\[Valid Duration\]/ && field("RunTime") > 0 { print field("ReceivedMessages") / field("RunTime") }' "$out"
}

rr_times() { # FILE: its full log
	awk -F ', ' '/^packet,/ { begun = 1; next } begun && NF == 4 { print $4 }' "$1"
}

# Each request is a segment, and its acknowledgement travels with the answer.
run_rr() {
	local count took
	measure rr sent t sockperf ping-pong --tcp -i "$host" -t $((seconds + margin)) --full-rtt --full-log /tmp/rr.csv || return
	end rr "$count" "$took" "$(rr_rate)" "$(rr_times /mnt/tmp/rr.csv | percentiles)"
	rm -f /mnt/tmp/rr.csv
}

ping_times() { sed -n 's/.* time=\([0-9.]*\) ms.*/\1/p' "$out" | awk '{ print $1 * 1000 }'; }
ping_rate() { sed -n 's/^[0-9]* packets transmitted, \([0-9]*\) received.* time \([0-9]*\)ms$/\1 \2/p' "$out" | awk '$2 > 0 { print $1 * 1000 / $2 }'; }

# That some were lost is no failure: -W says how long the last is waited for.
pings() { t ping -c $(((ms + margin * 1000) / 10)) -i 0.01 -W 1 "$host" || [ "$(ping_times | grep -c .)" -gt 0 ]; }

run_ping() {
	local count took
	measure ping sent pings || return
	end ping "$count" "$took" "$(ping_rate)" "$(ping_times | percentiles)"
}

# Of fio's JSON: seconds, I/Os a second, bytes a second; then the percentiles
fio_result() { # read|write
	awk -v want="$1" -v points="$points" '
		{ gsub(/[",{}]/, ""); name = $1; value = $3 }
		name == "read" || name == "write" || name == "trim" || name == "sync" { part = name }
		part != want { next }
		name == "iops" { iops = value }
		name == "bw_bytes" { bytes = value }
		name == "runtime" { took = value / 1000 }
		name == "percentile" { inside = 1 }
		inside && name + 0 > 0 { ns[name + 0] = value }
		name == "bw_min" { inside = 0 }
		END {
			if (!took)
				exit
			printf "%.3f %.1f %.0f", took, iops, bytes
			np = split(points, p, " ")
			for (i = 1; i <= np; i++)
				printf " %.3f", ns[p[i] + 0] / 1000
			print ""
		}' "$out"
}

disk_fio() { # RUNTIME OPTIONS...
	local runtime=$1
	shift
	t fio --name=compare --filename="$disk" --direct=1 --ioengine=libaio --thread --time_based --runtime="$runtime" \
		--norandommap --randrepeat=1 --lat_percentiles=1 --clat_percentiles=0 \
		--percentile_list="$(echo "$points" | tr ' ' :)" --output-format=json "$@"
}

blocks() { # WORKLOAD FIELD read|write OPTIONS...
	local name=$1 field=$2 part=$3 count took rate
	shift 3
	measure "$name" disk_count disk_fio "$((ms + margin * 1000))ms" "$@" || return
	set -- $(fio_result "$part")
	[ $# -gt 3 ] || { fail "$name" "there is no result in: $(last)"; return; }
	rate=$(eval echo "\$$field")
	shift 3
	end "$name" "$count" "$took" "$rate" "$@"
}

run_randread() { blocks randread 2 read --rw=randread --bs=4k --iodepth=32; }
run_randwrite() { blocks randwrite 2 write --rw=randwrite --bs=4k --iodepth=32; }
run_seq() { blocks seq 3 read --rw=read --bs=128k --iodepth=8; }
run_qd1() { blocks qd1 2 read --rw=randread --bs=4k --iodepth=1; }

# Nobody knows how long it takes; how it ends is not lost.  By env: none of our functions is meant.
run_command() {
	local from to
	export COMPARE_HOST="$host" COMPARE_DISK="$disk" COMPARE_CARD="$card"
	hold
	say "begin command"
	hold
	from=$(uptime_now)
	env "$@" >"$out" 2>&1 || { fail command "exit status $?: $(last)"; return; }
	to=$(uptime_now)
	say "stop command"
	hold
	set -- $(awk -v from="$from" -v to="$to" 'BEGIN { s = to > from ? to - from : .01; print s, 1 / s }')
	end command 1 "$1" "$2"
}

# --- all of it ---

mount_tools
tools=$?
if [ "$kind" = net ]; then
	find_card || { fail setup "there is no card"; exit 1; }
	say "features $(features "/sys/class/net/$card")"
	start_net || { fail setup "$host does not answer"; exit 1; }
else
	[ -n "$disk" ] || { fail setup "there is no disk but that of the tools"; exit 1; }
	say "features $(features "/sys/block/${disk#/dev/}")"
fi
[ $tools = 1 ] || wrap_tools

status=0
for workload in $workloads; do
	case $workload in
	command) run_command "$@" ;;
	tcp | tcp-in | rr | pps | ping | randread | randwrite | seq | qd1)
		if [ $tools = 0 ]; then
			"run_$(echo "$workload" | tr - _)"
		else
			fail "$workload" "no disk holds the tools"
		fi
		;;
	*) fail "$workload" "this guest does not know it" ;;
	esac || status=1
done
exit $status
