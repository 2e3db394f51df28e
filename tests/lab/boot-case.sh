#!/bin/bash
# Boots one stock kernel and checks that the guest is the machine that was asked for.
# usage: boot-case.sh KERNEL CPUS MEM BACKING     6.1-cloud 8 3G memfd|hugepages
. "$(dirname "$0")/lib.sh"

kernel=$1 cpus=$2 mem=$3 backing=$4
case $mem in
*G) mem_mib=$((${mem%G} * 1024)) ;;
*M) mem_mib=${mem%M} ;;
*) fail "a size of memory is like 3G or 256M, not '$mem'" ;;
esac
hugepages=$((mem_mib / 2))

huge() { # a field of /proc/meminfo
	awk -v field="HugePages_$1:" '$1 == field { print $2 }' /proc/meminfo
}

mem_arg=$mem
if [ "$backing" = hugepages ]; then
	echo 1 >/proc/sys/vm/compact_memory
	echo $hugepages >/proc/sys/vm/nr_hugepages
	[ "$(huge Total)" = $hugepages ] || skip "only $(huge Total) of $hugepages huge pages to be had here"
	mem_arg=$mem,hugepages=2M
	# The least that was neither used nor promised, to see the guest on them.
	(
		least=$hugepages
		while sleep 0.2; do
			now=$(($(huge Free) - $(huge Rsvd)))
			if ((now < least)); then
				least=$now
				echo $least >"$tmp/least"
			fi
		done
	) &
	watcher=$!
fi

boot() { # SECONDS
	run_guest -m "$mem_arg" -c "$cpus" --timeout "$1s" -- \
		sh -c 'uname -r; nproc; awk "/^MemTotal/ { print \$2 }" /proc/meminfo; cat /proc/uptime'
}

began=$EPOCHREALTIME
if [ "$cpus" = 32 ] && [ -n "${LAB:-}" ]; then
	# Some guests with so many stand still in an emulator (docs/lab-stability.md): one more try, which the report tells.
	boot $((patience / 2 - 5))
	if [ "$status" = 124 ]; then
		echo "lab: $kernel with $cpus vCPUs stood still and was started once more"
		boot $((patience / 2 - 5))
	fi
else
	boot "$patience"
fi
echo "took $(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')"

if [ "$backing" = hugepages ]; then
	kill "$watcher"
	wait "$watcher" 2>/dev/null
	expect_status 0 "a command that succeeded"
	[ "$(cat "$tmp/least" 2>/dev/null)" = 0 ] || fail "the guest left $(cat "$tmp/least" 2>/dev/null || echo all) of $hugepages huge pages unused"
	free=$(huge Free)
	echo 0 >/proc/sys/vm/nr_hugepages
	[ "$free" = $hugepages ] || fail "$free of $hugepages huge pages are free after the guest's end"
fi

expect_status 0 "a command that succeeded"
{ read -r got_version && read -r got_cpus && read -r got_kib; } <"$tmp/out" || fail "the command's output is incomplete"
version=$(cat "build/guest/$kernel/version")
[ "$got_version" = "$version" ] || fail "the guest runs $got_version and not $version"
[ "$got_cpus" = "$cpus" ] || fail "the guest has $got_cpus processors and not $cpus"
# What the kernel keeps for itself: its image and initial tables, 1/64 for struct page, something for each processor,
# and 64 MiB of bounce buffers where memory reaches beyond 4 GiB.
kept_mib=$((64 + mem_mib / 32 + cpus + (mem_mib > 2048 ? 64 : 0)))
least_kib=$(((mem_mib - kept_mib) * 1024))
((got_kib <= mem_mib * 1024 && got_kib >= least_kib)) ||
	fail "the guest sees $got_kib KiB of memory, not between $least_kib and $((mem_mib * 1024))"
