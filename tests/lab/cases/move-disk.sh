#!/bin/bash
# A disk changes between its file and QEMU's storage daemon by vhost-user and by VDUSE, from each to each, under verified I/O: every
# block reads as it was written, and at the end guest and host have the same image.
# timeout: 500
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
. tests/lab/cases/move-lib.bash
trap 'guest_gone; peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
rounds=$(((${TEST_MOVES:-6} + 5) / 6))
image=$tmp/disk.img sock=$tmp/blk.sock name=vd0
head -c 64M /dev/urandom >"$image"
truncate -s 1M "$tmp/word" # by which the guest is told that it is enough

peer_qsd_vhost_blk "$sock" "$image,locking=off" || fail "no storage daemon"
peer_qsd_vduse "$name" "$image,locking=off" || fail "no storage daemon"
node=$(peers_vdpa "$name") || fail "no /dev/vhost-vdpa-N"

written() { stat -c %y "$image"; }
written_since() { [ "$(written)" != "$1" ]; }

# Two times, so that a request that was on its way does not count for those that follow.
goes_on() {
	local time
	for time in 1 2; do
		time=$(written)
		until_so 60 "something written" written_since "$time"
	done
}

# The last 16 MB are written once, and must be the same after all moves. fio writes and reads back at random in the rest, each time
# with another seed, which it finds in every block.
guest_starts --disk "$image" --disk "$tmp/word" -- '
dd if=/dev/urandom of=/tmp/kept bs=1M count=16 2>/dev/null
dd if=/tmp/kept of=/dev/vdb bs=1M seek=48 oflag=direct 2>/dev/null || fail "a write"
echo writing
i=0
until [ "$(dd if=/dev/vdc bs=512 count=1 iflag=direct 2>/dev/null | tr -d "\\000")" = stop ]; do
	i=$((i + 1))
	t fio --name=v --filename=/dev/vdb --direct=1 --rw=randwrite --bs=$((4 << i % 3 * 2))k --ioengine=libaio --iodepth=16 --size=48M \
		--io_size=16M --randseed=$i --verify=crc32c --verify_fatal=1 --verify_backlog=32 --output-format=terse >/tmp/fio ||
		{ cat /tmp/fio; fail "round $i: fio found wrong data"; }
	awk -F ";" "{ print \"fio\", \$6, \$47 }" /tmp/fio >>/tmp/done
done
awk "{ r += \$2; w += \$3 } END { print \"fio\", NR, r, w }" /tmp/done
t dd if=/dev/vdb bs=1M skip=48 iflag=direct 2>/dev/null | cmp - /tmp/kept || fail "what was written before the moves is something else now"
echo 3 >/proc/sys/vm/drop_caches
echo "sha $(sha256sum /dev/vdb | cut -d " " -f 1)"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
guest_says writing 200
goes_on
before=$(handles)
for ((round = 0; round < rounds; round++)); do
	for who in "vhost-user,path=$sock" "vdpa,path=$node" "$image" "vdpa,path=$node" "vhost-user,path=$sock" "$image"; do
		move disk1 "$who"
		goes_on
	done
done
after=$(handles)
printf stop | dd of="$tmp/word" conv=notrunc 2>/dev/null
guest_ends "verified I/O"
tr -d '\r' <"$tmp/out" | awk '$1 == "fio" { printf "fio: %d runs, %d KiB read back and compared, %d KiB written\n", $2, $3, $4 }'
grep -aq "^sha $(sha "$image")" "$tmp/out" || fail "the image holds something else than the guest reads"
echo "compared at the end: $(stat -c %s "$image") bytes of the image"
report_moves $((6 * rounds))
[ "$before" = "$after" ] || fail "before: $before; after $((6 * rounds)) moves, back where it was: $after"
