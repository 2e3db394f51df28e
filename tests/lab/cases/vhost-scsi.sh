#!/bin/bash
# --scsi vhost: a disk of the kernel's target is found, written to and read back; the target is one guest's.
. "$(dirname "$0")/../lib.sh"
modprobe -a target_core_mod target_core_file vhost_scsi 2>/dev/null
[ -e /dev/vhost-scsi ] || skip "no /dev/vhost-scsi"
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config || skip "no configfs"
wwpn=naa.5001405000000001 config=/sys/kernel/config/target
truncate -s 64M "$tmp/disk"
mkdir -p "$config/core/fileio_0/disk0" || skip "no target in this kernel"
echo "fd_dev_name=$tmp/disk,fd_dev_size=67108864" >"$config/core/fileio_0/disk0/control"
echo 1 >"$config/core/fileio_0/disk0/enable"
portal=$config/vhost/$wwpn/tpgt_1
mkdir -p "$portal/lun/lun_0"
echo naa.5001405000000002 >"$portal/nexus"
ln -s "$config/core/fileio_0/disk0" "$portal/lun/lun_0/disk0"
drop_target() {
	rm "$portal/lun/lun_0/disk0"
	echo NULL >"$portal/nexus"
	rmdir "$portal/lun/lun_0" "$portal" "$config/vhost/$wwpn" "$config/core/fileio_0/disk0"
}
trap 'drop_target; rm -rf "$tmp"' EXIT
in_guest --scsi "vhost,wwpn=$wwpn" -- '
modprobe -a virtio_scsi sd_mod || fail "the guest has no driver"
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda ] && break; sleep 1; done
[ "$(cat /sys/block/sda/size)" = 131072 ] || fail "there is no disk, or of another size"
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
dd if=/tmp/data of=/dev/sda bs=1M conv=fsync 2>/dev/null || fail "the disk cannot be written"
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/sda bs=1M count=8 2>/dev/null | cmp - /tmp/data || fail "the disk does not hold what was written"
echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
'
expect_status 0 "using the disk"
grep -q "sha $(head -c 8M "$tmp/disk" | sha256sum | cut -d ' ' -f 1)" "$tmp/out" || fail "the file holds something else"
run_guest --scsi vhost,wwpn=naa.1
[ "$status" != 0 ] || fail "it runs without its target"
grep -q "no such target" "$tmp/err" || fail "it does not say what is wrong"
