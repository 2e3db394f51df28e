#!/bin/bash
# only: test-all
# pin= and the topology: what the host's threads are bound to, and what the guest sees.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -c 8,sockets=2,cores=2,threads=2 -- sh -c '
	cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list /sys/devices/system/cpu/cpu7/topology/core_siblings_list
	grep -c "^physical id.*: 1" /proc/cpuinfo; cat /sys/devices/system/clocksource/clocksource0/current_clocksource'
expect_status 0 "booting"
[ "$(tr '\n' ' ' <"$tmp/out")" = "0-1 4-7 4 kvm-clock " ] || fail "the guest sees: $(tr '\n' ' ' <"$tmp/out")"
cpu=$(($(nproc) - 1))
start_guest --timeout "${patience}s" -c 2,pin=$cpu
wait_for_shell
for task in /proc/"$pid"/task/*; do
	case $(cat "$task/comm") in
	vcpu*) grep -q '^Cpus_allowed_list:[[:space:]]*'$cpu'$' "$task/status" || fail "$(cat "$task/comm") is not bound to CPU $cpu" ;;
	esac
done
say poweroff -f
finish 30
expect_status 0 "power-off"
