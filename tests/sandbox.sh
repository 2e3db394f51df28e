#!/bin/bash
# What makes the filters: lists that are wrong do not build; and a VM under them is what it says. TAP.
# usage: BUILD=build RINGLET=build/ringlet tests/sandbox.sh
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
ringlet=${RINGLET:-$build/ringlet}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

check() { # NAME REASON
	if [ -z "$2" ]; then echo "ok - sandbox/$1"; else
		failed=1
		echo "not ok - sandbox/$1: $2"
	fi
}

# Makes filters of one comment; its output is in $work/out.
make_of() {
	printf '%s\n' "$1" >"$work/x.c"
	awk -f scripts/syscalls.awk "$work/x.c" >"$work/syscalls.list" 2>"$work/out" || return
	${CC:-cc} -std=c17 -D_GNU_SOURCE -I"$work" -o "$work/syscalls" scripts/syscalls.c -lseccomp 2>"$work/out" || return
	"$work/syscalls" >"$work/filters.h" 2>"$work/out"
}

refused() { # NAME COMMENT WORD
	local reason=
	if make_of "$2"; then reason="it was taken"; elif ! grep -q -- "$3" "$work/out"; then reason="not told of $3: $(head -c 300 "$work/out")"; fi
	check "$1" "$reason"
}

make_of '/* #syscalls[vcpu,data]: read fcntl:1==F_SETFL clone3=ENOSYS -- and prose
 * #ioctls[vcpu]: KVM_RUN */'
check a-list-that-is-right "$(head -c 300 "$work/out")"
grep -q '{"vcpu", "KVM_RUN"' "$work/filters.h"
check it-is-in-the-table "$([ $? = 0 ] || echo 'KVM_RUN is not')"
refused a-call-that-there-is-not '/* #syscalls[vcpu]: frobnicate */' frobnicate
refused an-ioctl-that-there-is-not '/* #ioctls[vcpu]: KVM_FROBNICATE */' KVM_FROBNICATE
refused a-flag-that-there-is-not '/* #syscalls[main]: fcntl:1==F_FROBNICATE */' F_FROBNICATE
refused a-kind-that-there-is-not '/* #syscalls[frob]: read */' frob
refused no-kind '/* #syscalls: read */' '#syscalls:'
refused no-word '/* #syscalls[main]: Read! */' 'Read!'

# A VM as it runs: each thread has a filter, no capability, and no descriptor that is passed on.
"$ringlet" run -k "$build/bare/spin.elf" -m 64M --timeout 20s 8</etc/passwd >"$work/vm" 2>&1 </dev/null &
vm=$!
for _ in $(seq 100); do
	[ "$(cat /proc/$vm/task/*/comm 2>/dev/null | grep -c vcpu)" != 0 ] && break
	sleep 0.05
done
sleep 0.3
bad=$(grep -HE '^(Seccomp|NoNewPrivs|CapEff|CapPrm):' /proc/$vm/task/*/status | grep -vE 'Seccomp:.2$|NoNewPrivs:.1$|Cap...:.0*$')
[ -e /proc/$vm ] || bad="the VM has ended: $(head -c 300 "$work/vm")"
check every-thread-is-confined "$bad"
bad=
for fd in /proc/$vm/fdinfo/*; do
	n=${fd##*/}
	[ "$n" -gt 2 ] || continue
	flags=$(sed -n 's/^flags:[[:space:]]*//p' "$fd")
	(((8#$flags & 8#2000000) != 0)) || bad+=" $n"
done
check descriptors-are-closed-on-exec "$bad"
check what-was-inherited-is-closed "$(readlink /proc/$vm/fd/* | grep -x /etc/passwd)"
kill -KILL $vm
wait $vm 2>/dev/null

"$ringlet" run -k "$build/bare/spin.elf" -m 64M --timeout 20s --sandbox off >"$work/vm" 2>&1 </dev/null &
vm=$!
sleep 1
check off-is-off "$(grep -h '^Seccomp:' /proc/$vm/task/*/status | grep -v '0$')"
kill -KILL $vm
wait $vm 2>/dev/null
# Who is not root. (May open /dev/kvm and this directory by a capability, which the sandbox takes away.)
of_a_user() { # COMMAND...
	setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps +dac_override --ambient-caps +dac_override "$@"
}
if [ "$(id -u)" = 0 ]; then
	status=0
	of_a_user "$ringlet" run -k "$build/bare/smp.elf" -m 64M --timeout 20s --control "$work/control" -c 2 -a cpus=2 >"$work/vm" 2>&1 </dev/null || status=$?
	check a-user-s-vm-runs "$([ $status = 0 ] || echo "status $status: $(head -c 300 "$work/vm")")"
	# However few processes one may have: it runs, or says what is wrong.
	bad=
	for most in 1 2 3 4 5 6; do
		status=0
		of_a_user bash -c "ulimit -u $most; exec $ringlet run -k $build/bare/smp.elf -m 64M --timeout 20s -a cpus=1" >"$work/vm" 2>&1 </dev/null || status=$?
		case $status in
		0) ;;
		125) grep -qE 'Resource temporarily unavailable' "$work/vm" || bad+=" $most: $(head -c 200 "$work/vm")" ;;
		*) bad+=" $most: status $status" ;;
		esac
	done
	check few-processes-are-told "$bad"
else
	echo "ok - sandbox/a-user-s-vm-runs # SKIP only root can be somebody else"
fi
[ $failed = 0 ]
