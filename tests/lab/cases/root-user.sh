#!/bin/bash
# only: test-all
# A user who is not root, and may open /dev/kvm: a whole boot test of the host's user space, and what takes root.
# timeout: 400
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../root-lib.bash"
patience=$((patience / 3))
use_virtiofsd rust
chmod 666 /dev/kvm
chmod 755 "$tmp"
chmod 711 /root /root/.cache 2>/dev/null
mkdir -m 777 "$tmp/home" "$tmp/run"
ringlet=$(realpath "$ringlet")
binary=$ringlet
echo "of root, and for nobody else" >"$tmp/secret" && chmod 600 "$tmp/secret"
# As `ringlet`, by root_run.
cat >"$tmp/as-user" <<X
#!/bin/sh
exec env HOME=$tmp/home XDG_RUNTIME_DIR=$tmp/run setpriv --reuid 1000 --regid 1000 --clear-groups $binary "\$@"
X
chmod 755 "$tmp/as-user"
ringlet=$tmp/as-user
: >"$tmp/console" && chmod 666 "$tmp/console"

root_run 6.12-cloud -i build/guest/6.12-cloud/initramfs.cpio -- sh -c 'id -u; exit 7'
expect_status 7 "a command in an initramfs, of a user"
[ "$(cat "$tmp/out")" = 0 ] || fail "in the guest one is not root"

root_run 6.12-cloud --root / --share "$tmp/home:/mnt,rw" -- sh -c "uname -r; cat $tmp/secret; echo out >/mnt/out; exit 3"
expect_status 3 "the host's user space, of a user"
[ "$(head -n 1 "$tmp/out")" = "$(cat build/guest/6.12-cloud/version)" ] || fail "another kernel, or none"
! grep -q "of root" "$tmp/out" || fail "a user reads by the guest what is not for them"
[ "$(cat "$tmp/home/out")" = out ] || fail "what was written to a writable share has not arrived"
[ "$(stat -c %u "$tmp/home/out")" = 1000 ] || fail "it is not the user's"
nothing_left

# The other kind wants root, and says so.
use_virtiofsd c
root_run 6.12-cloud --root / -- true
expect_status 125 "the C virtiofsd, of a user"
expect_line "$tmp/err" 'root'
