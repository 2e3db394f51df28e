#!/bin/bash
# What `make compare` does once everything is built: cards and disks by every path, in a Linux guest, here or, where KVM cannot boot
# one, in the lab. Tables on stdout; build/compare/{net,disk}/report.html.
# usage: compare.sh KERNEL-NAME      REPEAT=3 DURATION=2s
set -euo pipefail
cd "$(dirname "$0")/.."

kernel=$1
out=build/compare
ringlet=${RINGLET:-build/ringlet}
args=(--repeat "${REPEAT:-3}" --duration "${DURATION:-2s}" -k "build/guest/$kernel/vmlinuz" -i "build/guest/$kernel/initramfs.cpio"
	--tools build/guest/tools.img)
here=()
# The lab has one place that can be written, and one processor with which it is dependable (docs/lab-stability.md).
if ! why=$("$ringlet" doctor --check kvm); then
	echo "${why:-KVM cannot be used here}; comparing in the lab instead (a KVM host in an emulator: slow, and only the order means something)" >&2
	scripts/setup.sh lab
	tests/lab/fetch.sh >/dev/null
	out=build/lab/compare
	here=(env "LAB_CPUS=${LAB_CPUS:-1}" tests/lab/lab exec)
fi
mkdir -p "$out" build/compare
for what in ${ONLY:-net disk}; do
	case $what in
	net) paths=(--net tap,vhost-net,vhost-user,vdpa --workload tcp,rr,pps) ;;
	disk) paths=(--disk in-process,vhost-user,vdpa --workload randread,qd1) ;;
	esac
	"${here[@]}" "$ringlet" compare "${paths[@]}" "${args[@]}" --out "$out/$what"
	if [ "$out" != build/compare ]; then
		rm -rf "build/compare/$what"
		mv "$out/$what" "build/compare/$what"
	fi
done
echo "compared: build/compare/*/report.html"
