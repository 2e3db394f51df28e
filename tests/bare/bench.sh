#!/bin/bash
# How fast virtio devices are for a driver in ring 3 that does nothing else: a line each.  Not a test.
# usage: RINGLET=build/ringlet tests/bare/bench.sh [GUEST-OPTION...]       n=100000, wait=irq, packed=1, ...
#        VMM=qemu tests/bare/bench.sh ...                                  the same guest under QEMU
cd "$(dirname "$0")/../.." || exit 1
ringlet=${RINGLET:-build/ringlet}
guest=${BUILD:-build}/bare/virtio_bench.elf
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
truncate -s 64M "$work/sparse"
cat "$work/sparse" >/dev/null # into the page cache
export more="$*"

case ${VMM:-ringlet} in
ringlet)
	blk() { # GUEST-OPTIONS [KEYS]
		"$ringlet" run -k "$guest" -m 64M --timeout 60s -a "$1 $more" --disk "$work/sparse,packed=on${2:+,$2}"
	}
	net() {
		"$ringlet" run -k "$guest" -m 64M --timeout 60s -a "$1 $more" --net tap,ifname=tap0,packed=on
	}
	;;
qemu)
	qemu() { # GUEST-OPTIONS QEMU-OPTIONS...
		timeout 60 qemu-system-x86_64 -nodefaults -accel kvm -cpu host -m 64M -display none -serial stdio \
			-device isa-debug-exit,iobase=0x5f0,iosize=4 -kernel "$guest" -append "$1 $more" "${@:2}"
		[ $? -eq 1 ] # twice the status and 1
	}
	blk() { # GUEST-OPTIONS [KEYS]
		local aio=io_uring
		[[ ${2:-} == *aio=sync* ]] && aio=threads
		qemu "$1" -object iothread,id=io \
			-drive "if=none,id=d,file=$work/sparse,format=raw,aio=$aio" \
			-device virtio-blk-pci,drive=d,iothread=io,disable-legacy=on,packed=on
	}
	net() {
		qemu "$1" -netdev tap,id=n,ifname=tap0,script=no,downscript=no,vhost=off \
			-device virtio-net-pci,netdev=n,disable-legacy=on,packed=on,romfile=
	}
	;;
*)
	echo "VMM=$VMM: ringlet or qemu" >&2
	exit 2
	;;
esac
export ringlet guest work
export -f blk net
[ "${VMM:-}" = qemu ] && export -f qemu

tidy() {
	tr -d '\r' | grep -aE '^(bench|not ok)|error|failed' | sed "s/^/${VMM:-ringlet} /"
}

for depth in 1 32; do
	blk "bench=read depth=$depth" | tidy
	blk "bench=write depth=$depth" | tidy
	blk "bench=read depth=$depth wait=irq" | tidy
done
blk "bench=flush depth=1" | tidy
blk "bench=read depth=32 size=65536" | tidy
blk "bench=read depth=32" aio=sync | sed 's/blk read/blk read (aio=sync)/' | tidy
for depth in 1 32 256; do
	unshare -n bash -c "ip tuntap add dev tap0 mode tap vnet_hdr && ip link set tap0 up && net \
		'bench=net depth=$depth n=$((depth * 10000))'" | tidy
done
