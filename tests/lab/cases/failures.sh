#!/bin/bash
# A guest in trouble is never green: each kind has its status, its sentence, and its word in --result.
# timeout: 240
. "$(dirname "$0")/../lib.sh"
. tests/lab/failures.bash

row 121 panic 'kernel panicked: Kernel panic - not syncing: sysrq' -- sh -c 'echo c >/proc/sysrq-trigger'
row 120 oops 'oops .*BUG: kernel NULL pointer' --oops fail -- \
	sh -c 'echo "BUG: kernel NULL pointer dereference, address: 0" >/dev/kmsg; exit 0'
row 119 no-answer 'before the command had' -- poweroff -f
