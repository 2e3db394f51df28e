#!/bin/bash
# Datapaths of the kernel with bare guests, where a reset is cheap: under load, again and again, content compared all the time.
#   TEST_RESETS=20   of each; a thousand takes about half an hour
# timeout: 900
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/cases.sh
resets=${TEST_RESETS:-20}
TIMEOUT=$((300 + resets * 6)) # of a guest: guest_start in cases.sh
pids=()
at_end() { if [ ${#pids[@]} != 0 ]; then kill "${pids[@]}" 2>/dev/null; fi; }
trap cases_end EXIT

storm() { # NAME WORD: so many resets, each after something has crossed
	local before
	before=$(guest_handles "$1")
	for ((round = 0; round < resets; round++)); do
		guest_grows "$1" "$2" "$(guest_count "$1" "$2")" 20
		guest_ask "$1" r reset 60
	done
	guest_grows "$1" "$2" "$(guest_count "$1" "$2")" 20
	[ "$(guest_handles "$1")" = "$before" ] || fail "$1: $before descriptors, $(guest_handles "$1") after $resets resets"
	guest_quit "$1" 30
}

[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"
# shellcheck disable=SC2154 # lib.sh
for transport in pci mmio; do
	ip tuntap add dev "t$transport" mode tap && ip link set "t$transport" up
	python3 tests/peers/reflect.py "t$transport" >"$tmp/reflect" 2>&1 &
	pids+=($!)
	guest_start "$transport" net "lossy=1 transport=$transport wait=irq" -n "tap,ifname=t$transport,vhost=on,transport=$transport"
	guest_ready "$transport" 60
	storm "$transport" got
done

truncate -s 64M "$tmp/disk"
peer_qsd_vduse vd0 "$tmp/disk" raw || fail "no storage daemon"
node=$(peers_vdpa vd0) || fail "no /dev/vhost-vdpa-N"
guest_start vdpa blk "" -d "vdpa,path=$node"
guest_ready vdpa 60
storm vdpa requests
same_as_file vdpa "$tmp/disk"
echo "$resets resets each of vhost-net on PCI and MMIO and of vDPA"
