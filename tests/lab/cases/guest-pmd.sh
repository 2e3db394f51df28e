#!/bin/bash
# DPDK's driver for virtio in the guest, by uio_pci_generic: frames with their content compared through every kind of ring it
# knows; interrupts by INTx, their disable bit, link and move; devices given back to Linux, also by a driver that was killed.
# timeout: 1200
# only: test-all
. "$(dirname "$0")/../lib.sh"
helpers=tests/lab/guest-pmd
asked=0
devices=(0 1 2 3 4 5)

# The guest's shell runs one command, which must succeed.
ask() { # SECONDS COMMAND
	echo "$SECONDS s: $2"
	say "$2; echo; echo \"asked $((asked += 1)): \$?\""
	wait_for "^asked $asked: [0-9]" "$1"
	lines_with "^asked $asked: 0" | grep -q 1 || {
		show "$tmp/out" "$tmp/err"
		fail "in the guest: $2"
	}
}

tell() { # SECONDS COMMAND  sets $told to its last line
	ask "$1" "echo \"told \$($2)\""
	told=$(tr -d '\r' <"$tmp/out" | sed -n 's/^told //p' | tail -n 1)
}

frames() { # NUMBER COUNT
	"$helpers/frames.py" "tap$1" "52:54:00:00:00:0$1" "$2" || {
		ask 20 "tail -n 10 /tmp/testpmd.log"
		show "$tmp/out" "$tmp/err"
		fail "device $1"
	}
}

tap() { # NUMBER
	if ! ip tuntap add dev "tap$1" mode tap vnet_hdr multi_queue || ! ip addr add "10.1.$1.1/24" dev "tap$1" ||
		! ip link set "tap$1" up; then
		fail "no tap"
	fi
}

net=()
add() { # NUMBER [KEYS]
	tap "$1"
	net+=(--net "tap,ifname=tap$1,queues=2,mac=52:54:00:00:00:0$1$2")
}
"$helpers/pack.sh" "$kernel" "$tmp/pmd.img" || fail "no disk for the guest"
add 0 ""
add 1 ",mrg_rxbuf=off"
add 2 ",in_order=on"
add 3 ",packed=on"
add 4 ",packed=on,in_order=on,mrg_rxbuf=off"
add 5 ",vhost=on,mrg_rxbuf=off"
start_guest --name pmd --timeout "${patience}s" -m 1G -c 2 --disk build/guest/tools.img,ro --disk "$tmp/pmd.img,ro" "${net[@]}"
wait_for_shell
ask 30 "mkdir /pmd && mount -t ext4 -o ro /dev/vdb /pmd && . /pmd/guest.sh && pmd_setup"
ask 60 "pmd_take ${devices[*]}"
ask 120 "pmd_start '0 1,vectorized=1 2 3 4,vectorized=1 5,vectorized=1' --port-topology=loop --rxq=2 --txq=2"

# 1. The ways that it has to take frames, each as it should be. The vectors of packed rings need AVX-512.
ask 20 "grep -o 'using .* Rx path on port .*' /tmp/testpmd.log | tr -d '\r' >/tmp/paths; cat /tmp/paths"
for path in "mergeable buffer Rx path on port 0" "vectorized Rx path on port 1" "inorder Rx path on port 2" \
	"packed ring mergeable buffer Rx path on port 3" "packed ring \(vectorized\|standard\) Rx path on port 4" \
	"vectorized Rx path on port 5"; do
	[ "$(lines_with "^using $path")" = 1 ] || fail "not taken: $path"
done
tell 10 "pmd_interrupts 0"
before=$told
for device in "${devices[@]}"; do
	frames "$device" 300
done
ask 30 "pmd_counted ${#devices[@]} 300"
tell 10 "pmd_interrupts 0"
[ "$told" = "$before" ] || fail "$((told - before)) interrupts of a driver that polls"

# 2. A device that moves interrupts by INTx: once, and not while that is disabled.
moved() { # WHO
	"$ringlet" ctl pmd datapath net0 "$1" || fail "no move to $1"
}
interrupts() { # WANTED
	for ((i = 0; i < 10; i++)); do
		tell 10 "pmd_interrupts 0"
		((told < before + $1)) || break
		sleep 0.5
	done
	[ "$told" = $((before + $1)) ] || fail "$((told - before)) interrupts and not $1"
}
"$helpers/rarp.py" tap0 52:54:00:00:00:00 30 >"$tmp/rarp" 2>&1 &
rarp=$!
until grep -q listening "$tmp/rarp"; do sleep 0.1; done
moved tap,vhost=on
interrupts 1
wait $rarp || fail "$(cat "$tmp/rarp")"
ask 20 "pmd_log 10 'interrupt status = 0x2' 1"
frames 0 300
tell 10 "pmd_command 0"
[ "$told" = "0006 0010" ] || fail "the command and status registers are $told after an interrupt"
ask 10 "pmd_intx 0 off"
moved tap
sleep 2
interrupts 1
tell 10 "pmd_command 0"
[ "$told" = "0406 0018" ] || fail "the command and status registers are $told with INTx disabled and an interrupt pending"
ask 10 "pmd_intx 0 on"
interrupts 2
ask 20 "pmd_log 10 'interrupt status = 0x2' 2"
tell 10 "pmd_command 0"
[ "$told" = "0006 0010" ] || fail "the command and status registers are $told after the second interrupt"
frames 0 300

# 3. The link goes, with its tap, and comes back with another.
ip link del tap0
ask 20 "pmd_log 10 'Port 0: link state change event' 1"
interrupts 3
ask 20 "pmd_say show port info 0; pmd_log 10 'Link status: down' 1"
tap 0
moved tap,ifname=tap0
ask 20 "pmd_log 10 'Port 0: link state change event' 2"
frames 0 300

# 4. Back to Linux.
ask 60 "pmd_quit"
ask 60 "pmd_give ${devices[*]}"
ask 60 "pmd_ping ${devices[*]}"

# 5. Taken once more, one as what it was not before.
ask 60 "pmd_take 0 1 3 5"
ask 120 "pmd_start '0 1 3 5' --port-topology=loop --rxq=2 --txq=2"
ask 20 "pmd_log 10 'using standard Rx path on port 1'"
for device in 0 1 3 5; do
	frames $device 200
done

# 6. Back to Linux from a driver that was killed under load: the kernel took its bus mastering away, so the device is reset.
load=()
for device in 0 1 3 5; do
	"$helpers/frames.py" "tap$device" "52:54:00:00:00:0$device" 1000000 >"$tmp/load" 2>&1 &
	load+=($!)
done
sleep 2
ask 20 "kill -KILL \$pmd_pid; wait \$pmd_pid; [ \$? = 137 ]"
kill "${load[@]}" || fail "the load has ended: $(cat "$tmp/load")"
for device in 0 1 3 5; do
	tell 10 "pmd_command $device"
	[ "$told" = "0002 0010" ] || fail "device $device: the command and status registers are $told after its driver was killed"
done
ask 60 "pmd_give 0 1 3 5"
ask 60 "pmd_ping 0 1 3 5"
ask 20 "! dmesg | grep -iE 'virtio.*(fail|error|bad)|WARNING|BUG:|nobody cared'"
say poweroff
finish 30
expect_status 0 "power-off"
