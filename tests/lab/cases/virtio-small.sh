#!/bin/bash
# Entropy, the balloon, and what lspci says of all devices.
. "$(dirname "$0")/../lib.sh"
in_guest --name small -m 512M --rng --balloon --net user --console virtio -- '
[ "$(cat /sys/class/misc/hw_random/rng_current)" = virtio_rng.0 ] || fail "the entropy device is $(cat /sys/class/misc/hw_random/rng_current)"
a=$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sha256sum)
b=$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sha256sum)
[ "$a" != "$b" ] || fail "the same entropy twice"
[ -d /sys/bus/virtio/drivers/virtio_balloon/virtio* ] || fail "no balloon"
t lspci -vv -d 1af4: >/tmp/lspci 2>/dev/null # it misses files of libkmod
cat /tmp/lspci
# It has no name for the capability of type 5, the window into the others (4.1.4.9).
! grep -v "VirtIO: <unknown>" /tmp/lspci | grep -iE "unknown|invalid|rev ff|access denied|<chain broken|error" | grep -v "SERR\|PERR\|FatalErr" || fail "lspci sees something odd"
[ "$(grep -c "MSI-X: Enable+" /tmp/lspci)" = 5 ] || fail "$(grep -c "MSI-X: Enable+" /tmp/lspci) devices use MSI-X, and not 5"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:|pci.*(error|can.t|fail)" || fail "the kernel complains"
'
expect_status 0 "a guest with all devices"
