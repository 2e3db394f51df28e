#!/bin/bash
# The host's user space under a stock kernel; shares; no virtiofsd, and one that dies.
# timeout: 240
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../root-lib.bash"
patience=$((patience / 2))
mkdir -p "$tmp/rw" "$tmp/ro" "$tmp/here"
head -c 300000 /dev/urandom >"$tmp/here/data"
echo in >"$tmp/ro/in"
use_virtiofsd c
ringlet=$(realpath "$ringlet")
repo=$PWD
sum=$(sha /etc/passwd)

RINGLET_VIRTIOFSD=/nowhere root_run 6.12-cloud --root / -- true
expect_status 125 "naming a virtiofsd that is not there"
expect_line "$tmp/err" 'RINGLET_VIRTIOFSD=/nowhere'

cd "$tmp/here" && ln -s "$repo/build" build || fail "no directory to start in"
CARRIED="a b" root_run 6.12-cloud --root / --share "$tmp/rw:/mnt/rw,rw" --share "$tmp/ro:/mnt/new/ro" --env CARRIED --cpus 2 -- sh -c '
uname -r; pwd; echo "env $CARRIED"; sha256sum data /etc/passwd
echo changed >/etc/passwd && echo new >/new-in-the-root && cat /new-in-the-root
cat /mnt/new/ro/in; echo out >/mnt/rw/out
! echo x 2>/dev/null >/mnt/new/ro/out || echo "the share is writable"
mount -o remount,rw /mnt/new/ro; ! echo x 2>/dev/null >/mnt/new/ro/out || echo "the share is writable"
ip -o addr show lo | grep -q 127.0.0.1 || echo "lo is down"
[ -e /sys/fs/cgroup/cgroup.procs ] || echo "no cgroups"
exit 7'
expect_status 7 "a command in the root of the host"
cat >"$tmp/expected" <<X
$(cat "$repo/build/guest/6.12-cloud/version")
$tmp/here
env a b
$(sha256sum data)
$sum  /etc/passwd
new
in
X
cmp "$tmp/expected" "$tmp/out" || fail "the output is not as it should be"
[ "$(sha /etc/passwd)" = "$sum" ] || fail "the guest has written to the host"
[ ! -e /new-in-the-root ] || fail "the guest has made a file on the host"
[ "$(cat "$tmp/rw/out")" = out ] || fail "what was written to a writable share has not arrived"
[ ! -e "$tmp/ro/out" ] || fail "a read-only share was written to"
nothing_left

# It dies: an error, and at once.
"$ringlet" run -v -k build/guest/6.12-cloud/vmlinuz --log "$tmp/console" --timeout "${patience}s" --root / -- \
	sh -c 'echo up; sleep 1000' </dev/null >"$tmp/out" 2>"$tmp/err" &
pid=$!
wait_for '^up' 80
pkill -KILL -P "$pid" || fail "ringlet has no virtiofsd"
finish 20
expect_status 123 "the end of virtiofsd"
expect_line "$tmp/err" 'virtiofsd, which serves --root / to the guest, (was ended by signal 9|ended with status)'
nothing_left

# So does ringlet.
"$ringlet" run -k build/guest/6.12-cloud/vmlinuz --log "$tmp/console" --timeout "${patience}s" --root / -- true \
	</dev/null >"$tmp/out" 2>"$tmp/err" &
pid=$!
for ((i = 0; i < 400; i++)); do ! pgrep -P "$pid" >/dev/null || break; sleep 0.05; done
((i < 400)) || fail "no virtiofsd was started"
kill -KILL "$pid"
wait "$pid"
pid=
nothing_left
