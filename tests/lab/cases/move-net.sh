#!/bin/bash
# Two TCP streams, one each way, go on while their card changes between this process and the kernel on the same tap. Both must carry
# something between any two moves, and what was sent is what arrived.
# timeout: 500
# only: test-all
. "$(dirname "$0")/../lib.sh"
. tests/lab/cases/move-lib.bash
. tests/lab/cases/move-streams.bash
rounds=$(((${TEST_MOVES:-6} + 1) / 2))
[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"
make_tap 1500
streams_start

guest_starts --net tap,ifname=tap0 -- "$streams_guest"
guest_says streaming 200
streams_carry
before=$(handles)
for ((round = 0; round < rounds; round++)); do
	move net0 tap,vhost=on
	streams_carry
	move net0 tap
	streams_carry
done
after=$(handles)
streams_end
guest_ends "two streams"
streams_compare
report_moves $((2 * rounds))
[ "$before" = "$after" ] || fail "before: $before; after $((2 * rounds)) moves there and back: $after"
