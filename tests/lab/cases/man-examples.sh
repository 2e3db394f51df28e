#!/bin/bash
# only: test-all
# The examples of the manual that boot a guest.
# timeout: 300
. "$(dirname "$0")/../lib.sh"
need_guest "$kernel"
RINGLET=$ringlet KERNEL=build/guest/$kernel/vmlinuz INITRD=build/guest/$kernel/initramfs.cpio \
	tests/man/examples.sh --guest >"$tmp/out" || true
cat "$tmp/out"
! grep -q '^not ok\|SKIP' "$tmp/out" || fail "$(grep -c '^not ok\|SKIP' "$tmp/out") examples do not work"
[ "$(grep -c '^ok' "$tmp/out")" -gt 1 ] || fail "no example was run"
