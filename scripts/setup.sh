#!/bin/bash
# Installs, by package name, what is missing for the purposes named; says what. Silent when nothing is.
# usage: setup.sh PURPOSE...      PURPOSE: build run lab test bench compare fuzz images kernel tools peers
set -euo pipefail

packages_build="gcc libc6-dev linux-libc-dev libjansson-dev libzstd-dev liblzma-dev liblz4-dev zlib1g-dev musl-tools
	liburing-dev libslirp-dev libseccomp-dev"
packages_run="busybox-static cpio kmod xz-utils zstd"
packages_lab="qemu-system-x86 busybox-static cpio kmod xz-utils iproute2 debian-archive-keyring"
packages_test="gnuplot-nox git libcriterion-dev acpica-tools cpio mandoc clang-format cppcheck zstd valgrind iproute2 qemu-utils libxml2-utils
	qemu-system-common e2fsprogs procps"
packages_tools="iperf3 fio ethtool pciutils e2fsprogs util-linux iproute2 iputils-ping sockperf socat dnsmasq-base"
packages_compare="gnuplot-nox iproute2 iperf3 sockperf xz-utils"
packages_bench="qemu-system-x86 python3 iproute2 valgrind linux-perf iperf3 xz-utils"
# Nothing here starts a service; what would is unpacked by tests/peers/fetch.sh instead.
packages_peers="qemu-system-common qemu-utils socat iproute2 kmod python3 debian-archive-keyring util-linux"
packages_kernel="gcc make flex bison bc libelf-dev libssl-dev lz4 xz-utils perl"
packages_images="e2fsprogs xfsprogs btrfs-progs"
packages_fuzz="clang libclang-rt-14-dev llvm"

missing=()
for purpose; do
	list=packages_$purpose
	if [ -z "${!list:-}" ]; then
		echo "setup: no such purpose: $purpose (known: build run lab test bench compare fuzz images kernel tools peers)" >&2
		exit 125
	fi
	for package in ${!list}; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			case " ${missing[*]:-} " in *" $package "*) ;; *) missing+=("$package") ;; esac
	done
done
as_root=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || [ ${#missing[@]} = 0 ] || {
		echo "setup: not root, and no sudo; run as root: apt-get install ${missing[*]}" >&2
		exit 125
	}
	as_root=(sudo)
fi
# Kernels are fetched by package name later, and that wants a package list.
case " $* " in
*" run "*) apt-cache show linux-image-6.12-cloud-amd64 >/dev/null 2>&1 || "${as_root[@]}" apt-get update -qq ;;
esac
[ ${#missing[@]} -gt 0 ] || exit 0
echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null
}
# An old or empty package list is the usual reason for a failure.
install || { "${as_root[@]}" apt-get update -qq >>"$log" 2>&1 && install; } || {
	tail -n 20 "$log" >&2
	echo "setup: that did not work; try: apt-get update && apt-get install ${missing[*]}" >&2
	exit 125
}
