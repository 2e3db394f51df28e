#!/bin/bash
# Shows, without Ringlet, that every peer works on this machine. TAP; exit 1 if one does not.
# usage: selftest.sh [NAME...]      only those tests; also as tests/lab/lab exec tests/peers/selftest.sh, where none is skipped
#   PEER_LOGS=DIR   as in lib.sh
set -uo pipefail
# shellcheck source=tests/peers/lib.sh
. "$(dirname "$0")/lib.sh"
dir=$(mktemp -d)
trap 'peer_stop_all; rm -rf "$dir"' EXIT
cd "$peers_here" || exit
sock=$dir/s

state_of_machine() {
	cat /proc/sys/vm/nr_hugepages
	ls /sys/class/net
	ls /dev/vduse /sys/bus/vdpa/devices 2>/dev/null
}

# DESCRIPTION...: of a vhost-user peer on $sock, each a pattern that a line of it has.
offers() { # ROLE TYPE PATTERN...
	local role=$1 type=$2 pattern
	shift 2
	./probe.py "$role" "$sock" "$type" >"$dir/offer" || return
	sed 's/^/# /' "$dir/offer"
	for pattern; do
		grep -qE -- "$pattern" "$dir/offer" || { echo "# nothing like '$pattern'" && return 1; }
	done
}

# Packets go on arriving at HANDLE.
receives() { # HANDLE
	local first now left=30
	first=$(peer_testpmd_stats "$1" | cut -d ' ' -f 1)
	while ((left-- > 0)); do
		sleep 0.2
		now=$(peer_testpmd_stats "$1" | cut -d ' ' -f 1)
		if ((${now:-0} > ${first:-0} + 1000)); then
			echo "# $1 received $((now - first)) packets"
			return 0
		fi
	done
	echo "# $1 has received only ${now:-nothing} after ${first:-nothing}"
	return 1
}

test_testpmd_server() { peer_testpmd_vhost "$sock" server 2 rxonly && offers connect net 'features .*VERSION_1.*RING_PACKED' 'protocol .*MQ.*STATUS'; }
test_testpmd_server_again() {
	peer_testpmd_vhost "$sock" server 1 rxonly && peer_restart "$sock" && offers connect net VERSION_1 >/dev/null
}

test_testpmd_client() { peer_testpmd_vhost "$sock" client 1 rxonly && offers listen net VERSION_1 && offers listen net VERSION_1; }
test_testpmd_24_server() { PEER_DPDK=trixie peer_testpmd_vhost "$sock" server 1 rxonly --vdev=,tso=1 && offers connect net 'HOST_TSO4'; }

test_testpmd_packets() {
	peer_testpmd_vhost "$sock" server 1 txonly 64 && peer_testpmd_virtio_user "$sock" client 1 rxonly &&
		receives "$sock.virtio_user"
}

test_testpmd_packets_back() {
	peer_testpmd_vhost "$sock" server 2 rxonly && peer_testpmd_virtio_user "$sock" client 2 txonly 1500 && receives "$sock"
}

test_testpmd_packed_24() {
	PEER_DPDK=trixie peer_testpmd_vhost "$sock" server 1 txonly 64 &&
		peer_testpmd_virtio_user "$sock" client 1 rxonly --vdev=,packed_vq=1 && receives "$sock.virtio_user"
}

test_testpmd_returns_after_kill() {
	peer_testpmd_virtio_user "$sock" server 1 rxonly && peer_testpmd_vhost "$sock" client 1 txonly 64 &&
		receives "$sock.virtio_user" && peer_restart "$sock" && receives "$sock.virtio_user" &&
		peer_stop "$sock" && peers_listens "$sock" && [ -S "$sock" ]
}

test_peers_die_with_their_shell() {
	local pid
	pid=$(TMPDIR=$dir PEER_LOGS=$peers_logs bash -c '. ./lib.sh; peer_virtiofsd "$0" "$1" rust >&2 && peer_pid "$0"' "$sock" "$dir")
	sleep 0.5
	rm -f "$sock" "$sock.pid"
	[ -n "$pid" ] && ! readlink "/proc/$pid/exe" && ! pgrep -f -- "$sock"
}

test_qsd_raw() {
	truncate -s 64M "$dir/raw"
	peer_qsd_vhost_blk "$sock" "$dir/raw" raw 4 && offers connect blk 'protocol .*CONFIG' 'capacity=131072 .*num_queues=4' &&
		peer_restart "$sock" && offers connect blk 'capacity=131072'
}

test_qsd_qcow2() {
	qemu-img create -q -f qcow2 "$dir/qcow2" 1G
	peer_qsd_vhost_blk "$sock" "$dir/qcow2" qcow2 && offers connect blk 'capacity=2097152 '
}

test_qsd_10_resize() {
	truncate -s 64M "$dir/raw"
	PEER_QSD=trixie peer_qsd_vhost_blk "$sock" "$dir/raw" && offers connect blk 'capacity=131072 ' && peer_qsd_resize "$sock" $((128 << 20)) &&
		offers connect blk 'capacity=262144 '
}

test_qsd_blk_reads() {
	local qsd
	for qsd in host trixie; do
		head -c 1M /dev/urandom >"$dir/raw"
		PEER_QSD=$qsd peer_qsd_vhost_blk "$sock" "$dir/raw" && ./read_blk.py "$sock" 512 8192 >"$dir/out" || return
		cmp <(dd if="$dir/raw" bs=512 skip=1 count=16 status=none) "$dir/out" || return
		peer_stop "$sock"
	done
}

test_virtiofsd_c() { peer_virtiofsd "$sock" "$dir" c && offers connect fs 'VERSION_1' 'queues: 2'; }
test_virtiofsd_rust() { peer_virtiofsd "$sock" "$dir" rust --tag root && offers connect fs 'protocol .*CONFIG' 'tag=root'; }
test_passt() { peer_passt "$sock" && offers connect net 'MRG_RXBUF' && offers connect net VERSION_1; }

test_ovs_server_port() {
	peer_ovs "$dir/ovs" && peer_ovs_port "$dir/ovs" p0 server && peers_until "$dir/ovs" 5 "[ -S $dir/ovs/p0 ]" &&
		ln -sf "$dir/ovs/p0" "$sock" && offers connect net VERSION_1
	local status=$?
	rm -f "$sock"
	return $status
}

test_ovs_two_front_ends() {
	peer_ovs "$dir/ovs" && peer_ovs_port "$dir/ovs" p0 "$dir/o0" && peer_ovs_port "$dir/ovs" p1 "$dir/o1" &&
		peer_testpmd_virtio_user "$dir/o0" server 1 rxonly && peer_testpmd_virtio_user "$dir/o1" server 1 txonly &&
		receives "$dir/o0.virtio_user" && echo "# from and to p0: $(peer_ovs_stats "$dir/ovs" p0), p1: $(peer_ovs_stats "$dir/ovs" p1)"
}

vduse() { modprobe vduse 2>/dev/null || [ -e /dev/vduse/control ] || skip="no VDUSE in this kernel; tests/lab/lab exec tests/peers/selftest.sh"; }

test_qsd_vduse() {
	vduse
	[ -z "$skip" ] || return 0
	truncate -s 64M "$dir/raw"
	peer_qsd_vduse peer0 "$dir/raw" && ls -l "$(peers_vdpa peer0)" && vdpa dev show peer0 && peer_restart peer0 &&
		vdpa dev show peer0
}

test_testpmd_vduse() {
	vduse
	[ -z "$skip" ] || return 0
	peer_testpmd_vduse peer1 1 rxonly && ls -l "$(peers_vdpa peer1)" && vdpa dev config show peer1
}

test_vhost_scsi() {
	modprobe vhost_scsi 2>/dev/null || [ -e /dev/vhost-scsi ] || {
		skip="no vhost_scsi in this kernel; tests/lab/lab exec tests/peers/selftest.sh"
		return 0
	}
	truncate -s 64M "$dir/raw"
	peer_vhost_scsi naa.5001405000000001 "$dir/raw" && grep -q . /sys/kernel/config/target/vhost/naa.5001405000000001/tpgt_1/nexus
}

before=$(state_of_machine)
failed=0 count=0 logs=$peers_logs
./fetch.sh >/dev/null || { echo "Bail out! the peers cannot be fetched" && exit 1; }
if [ $# = 0 ]; then mapfile -t names < <(declare -F | sed -n 's/^declare -f test_//p'); else names=("$@"); fi
for name in "${names[@]}"; do
	skip=
	peers_logs=$logs/$name
	count=$((count + 1))
	started=${EPOCHREALTIME/[.,]/}
	if "test_$name" >"$dir/said" 2>&1; then result="ok"; else result="not ok" && failed=$((failed + 1)); fi
	if [ "$result" = "not ok" ]; then
		for handle in "${!peers_pid[@]}"; do peer_show "$handle" 15 >>"$dir/said"; done
	fi
	rss=$(for handle in "${!peers_pid[@]}"; do awk '/VmHWM/ { print $2 }' "/proc/${peers_pid[$handle]}/status"; done 2>/dev/null |
		sort -n | tail -n 1)
	for handle in "${!peers_pid[@]}"; do peer_stop "$handle"; done
	echo "$result $count - peers/$name${skip:+ # SKIP $skip}"
	echo "# $(((${EPOCHREALTIME/[.,]/} - started) / 1000)) ms, largest peer ${rss:-0} KiB"
	sed 's/^\(# \)\?/# /' "$dir/said"
done
count=$((count + 1))
if [ "$before" = "$(state_of_machine)" ] && [ -z "$(find "$dir" -type s)" ] && ! pgrep -f -- "$dir" >/dev/null; then
	echo "ok $count - peers/nothing_is_left"
else
	echo "not ok $count - peers/nothing_is_left"
	diff <(echo "$before") <(state_of_machine) | sed 's/^/# /'
	find "$dir" -type s | sed 's/^/# /'
	pgrep -af -- "$dir" | cut -c1-200 | sed 's/^/# /'
	failed=$((failed + 1))
fi
echo "1..$count"
[ "$failed" = 0 ]
