#!/bin/bash
# --vsock: a socket from the guest to the host and one back carry whole files; a CID is one guest's.
. "$(dirname "$0")/../lib.sh"
modprobe vhost_vsock 2>/dev/null
[ -e /dev/vhost-vsock ] || skip "no /dev/vhost-vsock"
head -c 4M /dev/urandom >"$tmp/data"
socat -u VSOCK-LISTEN:1234 OPEN:"$tmp/from_guest",creat &
(
	for ((i = 0; i < 200; i++)); do
		socat -u OPEN:"$tmp/data" VSOCK-CONNECT:42:5678 2>/dev/null && break
		sleep 0.5
	done
) &
in_guest --vsock 42 -- '
modprobe vmw_vsock_virtio_transport || fail "the guest has no driver"
[ -e /dev/vsock ] || fail "the driver does not find the device"
t socat -u VSOCK-LISTEN:5678 - >/tmp/data || fail "nobody came from the host"
echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
t socat -u - VSOCK-CONNECT:2:1234 </tmp/data || fail "the host does not answer"
'
expect_status 0 "talking through sockets"
data=$(sha "$tmp/data")
grep -q "sha $data" "$tmp/out" || fail "what the guest got differs from what the host sent"
for ((i = 0; i < 50; i++)); do
	[ "$(stat -c %s "$tmp/from_guest" 2>/dev/null)" = 4194304 ] && break
	sleep 0.2
done
[ "$(sha "$tmp/from_guest")" = "$data" ] || fail "what the host got differs from what the guest sent"

start_guest --timeout "${patience}s" --vsock 42
wait_for_shell
"$ringlet" run "${guest_args[@]}" --vsock 42 </dev/null >"$tmp/second" 2>&1 && fail "two guests have one CID"
grep -q "cid=42 is another virtual machine's" "$tmp/second" || fail "it does not say why: $(cat "$tmp/second")"
say 'exit'
finish 30
expect_status 0 "the shell's end"
