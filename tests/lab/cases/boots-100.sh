#!/bin/bash
# A hundred boots, four at a time: each answers, and what the host counts is as before.
#   TEST_BOOTS=100
# timeout: 1500
# only: test-all
. "$(dirname "$0")/../lib.sh"
boots=${TEST_BOOTS:-100}
guest=build/guest/small
[ -e $guest/version ] || fail "$guest is missing; run: guest-images/build-kernel.sh small"
dir=$tmp
export ringlet guest dir

# Of four kinds in turn, so that what a card, a disk and a helper process take is there to be left behind.
boot() { # NUMBER
	local options=() status=0
	case $(($1 % 4)) in
	1) options=(-n user) ;;
	2) options=(-n tap) ;;
	3) options=(-d "$dir/disk$1" --rng --balloon) && truncate -s 16M "$dir/disk$1" ;;
	esac
	"$ringlet" run -k $guest/vmlinux -m 256M -c $((1 + $1 % 2)) --timeout 300s --log "$dir/log$1" "${options[@]}" -- \
		sh -c "echo boot $1" >"$dir/out$1" 2>"$dir/err$1" </dev/null || status=$?
	echo "$1 $status $(head -c 100 "$dir/out$1" | tr -d '\r')" >>"$dir/results"
	if [ $status = 0 ]; then rm -f "$dir"/{log,out,err,disk}"$1"; fi
}
export -f boot

meminfo() { # FIELD, in KiB
	awk -v field="$1:" '$1 == field { print $2 }' /proc/meminfo
}

# What shall be the same afterwards to the last one, as "NAME VALUE" lines.
counted() {
	echo "processes $(for p in /proc/[0-9]*; do tr '\0' ' ' <"$p/cmdline" 2>/dev/null && echo; done | grep -ac "[r]inglet")"
	echo "helpers $(find /proc/[0-9]*/exe -printf '%l\n' 2>/dev/null | grep -c "ringlet")"
	echo "unix-sockets $(($(wc -l </proc/net/unix) - 1))"
	echo "inet-sockets $(awk '/^(TCP|UDP|RAW):/ { n += $3 } END { print n }' /proc/net/sockstat)"
	echo "run-files $(find /run "${XDG_RUNTIME_DIR:-/run/ringlet}" "/tmp/ringlet-$(id -u)" 2>/dev/null | sort -u | wc -l)"
	echo "tmp-files $(find /tmp -mindepth 1 -path "$dir" -prune -o -print 2>/dev/null | wc -l)"
	echo "shm-files $(find /dev/shm -mindepth 1 2>/dev/null | wc -l)"
	echo "interfaces $(find /sys/class/net -mindepth 1 | wc -l)"
	echo "namespaces $(find /proc/[0-9]*/ns -type l -printf '%l\n' 2>/dev/null | sort -u | wc -l)"
	echo "mounts $(wc -l </proc/self/mounts)"
	echo "huge-pages $(awk '/^HugePages_(Total|Free|Rsvd)/ { printf "%s,", $2 }' /proc/meminfo)"
	echo "vms $(find /sys/kernel/debug/kvm -mindepth 1 -maxdepth 1 -type d 2>/dev/null | wc -l)"
	echo "cgroups $(find /sys/fs/cgroup -type d 2>/dev/null | wc -l)"
}

# What the kernel frees when it likes: some seconds, then caches that can be had back are not in use.
settled() {
	sync
	sleep 3
	echo 3 >/proc/sys/vm/drop_caches 2>/dev/null
	sleep 1
	echo "available $(meminfo MemAvailable)"
	echo "slab $(meminfo SUnreclaim)"
	echo "shmem $(meminfo Shmem)"
	echo "files $(cut -f 1 /proc/sys/fs/file-nr)"
}

value() { # FILE NAME
	awk -v name="$2" '$1 == name { print $2 }' "$tmp/$1"
}

# The first of each kind fill caches and load what the host's kernel loads once.
for n in 1 2 3 4; do boot $n; done
cat "$tmp/results"
[ "$(grep -c ' 0 boot ' "$tmp/results")" = 4 ] || {
	show "$tmp"/err* "$tmp"/log*
	fail "the first four did not all answer"
}
rm -f "$tmp/results"
counted >"$tmp/before"
settled >"$tmp/before-memory"

began=$EPOCHREALTIME
seq 1 "$boots" | xargs -P 4 -I N bash -c 'boot N'
took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')

good=0
while read -r number status said; do
	if [ "$status" = 0 ] && [ "$said" = "boot $number" ]; then
		good=$((good + 1))
	else
		show "$tmp/err$number" "$tmp/log$number"
		echo "boot $number: status $status, it said '$said'"
	fi
done <"$tmp/results"
[ $good = "$boots" ] || fail "$good of $boots boots answered with 0 and with what was asked of them"

for ((i = 0; i < 10; i++)); do # the kernel takes a tap and a VM down in its own time
	counted >"$tmp/after"
	if cmp -s "$tmp/before" "$tmp/after"; then break; fi
	sleep 1
done
settled >"$tmp/after-memory"
paste "$tmp/before" "$tmp/after" | awk '{ print $1 ": " $2 " -> " $4 }'
paste "$tmp/before-memory" "$tmp/after-memory" | awk '{ print $1 ": " $2 " -> " $4 }'
cmp -s "$tmp/before" "$tmp/after" || {
	find /run -name '*ringlet*' 2>/dev/null
	fail "left behind: $(paste "$tmp/before" "$tmp/after" | awk '$2 != $4 { printf "%s %s -> %s; ", $1, $2, $4 }')"
}
# Of a boot, 80 KiB of all memory and 40 KiB in the kernel's own; what was measured is 3 and 5.
lost=$(($(value before-memory available) - $(value after-memory available)))
((lost < boots * 80 + 4096)) || fail "$lost KiB of memory less after $boots boots"
grown=$(($(value after-memory slab) - $(value before-memory slab)))
((grown < boots * 40 + 2048)) || fail "the kernel holds $grown KiB more in slabs after $boots boots"
shmem=$(($(value after-memory shmem) - $(value before-memory shmem)))
((shmem < 1024)) || fail "$shmem KiB more of shared memory after $boots boots"
files=$(($(value after-memory files) - $(value before-memory files)))
((files < 50)) || fail "$files more open files in the system after $boots boots"
echo "$boots boots in $took s, 4 at a time; memory $lost KiB, slabs $grown KiB, open files $files"
