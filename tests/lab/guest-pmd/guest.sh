# Sourced in the guest's shell: net devices from virtio_net to DPDK's testpmd and back.  A device is known by the last byte
# of its MAC.  What goes wrong is said, and returns 1.
# shellcheck shell=sh
pmd=/pmd

pmd_fail() {
	echo "guest: $*"
	return 1
}

pmd_until() { # SECONDS COMMAND
	left=$(($1 * 5))
	until eval "$2"; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		usleep 200000
	done
}

pmd_setup() {
	while read -r module; do insmod "$pmd/modules/$module" || return 1; done <$pmd/modules/order
	echo 96 >/proc/sys/vm/nr_hugepages
	mkdir -p /dev/hugepages /var/run
	mount -t hugetlbfs none /dev/hugepages || return 1
	chmod 755 / # DPDK loads no driver below a directory that everybody may write to
	mount -t ext4 -o ro /dev/vda /mnt && mount -o bind /sys /mnt/sys && mount -o bind /proc /mnt/proc
}

pmd_slot() { # NUMBER: $slot
	eval "slot=\${pmd_slot_$1:-}"
	[ -n "$slot" ] || pmd_fail "device $1 was never taken"
}

pmd_dir() { # NUMBER: $slot, $dir
	pmd_slot "$1" && dir=/sys/bus/pci/devices/$slot
}

pmd_net() { # NUMBER: prints what Linux calls it
	for net in /sys/class/net/*; do
		[ "$(cat "$net/address")" != "52:54:00:00:00:0$1" ] || echo "${net##*/}"
	done
}

pmd_take() { # NUMBER...  from virtio-pci
	for number; do
		net=$(pmd_net "$number")
		[ -n "$net" ] || pmd_fail "no device $number" || return
		slot=$(readlink -f "/sys/class/net/$net/device/..")
		slot=${slot##*/}
		eval "pmd_slot_$number=$slot"
		dir=/sys/bus/pci/devices/$slot
		echo "$slot" >"$dir/driver/unbind"
		echo uio_pci_generic >"$dir/driver_override"
		echo "$slot" >/sys/bus/pci/drivers_probe
		[ "$(basename "$(readlink "$dir/driver")")" = uio_pci_generic ] ||
			pmd_fail "uio_pci_generic does not take device $number" || return
	done
}

pmd_give() { # NUMBER...  to whom Linux would give it, and its network is up
	for number; do
		pmd_dir "$number" || return
		if [ -e "$dir/driver" ]; then echo "$slot" >"$dir/driver/unbind"; fi
		echo >"$dir/driver_override"
		echo "$slot" >/sys/bus/pci/drivers_probe
		pmd_until 10 '[ -n "$(pmd_net $number)" ]' || pmd_fail "virtio-pci does not take device $number" || return
		net=$(pmd_net "$number")
		ip link set "$net" up && ip addr add "10.1.$number.2/24" dev "$net" || return
	done
}

pmd_ping() { # NUMBER...
	for number; do
		chroot /mnt /bin/ping -q -c 3 -i 0.2 -W 5 "10.1.$number.1" || pmd_fail "no ping through device $number" || return
	done
}

# DEVICES: NUMBER[,KEY=VALUE]...   OPTIONS: testpmd's own
pmd_start() { # "DEVICES" OPTIONS...
	allow=''
	for device in $1; do
		pmd_slot "${device%%,*}" || return
		case $device in *,*) slot=$slot,${device#*,} ;; esac
		allow="$allow -a $slot"
	done
	shift
	rm -f /tmp/testpmd.in
	mkfifo /tmp/testpmd.in
	exec 3<>/tmp/testpmd.in
	(
		cd $pmd/lib || exit
		drivers=''
		for driver in librte_bus_pci librte_mempool_ring librte_net_virtio; do drivers="$drivers -d $pmd/lib/$(echo $driver.so.??)"; done
		# shellcheck disable=SC2086 # lists of words
		exec ./ld.so --library-path . ../testpmd -l 0,1 --iova-mode pa --no-telemetry $drivers $allow \
			--log-level=pmd.net.virtio.init:info --log-level=pmd.net.virtio.driver:info \
			-- -i --total-num-mbufs=12288 --forward-mode=macswap "$@"
	) </tmp/testpmd.in >/tmp/testpmd.log 2>&1 &
	pmd_pid=$!
	echo start >&3
	pmd_log 60 'packet forwarding - ports='
}

pmd_log() { # SECONDS PATTERN [TIMES]  until it has said that
	pmd_until "$1" "[ \$(tr -d '\\r' </tmp/testpmd.log | grep -c -- '$2') -ge ${3:-1} ] || ! kill -0 $pmd_pid 2>/dev/null"
	[ "$(tr -d '\r' </tmp/testpmd.log | grep -c -- "$2")" -ge "${3:-1}" ] || {
		tail -n 40 /tmp/testpmd.log
		pmd_fail "testpmd does not say: $2"
	}
}

pmd_say() {
	echo "$*" >&3
}

pmd_quit() {
	pmd_say quit
	pmd_until 30 "! kill -0 $pmd_pid 2>/dev/null" || pmd_fail "testpmd does not end"
	wait "$pmd_pid" || pmd_fail "testpmd ended with status $?"
}

# How often the device's line has interrupted.
pmd_interrupts() { # NUMBER
	pmd_dir "$1" && awk -v irq="$(cat "$dir/irq"):" '$1 == irq { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts
}

# The command register: memory and bus master are on, INTx is or is not disabled.
pmd_intx() { # NUMBER on|off
	pmd_dir "$1" || return
	case $2 in on) printf '\006\000' ;; off) printf '\006\004' ;; esac |
		dd of="$dir/config" bs=2 seek=2 count=1 conv=notrunc 2>/dev/null
}

pmd_command() { # NUMBER  prints the command and status registers, in hexadecimal
	pmd_dir "$1" && dd if="$dir/config" bs=4 skip=1 count=1 2>/dev/null | hexdump -v -e '1/2 "%04x " 1/2 "%04x\n"'
}

# Both pairs of each device, or of those that are named, have had frames; none was lost.
pmd_counted() { # DEVICES FRAMES
	: >/tmp/counted
	pmd_say "show port xstats all"
	pmd_until 10 '[ "$(grep -c tx_q1_packets /tmp/testpmd.log)" -ge '"$1"' ]' || pmd_fail "testpmd shows no counters" || return
	sleep 1
	tr -d '\r' </tmp/testpmd.log | awk -v devices="$1" -v frames="$2" '
		/NIC extended statistics for port/ { port = $NF + 0 }
		$1 ~ /^[rt]x_q[01]_packets:$/ { n[port " " $1] = $2; if ($2 == 0) { print "guest: port " port ": " $1 " 0"; bad = 1 } }
		$1 == "rx_good_packets:" && $2 < frames { print "guest: port " port " has had " $2; bad = 1 }
		$1 ~ /errors:|missed|dropped/ && $2 > 0 { print "guest: port " port ": " $0; bad = 1 }
		END { for (k in n) pairs++; if (pairs != 4 * devices) { print "guest: " pairs " queues"; bad = 1 } exit bad }'
}
