# The start of every script that a case runs in a guest. The first disk holds the tools (guest-images/mktools.sh):
# `t PROGRAM ARGS` runs one of them.
set -u
fail() {
	echo "guest: $*"
	exit 1
}
t() {
	local program=$1
	shift
	PATH=/bin chroot /mnt "/bin/$program" "$@" # by its path: else busybox takes its own
}
mount -t ext4 -o ro /dev/vda /mnt || fail "the disk of tools cannot be mounted"
for dir in dev proc sys; do mount -o bind /$dir /mnt/$dir; done
mount -t tmpfs none /mnt/tmp
