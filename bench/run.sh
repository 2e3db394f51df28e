#!/bin/bash
# All benches: what KVM needs no speed for here, the rest here or in the lab.
set -euo pipefail
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
