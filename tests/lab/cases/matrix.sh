#!/bin/bash
# Real kernels by "ringlet matrix": commands that answer, fail and panic; all of them, with TEST_MATRIX=all: also a hang, and
# both transports.
# timeout: 600
. "$(dirname "$0")/../lib.sh"

need_guest 6.1-cloud
need_guest 6.12-cloud
cat >"$tmp/boot.ini" <<END
[matrix]
directory = $PWD/build/guest
exclude = 6.1/mmio/panic 6.1/mmio/hang

[defaults]
timeout = 150s

[kernel 6.1]
path = 6.1-cloud/vmlinuz
initrd = 6.1-cloud/initramfs.cpio
[kernel 6.12]
path = 6.12-cloud/vmlinuz
initrd = 6.12-cloud/initramfs.cpio

[options pci]
-c 2
[options mmio]
transport = mmio

[command version]
shell = uname -r | grep -q cloud
[command seven]
shell = echo words; exit 7
expect = 7
[command panic]
shell = echo c >/proc/sysrq-trigger
expect = panic
[command hang]
run = sleep 1000
timeout = 60s
expect = timeout
[command wrong]
run = false
END
matrix() { # OPTIONS...
	status=0
	"$ringlet" matrix "$tmp/boot.ini" --out "$tmp/results" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	show "$tmp/out" "$tmp/err"
	echo "exit status $status"
}

if [ "${TEST_MATRIX:-}" = all ]; then
	matrix --filter '*/*/version' --filter '6.1*/pci/seven' --filter '6.12/pci/panic' --filter '6.12/pci/hang'
	expect_line "$tmp/out" '^passed 6.1/pci/version '
	expect_line "$tmp/out" '^passed 6.1/mmio/version '
	expect_line "$tmp/out" '^passed 6.12/pci/hang '
else
	matrix --filter '6.1/pci/version' --filter '6.12/pci/seven' --filter '6.12/pci/panic'
fi
expect_status 0 "what ends as expected"
expect_line "$tmp/out" '^passed 6.12/pci/panic '
expect_line "$tmp/results/6.12/pci/seven/stdout" '^words'
expect_line "$tmp/results/6.12/pci/panic/console.log" 'panic'

matrix --filter '6.12/mmio/wrong' --filter '6.12/pci/version' --tap
expect_status 1 "a command that fails"
expect_line "$tmp/out" '^not ok [12] - 6.12/mmio/wrong'
expect_line "$tmp/out" '^ok [12] - 6.12/pci/version'
expect_line "$tmp/out" 'status 1; expected status 0'
