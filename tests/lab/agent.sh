#!/bin/bash
# PID 1 of the lab after init: sets a KVM host up and does what the file "mode" in the run directory says.
# usage: agent.sh REPOSITORY RUN_DIRECTORY
#
# In mode "cases" it talks to the runner in lines on the port lab.out: "ready", "start NAME", "done NAME STATUS SECONDS",
# and "alive" every few seconds, without which the runner takes the lab for dead.
# It must not end: the lab's kernel panics when it does, which is how the runner would learn of it.
repo=$1 run=$2
cases=/sys/fs/cgroup/case

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 LAB=1

set_up() {
	mkdir -p /dev/pts /dev/shm /dev/hugepages
	mount -t devpts -o mode=0620,gid=5,ptmxmode=0666 devpts /dev/pts
	mount -t tmpfs -o mode=1777 tmpfs /dev/shm
	mount -t hugetlbfs none /dev/hugepages
	mount -t debugfs none /sys/kernel/debug
	mount -t cgroup2 none /sys/fs/cgroup
	ln -sfn /proc/self/fd /dev/fd
	ln -sf /proc/self/fd/0 /dev/stdin
	ln -sf /proc/self/fd/1 /dev/stdout
	ln -sf /proc/self/fd/2 /dev/stderr
	echo lab >/proc/sys/kernel/hostname
	# A broken case shall leave a word in its log, not gigabytes in the tmpfs.
	ulimit -c 0
	if command -v ip >/dev/null; then ip link set lo up; fi
}

power_off() {
	sync
	echo o >/proc/sysrq-trigger
	sleep infinity
}

# Prints the device of the virtio-serial port with that name.
port() {
	local i name
	for ((i = 0; i < 100; i++)); do
		for name in /sys/class/virtio-ports/*/name; do
			if [ "$(cat "$name" 2>/dev/null)" = "$1" ]; then
				name=${name%/name}
				echo "/dev/${name##*/}"
				return
			fi
		done
		sleep 0.05
	done
	echo "lab: there is no port $1" >/dev/console
}

# A cgroup, because a case's children may leave its process group; what is left in it is killed whatever it did.
run_case() {
	local name=$1 limit=$2 command=$3 logs=$repo/build/lab group=$cases.$1 began status took
	# Not what is mounted there: a repository below /tmp, with the results of all cases.
	find /tmp /run -xdev -mindepth 1 -delete 2>/dev/null
	mkdir -p "$group"
	dmesg --clear
	began=${EPOCHREALTIME/./}
	(
		exec {out}>&-
		echo "$BASHPID" >"$group/cgroup.procs"
		export LAB_LIMIT=$limit
		exec timeout --kill-after=10 "$limit" bash -c "$command"
	) >"$logs/$name.log" 2>&1 </dev/null
	status=$?
	took=$((${EPOCHREALTIME/./} - began))
	echo 1 >"$group/cgroup.kill"
	rmdir "$group" 2>/dev/null
	if ((status == 124 || status == 137)) && ((took >= limit * 1000000)); then status=timeout; fi
	case $status in
	0 | 77) ;;
	*) dmesg >"$logs/$name.dmesg" ;;
	esac
	echo 0 >/proc/sys/vm/nr_hugepages
	printf 'done %s %s %d.%d\n' "$name" "$status" $((took / 1000000)) $((took / 100000 % 10)) >&"$out"
}

run_cases() {
	local name limit command
	cd "$repo" || return
	exec {out}>"$(port lab.out)"
	echo ready >&"$out"
	while sleep 5; do echo alive >&"$out"; done &
	while IFS=$'\t' read -r name limit command; do
		echo "start $name" >&"$out"
		run_case "$name" "$limit" "$command"
	done <"$run/cases"
}

load_command() {
	mapfile -d '' -t command <"$run/command"
	cd "$(cat "$run/cwd")" || cd "$repo" || cd /
}

# With a terminal: the second serial port is the person's.
run_on_terminal() {
	local rows cols
	load_command
	read -r rows cols <"$run/size"
	exec {tty}<>/dev/ttyS1 # kept open: the last close forgets the settings
	stty sane rows "${rows:-24}" cols "${cols:-80}" <&"$tty"
	setsid --ctty --wait "${command[@]}" <>/dev/ttyS1 >&0 2>&1 {tty}>&-
	echo $? >"$run/status"
}

run_on_ports() {
	load_command
	setsid --wait "${command[@]}" <"$(port lab.in)" >"$(port lab.out)" 2>"$(port lab.err)"
	echo $? >"$run/status"
}

set_up
while read -r _; do :; done <"$(port lab.poke)" & # an interrupt each
. "$run/env"
case $(cat "$run/mode") in
cases) run_cases ;;
terminal) run_on_terminal ;;
ports) run_on_ports ;;
esac
power_off
