#!/bin/bash
# All benches: what KVM needs no speed for here, the rest here or in the lab.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/.."
here=()
build/ringlet doctor --check kvm || here=(tests/lab/lab exec)
bench/compare.py start --rounds "${ROUNDS:-15}"
bench/compare.py start --rounds "${ROUNDS:-15}" --kernel build/guest/6.1-generic/vmlinuz # 8 MiB
"${here[@]}" bench/compare.py boot --rounds "${ROUNDS:-5}"
"${here[@]}" bench/compare.py memory --rounds 1
make -s --no-print-directory -f Makefile -f bench/Makefile.inc bench-guests
bench/native.py --rounds "${ROUNDS:-15}" --seconds 0.5
"${here[@]}" bench/linux.py --rounds "${ROUNDS:-3}"
bench/backend_net.sh "${ROUNDS:-9}"
bench/backend_net_count.sh
bench/backend_blk.py --rounds "${ROUNDS:-15}" --seconds 0.4 --only cache-read,tmpfs-read,memory-read
# Datapaths: beside QEMU's front ends, beside each other, and from one to another.
bench/peers.py --rounds "${ROUNDS:-15}"
"${here[@]}" bench/vhost.py --rounds "${ROUNDS:-5}"
bench/datapaths.py --rounds "${ROUNDS:-15}"
if [ ${#here[@]} != 0 ]; then "${here[@]}" bench/datapaths.py --rounds "${ROUNDS:-5}"; fi # with what is not here
bench/moves.py
