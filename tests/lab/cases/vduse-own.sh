#!/bin/bash
# Disks and a card served by our own back ends through VDUSE: verified content, whole files both ways, drivers bound again under
# load; a back end that ends while a VM has its device, or is killed; and nothing is left of any.
# timeout: 400
# only: test-all
. "$(dirname "$0")/../lib.sh"
image=$tmp/disk.img
declare -A backend=()
trap '{ kill -KILL $(jobs -p); wait; } 2>/dev/null; rm -rf "$tmp"' EXIT
patience=$((patience / 3))
for module in vduse vhost_vdpa; do modprobe "$module" 2>/dev/null; done
[ -e /dev/vduse/control ] || fail "this kernel has no VDUSE"

# NAME WORDS...: starts `ringlet backend WORDS` in the background; once it is ready, $node is where.
start() {
	local name=$1 i
	shift
	"$ringlet" backend "$@" >"$tmp/$name.out" 2>"$tmp/$name.err" &
	backend[$name]=$!
	for ((i = 0; i < 300; i++)); do
		grep -q ': ready$' "$tmp/$name.out" && break
		kill -0 "${backend[$name]}" 2>/dev/null || break
		sleep 0.1
	done
	node=$(sed -n 's/.* at \(\/dev\/vhost-vdpa-[0-9]*\) .*: ready$/\1/p' "$tmp/$name.out")
	if [ ! -c "$node" ]; then
		show "$tmp/$name.out" "$tmp/$name.err"
		fail "no back end $name"
	fi
	cat "$tmp/$name.out"
}

ended() { # NAME  within 20 s, in order
	local name=$1 i rc=0
	for ((i = 0; i < 100; i++)); do
		kill -0 "${backend[$name]}" 2>/dev/null || break
		sleep 0.2
	done
	((i < 100)) || fail "$name does not end"
	wait "${backend[$name]}" || rc=$?
	unset "backend[$name]"
	show "$tmp/$name.out" "$tmp/$name.err"
	[ "$rc" = 0 ] || fail "$name ended with $rc"
}

stop() { # NAME
	kill -TERM "${backend[$1]}"
	ended "$1"
	[ ! -e "/sys/bus/vdpa/devices/$1" ] && [ ! -e "/dev/vduse/$1" ] || fail "$1 has left its device behind"
}

refused() { # PATTERN WORDS...
	local pattern=$1
	shift
	status=0
	timeout 30 "$ringlet" backend "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
	show "$tmp/out" "$tmp/err"
	expect_status 125 "backend $*"
	expect_line "$tmp/err" "$pattern"
}

guest_said() { # LINE
	local i
	for ((i = 0; i < 400; i++)); do
		grep -aq "^$1" "$tmp/out" && return
		kill -0 "$guest" 2>/dev/null || break
		sleep 0.2
	done
	show "$tmp/out" "$tmp/err" "$tmp"/*.err
	fail "the guest does not come to: $1"
}

forgotten() { # NAME...  the memory of a VM that has gone
	local i name
	for name; do
		for ((i = 0; i < 50; i++)); do
			grep -q ringlet-ram "/proc/${backend[$name]}/maps" || break
			sleep 0.1
		done
		((i < 50)) || fail "$name keeps the memory of a VM that has gone"
	done
}

make_tap 1500
mkdir "$tmp/www"
head -c 2M /dev/urandom >"$tmp/www/data"
data=$(sha "$tmp/www/data")
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr,fork OPEN:"$tmp/uploaded",creat,trunc &
head -c 64M /dev/urandom >"$image"
before=$(sha "$image")

start vn0 net vduse=vn0,tap=$tap
net=$node
start vb0 blk vduse=vb0,queues=2 "$image"
disk=$node
start vm0 blk vduse=vm0 memory,size=32M
memory=$node
refused 'another process serves' net vduse=vn0,echo

# 1. A guest with all three.
card='
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
found() {
	for i in $(seq 60); do t ping -q -c 1 -W 1 10.1.0.1 >/dev/null && return; done
	fail "no ping"
}
streams() {
	wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
	[ "$(sha256sum /tmp/data | cut -d " " -f 1)" = "$data" ] || fail "what the guest got differs from what the host has"
	nc 10.1.0.1 9000 </tmp/data || fail "no upload"
}
'
in_guest -c 2 --net "vdpa,path=$net" --disk "vdpa,path=$disk" --disk "vdpa,path=$memory,packed=on" -- "
before=$before data=$data
$card"'
[ "$(cat /sys/block/vdb/size)" = 131072 ] || fail "its size is $(cat /sys/block/vdb/size)"
[ "$(sha256sum /dev/vdb | cut -d " " -f 1)" = "$before" ] || fail "the guest reads something else"
for disk in vdb vdc; do
	t fio --name=v --filename=/dev/$disk --direct=1 --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --size=8M \
		--verify=crc32c --verify_fatal=1 --output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
done
up
[ "$(cat /sys/class/net/eth0/mtu)" = 1500 ] || fail "the MTU is not that of the tap"
found
t ping -q -c 3 -i 0.2 -s 1400 10.1.0.1 || fail "no large ping"
streams
for i in 1 2 3 4 5; do
	for disk in vdb vdc; do
		device=$(basename "$(readlink -f /sys/block/$disk/device)")
		dd if=/dev/$disk of=/dev/null bs=64k iflag=direct 2>/dev/null & load=$!
		usleep $((i * 20000))
		echo $device >/sys/bus/virtio/drivers/virtio_blk/unbind || fail "round $i: unbind"
		wait $load 2>/dev/null
		echo $device >/sys/bus/virtio/drivers/virtio_blk/bind || fail "round $i: bind"
	done
	device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
	echo $device >/sys/bus/virtio/drivers/virtio_net/unbind && echo $device >/sys/bus/virtio/drivers/virtio_net/bind ||
		fail "round $i: the card cannot be bound again"
	up
	found
done
dd if=/dev/urandom of=/dev/vdb bs=1M count=8 seek=3 oflag=direct 2>/dev/null || fail "dd"
dd if=/dev/urandom of=/dev/vdc bs=1M count=8 seek=3 oflag=direct 2>/dev/null || fail "dd"
echo "disk $(sha256sum /dev/vdb | cut -d " " -f 1)"
echo "memory $(sha256sum /dev/vdc | cut -d " " -f 1)"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad|refuse)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "using them"
grep -q "disk $(sha "$image")" "$tmp/out" || fail "the file holds something else than the guest has written"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"
forgotten vn0 vb0 vm0
remembered=$(sed -n 's/^memory \([0-9a-f]*\).*/\1/p' "$tmp/out")

# 2. The next guest: what was written is there; the disk grows; a back end is told to end, and does when the guest has.
: >"$tmp/out"
(
	in_guest --net "vdpa,path=$net" --disk "vdpa,path=$disk" --disk "vdpa,path=$memory" -- "
remembered=$remembered data=$data
$card"'
[ "$(sha256sum /dev/vdc | cut -d " " -f 1)" = "$remembered" ] || fail "memory has forgotten"
echo grow
until [ "$(cat /sys/block/vdb/size)" = 262144 ]; do usleep 100000; done
up
found
echo end
t ping -q -c 10 -i 0.2 10.1.0.1 >/dev/null || fail "no ping to a back end that is to end"
streams
'
	exit "$status"
) &
guest=$!
guest_said grow
truncate -s 128M "$image"
guest_said end
kill -TERM "${backend[vn0]}"
status=0
wait "$guest" || status=$?
guest=
expect_status 0 "a back end that is told to end"
expect_line "$tmp/vn0.err" "a VM has $net open"
ended vn0

# 3. A VM that is killed: nobody keeps its memory, and the next one finds the disk as it was.
: >"$tmp/out"
(
	in_guest --disk "vdpa,path=$disk" -- 'dd if=/dev/vdb of=/dev/null bs=4k iflag=direct count=10 2>/dev/null; echo kill; sleep 100'
) &
guest=$!
guest_said kill
grep -q ringlet-ram "/proc/${backend[vb0]}/maps" || fail "the back end has the guest's memory where nobody looks for it"
vm=$(fuser "$disk" 2>/dev/null | tr -d ' ')
kill -KILL "${vm:?nobody has the disk open}"
{ wait "$guest"; } 2>/dev/null
guest=
forgotten vb0

# 4. Killed under load: the guest has neither card nor disk any more, and ends in order.
start vn0 net vduse=vn0,tap=$tap
net=$node
: >"$tmp/out"
(
	in_guest --net "vdpa,path=$net" --disk "vdpa,path=$disk" -- "$card"'
up
found
dd if=/dev/vdb of=/dev/null bs=4k iflag=direct 2>/dev/null &
t ping -q -i 0.1 -w 60 10.1.0.1 >/dev/null &
usleep 300000
echo kill
found() { t ping -q -c 1 -W 1 10.1.0.1 >/dev/null; }
while found; do usleep 100000; done
echo gone
sleep 3
echo "after all, the guest ends"
'
	exit "$status"
) &
guest=$!
guest_said kill
kill -KILL "${backend[vn0]}" "${backend[vb0]}"
{ wait "${backend[vn0]}" "${backend[vb0]}"; } 2>/dev/null
unset 'backend[vn0]' 'backend[vb0]'
guest_said gone
refused "a VM has $net still" net vduse=vn0,tap=$tap
since=$SECONDS
status=0
wait "$guest" || status=$?
guest=
expect_status 0 "back ends that were killed"
expect_line "$tmp/out" 'after all'
echo "lab: the VM of the killed ended within $((SECONDS - since)) s"

# 5. The same names again: what the killed have left is removed.
start vn0 net vduse=vn0,tap=$tap
net=$node
expect_line "$tmp/vn0.err" 'removed what a back end before had left'
start vb0 blk vduse=vb0 "$image"
disk=$node
in_guest --net "vdpa,path=$net" --disk "vdpa,path=$disk" -- "data=$data
$card"'
[ "$(cat /sys/block/vdb/size)" = 262144 ] || fail "its size is $(cat /sys/block/vdb/size)"
up
found
streams
'
expect_status 0 "back ends after those that were killed"

# 6. A second signal ends a back end whose device somebody holds; who holds it is none of the next one's business. That one
#    joins two cards, of which the other is on a socket.
exec {held}<>"$net"
kill -TERM "${backend[vn0]}"
for ((i = 0; i < 100; i++)); do
	grep -q "$net open" "$tmp/vn0.err" && break
	sleep 0.1
done
kill -0 "${backend[vn0]}" || fail "it ends though its device is held"
kill -TERM "${backend[vn0]}"
ended vn0
expect_line "$tmp/vn0.err" 'is left behind'
refused "a VM has $net still" net vduse=vn0,echo
exec {held}>&-
start vn0 net vduse=vn0 "$tmp/sock"
expect_line "$tmp/vn0.err" 'removed what a back end before had left'
stop vn0
for name in vb0 vm0; do stop "$name"; done
[ -z "$(vdpa dev show)" ] || fail "on the bus there is still: $(vdpa dev show)"
[ "$(ls /dev/vduse)" = control ] || fail "of VDUSE there is still: $(ls /dev/vduse)"
