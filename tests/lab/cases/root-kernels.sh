#!/bin/bash
# The host's user space under other stock kernels, by the virtiofsd in Rust; written to where it was asked for.
# timeout: 400
# only: test-all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../root-lib.bash"
patience=$((patience / 3))
use_virtiofsd rust
mkdir -p "$tmp/root"/{bin,sub}
cp "$(command -v busybox)" "$tmp/root/bin/busybox"
ln -s busybox "$tmp/root/bin/sh"
echo "kept" >"$tmp/root/sub/file"
sum=$(sha /etc/passwd)
for kernel in 6.1-cloud 6.12-generic; do
	root_run $kernel --root / -- sh -c 'uname -r; sha256sum /etc/passwd; rm /etc/passwd; ls / | grep -c .'
	expect_status 0 "a command under $kernel"
	[ "$(head -n 1 "$tmp/out")" = "$(cat "build/guest/$kernel/version")" ] || fail "another kernel has run"
	expect_line "$tmp/out" "^$sum  /etc/passwd"
	[ "$(sha /etc/passwd)" = "$sum" ] || fail "the guest has written to the host"
done
root_run 6.1-cloud --root "$tmp/root" -- /bin/busybox sh -c '
export PATH=/bin; busybox cat /sub/file; echo lost >/sub/file; echo lost >/sub/new; busybox cat /sub/file; busybox ls /sub'
expect_status 0 "a command in a directory"
[ "$(tr '\n' ' ' <"$tmp/out")" = "kept lost file new " ] || fail "the guest sees something else"
[ "$(cat "$tmp/root/sub/file")" = kept ] && [ ! -e "$tmp/root/sub/new" ] || fail "the guest has written to the host"
root_run 6.1-cloud --root "$tmp/root,rw" -- /bin/busybox sh -c 'echo kept as well >/sub/file; echo x >/sub/new'
expect_status 0 "a command in a writable directory"
[ "$(cat "$tmp/root/sub/file")" = "kept as well" ] && [ -e "$tmp/root/sub/new" ] || fail "what was written has not arrived"
nothing_left
