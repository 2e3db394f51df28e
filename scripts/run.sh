#!/bin/bash
# What `make run` does once everything is built: boots a stock kernel here, or, where KVM cannot, in the lab.
# usage: run.sh KERNEL-NAME [COMMAND-LINE]
set -euo pipefail
cd "$(dirname "$0")/.."

kernel=$1 command=${2:-}
args=(build/ringlet run -k "build/guest/$kernel/vmlinuz" -i "build/guest/$kernel/initramfs.cpio"
	-m "${MEM:-512M}" -c "${CPUS:-2}")
if [ -n "$command" ]; then args+=(-- sh -c "$command"); fi

if why=$(build/ringlet doctor --check kvm); then
	exec "${args[@]}"
fi
echo "${why:-KVM cannot be used here}; booting in the lab instead (a KVM host in an emulator: slow)" >&2
scripts/setup.sh lab
tests/lab/fetch.sh >/dev/null
# With more the emulator now and then loses a guest, or itself; it is no faster (docs/lab-stability.md).
LAB_CPUS=${LAB_CPUS:-1} exec tests/lab/lab exec "${args[@]}"
