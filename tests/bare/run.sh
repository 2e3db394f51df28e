#!/bin/bash
# Boots every bare guest and compares how it ends: TAP on stdout, status 1 if anything differs.
# usage: RINGLET=build/ringlet tests/bare/run.sh [NAME...]     NAME as in the table: smp-8, serial, ...
cd "$(dirname "$0")/../.." || exit 1
ringlet=${RINGLET:-build/ringlet}
bare=${BUILD:-build}/bare
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chosen=" $* "
failed=0
count=0

# What is wrong with the run just made; empty: nothing
reason=

# run GUEST STATUS OPTIONS...: into $work/out and $work/err; sets $reason
run() {
	local guest=$1 want=$2 rc
	shift 2
	timeout -k 1 60 "$ringlet" run -k "$bare/$guest.elf" -m 64M --timeout 20s "$@" \
		>"$work/out" 2>"$work/err" </dev/null
	rc=$?
	ended "$rc" "$want"
}

ended() { # GOT WANTED
	reason=
	if grep -q '^not ok' "$work/out"; then
		reason=$(grep -m1 '^not ok' "$work/out" | tr -d '\r' | sed 's/^not ok //')
	elif [ "$1" -ne "$2" ]; then
		reason="exit status $1, expected $2"
	fi
}

expect() { # FILE EXTENDED-REGEX
	[ -n "$reason" ] && return
	grep -qE -- "$2" "$work/$1" || reason="no line matches '$2' in std$1"
}

report() { # NAME
	count=$((count + 1))
	if [ -z "$reason" ]; then
		echo "ok - bare/$1"
		return
	fi
	failed=1
	echo "not ok - bare/$1: $reason"
	head -c 4000 "$work/out" "$work/err" | tr -d '\r' | sed 's/^/# /'
}

wanted() {
	[ "$chosen" = "  " ] || [[ $chosen == *" $1 "* ]]
}

# simple NAME GUEST STATUS OPTIONS...
simple() {
	local name=$1
	shift
	wanted "$name" || return
	run "$@"
	report "$name"
}

# As simple, and a pattern in what the guest or the VMM prints
simple_expect() { # NAME out|err REGEX GUEST STATUS OPTIONS...
	local name=$1 file=$2 regex=$3
	shift 3
	wanted "$name" || return
	run "$@"
	expect "$file" "$regex"
	report "$name"
}

wait_for_line() { # TEXT
	local n
	for ((n = 0; n < 500; n++)); do
		grep -q "$1" "$work/out" 2>/dev/null && return
		sleep 0.02
	done
	return 1
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

needs_memory() { # NAME MIB
	local free
	wanted "$1" || return
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$free" -ge "$2" ] && return
	count=$((count + 1))
	echo "ok - bare/$1 # SKIP $free MiB of memory available, $2 needed"
	return 1
}

serial_input() {
	local pid
	wanted serial || return
	: >"$work/out"
	rm -f "$work/in"
	mkfifo "$work/in"
	timeout -k 1 60 "$ringlet" run -k "$bare/serial.elf" -m 64M --timeout 20s \
		>"$work/out" 2>"$work/err" <"$work/in" &
	pid=$!
	exec 3>"$work/in" # held open: an end of input is not what is tested
	wait_for_line ready
	awk 'BEGIN { for (i = 0; i < 6000; i++) printf "%c", 65 + i % 23 }' >&3
	wait $pid
	ended $? 0
	exec 3>&-
	expect out '^ready'
	report serial
}

console() { # NAME LINES OPTIONS...
	local name=$1 lines=$2
	wanted "$name" || return
	run console 0 -a "lines=$lines" "${@:3}"
	awk -v n="$lines" 'BEGIN {
		for (i = 0; i < n; i++) {
			s = sprintf("%08d", i)
			for (k = 0; k < 55; k++)
				s = s sprintf("%c", 65 + (i + k) % 26)
			print s
		}
	}' >"$work/want"
	if [ -z "$reason" ] && ! cmp -s "$work/want" "$work/out"; then
		reason=$(cmp "$work/want" "$work/out" 2>&1 | head -1 | sed "s|$work/||g")
		reason="${reason:-the output differs}; $(wc -c <"$work/out") of $(wc -c <"$work/want") bytes"
	fi
	report "$name"
}

# Somebody who does not read our output must not take away the means to end us.
blocked() { # NAME OPTIONS...
	local rc
	wanted "$1" || return
	rm -f "$work/full"
	mkfifo "$work/full"
	exec 3<>"$work/full"
	head -c 65536 /dev/zero >&3
	: >"$work/out"
	timeout -k 1 12 "$ringlet" run -k "$bare/console.elf" -m 64M --timeout 4s -a lines=65536 "${@:2}" \
		>&3 2>"$work/err" </dev/null
	rc=$?
	exec 3>&-
	ended $rc 124
	[ $rc -ne 137 ] || reason="with its output blocked it outlives --timeout and SIGTERM"
	report "$1"
}

# Two SIGTERMs end it at once, whatever the guest does.  timeout(1) would swallow the second.
terminate() { # NAME GUEST
	local pid watchdog rc start took
	wanted "$1" || return
	: >"$work/out"
	"$ringlet" run -k "$bare/$2.elf" -m 64M --timeout 20s >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	(sleep 25 && kill -KILL $pid) >/dev/null 2>&1 &
	watchdog=$!
	reason="the guest does not start"
	if wait_for_line ready; then
		start=$(now_ms)
		kill -TERM $pid
		sleep 0.1
		kill -TERM $pid 2>/dev/null
		wait $pid
		rc=$?
		took=$(($(now_ms) - start))
		ended $rc 143
		[ -n "$reason" ] || [ $took -le 1100 ] || reason="it took $took ms"
	else
		kill -KILL $pid
	fi 2>/dev/null
	wait $pid 2>/dev/null
	kill $watchdog 2>/dev/null
	wait $watchdog 2>/dev/null
	report "$1"
}

# --timeout is kept to a second
times_out() { # NAME GUEST
	local start took
	wanted "$1" || return
	start=$(now_ms)
	run "$2" 124 --timeout 1s
	took=$(($(now_ms) - start))
	[ -n "$reason" ] || { [ $took -ge 1000 ] && [ $took -le 2500 ]; } || reason="it took $took ms"
	expect out '^ready'
	report "$1"
}

# --- virtio ---

# As simple, over one transport with a new disk of 4 MiB at $work/disk.  GUEST-OPTIONS are words.
virtio() { # NAME GUEST pci|mmio GUEST-OPTIONS OPTIONS...
	local name=$1 guest=$2 transport=$3 append=$4
	wanted "$name" || return 1
	rm -f "$work/disk"
	truncate -s 4M "$work/disk"
	run "virtio_$guest" 0 --transport "$transport" -a "transport=$transport $append" "${@:5}"
	# A disk's guest leaves text of which awk makes the same, and a hole.
	if [ -z "$reason" ] && [ "$guest" = blk ]; then
		want_disk
		cmp -s "$work/want-disk" "$work/disk" ||
			reason="the image is not what the guest wrote: $(cmp "$work/want-disk" "$work/disk" 2>&1 |
				sed "s|$work/||g")"
	fi
	report "$name"
}

patterns() { # as blk_pattern() in blk.h
	awk 'BEGIN {
		for (sector = 0; sector < 8192; sector++)
			for (line = 0; line < 16; line++)
				printf "sector %010d line %02d %05d\n", sector, line, 1
	}'
}

want_disk() {
	[ -e "$work/want-disk" ] && return
	patterns >"$work/want-disk"
	dd if=/dev/zero of="$work/want-disk" bs=512 seek=4096 count=256 conv=notrunc status=none
}

blk() { # NAME pci|mmio GUEST-OPTIONS [KEYS-OF-THE-DISK]
	virtio "$1" blk "$2" "sectors=8192 zeroed=4096 $3" --disk "$work/disk,serial=bare-0123${4:+,$4}"
}

blk_read_only() { # NAME TRANSPORT
	wanted "$1" || return
	patterns >"$work/ro"
	cp "$work/ro" "$work/ro-before"
	run virtio_blk 0 --transport "$2" -a "transport=$2 sectors=8192 ro=1" --disk "$work/ro,ro"
	[ -n "$reason" ] || cmp -s "$work/ro" "$work/ro-before" || reason="a read-only image has changed"
	report "$1"
}

exits() {
	sed -n 's/.*"exits_'"$1"'": *\([0-9]*\).*/\1/p' "$work/stats"
}

# Rings a doorbell 1000 times: `wanted` exits more than without, give or take.
doorbell() { # NAME TRANSPORT mmio|io EXITS KEYS [GUEST-OPTIONS]
	local before after more
	wanted "$1" || return
	run virtio_rng 0 --transport "$2" -a "transport=$2 n=0 ${6:-}" --rng="$5" --stats="$work/stats"
	before=$(exits "$3")
	if [ -z "$reason" ]; then
		run virtio_rng 0 --transport "$2" -a "transport=$2 n=1000 ${6:-}" --rng="$5" --stats="$work/stats"
		after=$(exits "$3")
		more=$((after - before))
		[ -n "$reason" ] || { [ $more -gt $(($4 - 100)) ] && [ $more -lt $(($4 + 100)) ]; } ||
			reason="1000 doorbells make $more exits, expected $4"
	fi
	report "$1"
}

virtio_console() { # NAME TRANSPORT GUEST-OPTIONS
	local pid
	wanted "$1" || return
	: >"$work/out"
	rm -f "$work/in"
	mkfifo "$work/in"
	timeout -k 1 60 "$ringlet" run -k "$bare/virtio_console.elf" -m 64M --timeout 20s --console virtio \
		--transport "$2" -a "transport=$2 input=1 $3" >"$work/out" 2>"$work/err" <"$work/in" &
	pid=$!
	exec 3>"$work/in"
	wait_for_line ready
	awk 'BEGIN { for (i = 0; i < 6000; i++) printf "%c", 65 + i % 23 }' >&3
	wait $pid
	ended $? 0
	exec 3>&-
	[ -n "$reason" ] || [ "$(grep -c '^hello from the console device$' "$work/out")" = 200 ] ||
		reason="of 200 lines $(grep -c '^hello from the console device$' "$work/out") came out"
	report "$1"
}

# A tap in a network namespace of its own, with the host's kernel at the other end of it
net_host() { # NAME TRANSPORT GUEST-OPTIONS [KEYS]
	local rc why=
	wanted "$1" || return
	unshare -n true 2>/dev/null || why="no network namespaces for us"
	[ -w /dev/net/tun ] || why="no access to /dev/net/tun"
	command -v ip >/dev/null || why="ip (iproute2) is not installed"
	if [ -n "$why" ]; then
		count=$((count + 1))
		echo "ok - bare/$1 # SKIP $why"
		return
	fi
	# shellcheck disable=SC2016 # they are the inner shell's
	timeout -k 1 60 unshare -n bash -c '
		ip link set lo up && ip tuntap add dev tap0 mode tap vnet_hdr &&
			ip addr add 10.9.0.1/24 dev tap0 && ip link set tap0 mtu 9000 up && exec "$@"' \
		bash "$ringlet" run -k "$bare/virtio_net.elf" -m 64M --timeout 20s --transport "$2" \
		-a "transport=$2 who=host $3" --net "tap,ifname=tap0${4:+,$4}" \
		>"$work/out" 2>"$work/err" </dev/null
	rc=$?
	ended $rc 0
	report "$1"
}

virtio_rows() {
	local t
	for t in pci mmio; do
		blk virtio-blk-$t $t ""
		blk virtio-blk-$t-irq $t "wait=irq"
		blk virtio-blk-$t-packed $t "packed=1" packed=on
		blk virtio-blk-$t-packed-irq $t "packed=1 wait=irq" packed=on
		blk virtio-blk-$t-plain $t "event_idx=0 indirect=0"
		blk virtio-blk-$t-plain-irq $t "event_idx=0 indirect=0 wait=irq quick=1"
		blk virtio-blk-$t-packed-plain-irq $t "packed=1 event_idx=0 indirect=0 wait=irq quick=1" packed=on
		blk virtio-blk-$t-exits $t "wait=irq quick=1" notify=exit,irq=ioctl
		blk virtio-blk-$t-deep $t "depth=32 size=128"
		blk virtio-blk-$t-shallow $t "depth=1 quick=1 wait=irq"
		blk virtio-blk-$t-queues $t "queues=2 depth=16 wait=irq" queues=2
		blk virtio-blk-$t-sync $t "quick=1" aio=sync,cache=writethrough
		blk virtio-blk-$t-in-order $t "in_order=1 depth=16 wait=irq" in_order=on
		blk virtio-blk-$t-in-order-packed $t "in_order=1 indirect=0 packed=1 depth=16" in_order=on,packed=on
		blk_read_only virtio-blk-$t-ro $t
		virtio virtio-rng-$t rng $t "wait=irq" --rng
		virtio virtio-rng-$t-packed rng $t "packed=1" --rng=packed=on
		virtio_console virtio-console-$t $t ""
		virtio_console virtio-console-$t-irq $t "wait=irq"
		doorbell virtio-doorbell-$t $t mmio 0 notify=ioeventfd
		doorbell virtio-doorbell-$t-exit $t mmio 1000 notify=exit
		net_host virtio-net-$t $t ""
		net_host virtio-net-$t-irq $t "wait=irq"
		net_host virtio-net-$t-large $t "wait=irq large=8900"
		net_host virtio-net-$t-packed $t "wait=irq large=8900 packed=1" packed=on
		net_host virtio-net-$t-exits $t "wait=irq event_idx=0" notify=exit,irq=ioctl,csum=off,mrg_rxbuf=off
		virtio virtio-net-$t-user net $t "wait=irq who=user" --net user
		virtio virtio-reset-$t reset $t "rounds=18" --disk "$work/disk"
		virtio virtio-reset-$t-packed-irq reset $t "rounds=18 packed=1 wait=irq" --disk "$work/disk,packed=on"
		virtio virtio-queue-reset-$t reset $t "queue=1 rounds=60 wait=irq" --disk "$work/disk,queues=2,bits=all"
		virtio virtio-queue-reset-$t-packed reset $t "queue=1 rounds=60 packed=1" \
			--disk "$work/disk,queues=2,bits=all,packed=on"
		virtio virtio-hostile-$t-irq hostile $t "wait=irq" --disk "$work/disk" --rng
		virtio virtio-hostile-$t-packed hostile $t "packed=1" --disk "$work/disk,packed=on" \
			--rng=packed=on
		virtio virtio-race-$t race $t "" -c 2 --disk "$work/disk" --rng
		virtio virtio-wild-$t wild $t "" --disk "$work/disk" --rng
		virtio virtio-wild-$t-irq wild $t "wait=irq" --disk "$work/disk" --rng
	done
	blk virtio-blk-pci-intx pci "wait=irq intx=1"
	blk virtio-blk-pci-intx-ioctl pci "wait=irq intx=1 quick=1" irq=ioctl
	blk virtio-blk-pci-pio pci "wait=irq config=port" doorbell=pio
	doorbell virtio-doorbell-pci-moved pci mmio 0 notify=ioeventfd move=1
	doorbell virtio-doorbell-pio pci io 0 doorbell=pio
	doorbell virtio-doorbell-pio-exit pci io 1000 doorbell=pio,notify=exit
	virtio virtio-net-pci-in-order bench pci "bench=net in_order=1 depth=64 n=5000 wait=irq" \
		--net user,in_order=on
	virtio virtio-net-pci-in-order-packed bench pci "bench=net in_order=1 depth=64 n=5000 packed=1" \
		--net user,in_order=on,packed=on
	net_host virtio-net-pci-intx pci "wait=irq intx=1 large=8900"
	virtio virtio-hostile-net-rx hostile pci "victim=net queue=0" --net user --rng
	virtio virtio-hostile-net-tx hostile pci "victim=net queue=1" --net user --rng
	virtio virtio-hostile-net-tx-packed hostile pci "victim=net queue=1 packed=1" --net user,packed=on \
		--rng=packed=on
	virtio virtio-hostile-net-ctrl hostile mmio "victim=net queue=2 wait=irq" --net user --rng
}

if [ ! -x "$ringlet" ]; then
	echo "not ok - bare: $ringlet is not built"
	exit 1
fi
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	echo "ok - bare # SKIP no access to /dev/kvm"
	exit 0
fi

simple debug_exit-0 debug_exit 0 -a status=0
simple debug_exit-7 debug_exit 7 -a status=7
simple debug_exit-255 debug_exit 255 -a status=255
simple ram-64M ram 0 -a mem=64
needs_memory ram-4G 1024 && simple ram-4G ram 0 -m 4G -a mem=4096
needs_memory ram-6G 1024 && simple ram-6G ram 0 -m 6G -a mem=6144
simple hole hole 0
simple_expect pio out '^string of 30 bytes over ports' pio 0
simple ecam ecam 0
simple mmio mmio 0
for n in 1 2 4 8 32; do
	simple_expect smp-$n out "^# $n CPUs" smp 0 -c $n -a cpus=$n
done
simple timer timer 0
# What says how loud Linux is comes before console=, except where it is for init.
simple_expect append-quiet out '^# kernel command line: quiet loglevel=1 console=[^ ]* panic=-1 x quiet loglevel=1 -- quiet$' \
	hlt 0 --dry-run -a 'x quiet loglevel=1' -a '-- quiet'
simple_expect append-loud out '^# kernel command line: quiet debug ignore_loglevel console=[^ ]* panic=-1 quiet dyndbg="a quiet b" debug ignore_loglevel$' \
	hlt 0 --dry-run -a 'quiet dyndbg="a quiet b" debug ignore_loglevel'
serial_input
console console-mmio 1024 -a via=mmio
console console-port 128 -a via=port
console console-flood 1024 -a via=port -a poll=0
blocked console-blocked -a via=port -a poll=0
simple_expect poweroff out '^going' poweroff 0
simple_expect reboot-port out '^going' reboot 122 -a how=port
simple_expect reboot-keyboard out '^going' reboot 122 -a how=keyboard
simple_expect triple out '^going' triple 122
simple_expect pvpanic out '^going' pvpanic 121
# The guest leaves a number in rax.
simple_expect badexit err 'rax 0*5ca1ab1e0ddba11' badexit 125
times_out hlt-timeout hlt
times_out spin-timeout spin
terminate hlt-sigterm hlt
terminate spin-sigterm spin
virtio_rows

echo "1..$count"
exit $failed
