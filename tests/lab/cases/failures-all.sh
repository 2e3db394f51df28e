#!/bin/bash
# only: test-all
# The rest of it: without pvpanic, by taint, lock-ups, hangs, resets, a VMM that is killed; and words that are none.
# timeout: 1500
. "$(dirname "$0")/../lib.sh"
. tests/lab/failures.bash

no_pvpanic='module_blacklist=pvpanic,pvpanic_mmio,pvpanic-mmio'
row 121 panic 'Kernel panic - not syncing: sysrq' -a "$no_pvpanic" -- sh -c 'echo c >/proc/sysrq-trigger'
row 121 panic 'Kernel panic - not syncing' -a rdinit=/nonexistent -- true
row 118 boot-hang 'boot-timeout' --boot-timeout 4s -a rdinit=/bin/sh -- true
row 124 timeout 'within --timeout' --timeout 20s -- sleep 1000
row 122 reset 'reset itself' -- reboot -f
row 120 oops 'taint' --oops fail -- sh -c 'echo 128 >/proc/sys/kernel/tainted; exit 0'
row 120 soft-lockup 'taint' --oops fail -- sh -c 'echo 16384 >/proc/sys/kernel/tainted; exit 0'
row 120 soft-lockup 'soft lockup - CPU#0' --oops fail -- \
	sh -c 'echo "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:71]" >/dev/kmsg; sleep 1000'
row 120 soft-lockup 'blocked for more than' --oops fail -- \
	sh -c 'echo "INFO: task cat:71 blocked for more than 120 seconds." >/dev/kmsg; exit 0'
row 120 soft-lockup 'self-detected stall' --oops fail -- \
	sh -c 'echo "rcu: INFO: rcu_preempt self-detected stall on CPU" >/dev/kmsg; exit 0'
kernel=6.1-cloud row 119 no-answer 'is no frame' -a module_blacklist=virtio_console -- \
	sh -c 'echo nonsense >/dev/ttyS1; sleep 1000'
row 125 failed '/nonexistent/disk' --disk /nonexistent/disk -- true

# Only the kernel's log is believed, and only when asked.
row 0 answer '' --oops fail -- sh -c 'echo "Kernel panic - not syncing"; echo "BUG: all is well" >&2'
row 0 answer '' -- sh -c 'echo "BUG: kernel NULL pointer dereference" >/dev/kmsg; sleep 1'
grep -q '"oops": "BUG: kernel NULL pointer' "$tmp/result" || fail "an oops that is ignored is not in --result"

# What an earlier run left is not there to be believed.
need_guest "$kernel"
echo '{"status": 0, "outcome": "answer"}' >"$tmp/result"
"$ringlet" run "${guest_args[@]}" --result "$tmp/result" --junit "$tmp/junit" --timeout 60s -- sh -c 'echo ready; sleep 1000' >"$tmp/out" 2>"$tmp/err" &
pid=$!
wait_for '^ready'
kill -KILL "$pid"
finish 10
expect_status 137 "SIGKILL"
expect_result 125 failed
grep -q '<error message="the run has not come to its end"' "$tmp/junit" || fail "a killed VMM's --junit is no error"
