#!/bin/bash
# only: test-all
# A kernel that goes wrong in earnest, by lkdtm: oopses, lock-ups, a panic, and what is no failure.
# timeout: 900
. "$(dirname "$0")/../lib.sh"
. tests/lab/failures.bash
[ -e build/guest/crash/bzImage ] || fail "build/guest/crash is missing; run: guest-images/build-kernel.sh crash"

# shellcheck disable=SC2034 # lib.sh
need_guest() { guest_args=(-k build/guest/crash/bzImage -i build/guest/6.12-cloud/initramfs.cpio -a watchdog_thresh=2); }
provoke='mount -t debugfs none /sys/kernel/debug; cd /sys/kernel/debug/provoke-crash; echo 5 >/proc/sys/kernel/hung_task_timeout_secs;'

row 120 oops 'BUG: kernel NULL pointer dereference' --oops fail -- sh -c "$provoke echo EXCEPTION >DIRECT; exit 0"
row 120 oops 'kernel BUG at' --oops fail -- sh -c "$provoke (echo BUG >DIRECT); exit 0"
row 120 soft-lockup 'soft lockup - CPU#0' --oops fail -- sh -c "$provoke echo SOFTLOCKUP >DIRECT"
row 120 soft-lockup 'blocked for more than 5 seconds' --oops fail -- sh -c "$provoke echo HUNG_TASK >DIRECT"
row 121 panic 'Kernel panic - not syncing: dumptest' -- sh -c "$provoke echo PANIC >DIRECT"
row 121 panic 'Kernel panic - not syncing' -a oops=panic -- sh -c "$provoke echo EXCEPTION >DIRECT"
row 121 panic 'Kernel panic - not syncing: softlockup' -a softlockup_panic=1 -- sh -c "$provoke echo SOFTLOCKUP >DIRECT"
# Interrupts off for ever, and nothing in the guest that would notice.
row 124 timeout 'within --timeout' --timeout 20s --oops fail -- sh -c "$provoke echo HARDLOCKUP >DIRECT"

# Nobody asked: the command's own status, and the oops in --result.
row 3 answer '' -- sh -c "$provoke (echo EXCEPTION >DIRECT); exit 3"
grep -q '"oops": ".*BUG: kernel NULL pointer' "$tmp/result" || fail "an oops that is ignored is not in --result"
# A process that nothing can end is left behind: the command's answer counts all the same.
row 5 answer '' -- sh -c "$provoke (echo HUNG_TASK >DIRECT) & sleep 1; exit 5"
expect_line "$tmp/err" 'cannot be ended'
# A warning is none.
row 0 answer '' --oops fail -- sh -c "$provoke echo WARNING >DIRECT; grep -q . DIRECT; exit 0"
expect_line "$tmp/console" 'WARNING: CPU: 0'
