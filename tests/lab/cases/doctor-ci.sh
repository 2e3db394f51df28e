#!/bin/bash
# The lab is fit for CI, and the doctor says what it has measured; without /dev/kvm it is not, and how to mend that.
. "$(dirname "$0")/../lib.sh"
status=0
"$ringlet" doctor --ci >"$tmp/out" 2>"$tmp/err" || status=$?
show "$tmp/out" "$tmp/err"
expect_status 0 "ringlet doctor --ci"
expect_line "$tmp/out" '^ok +kvm +'
expect_line "$tmp/out" '^(ok|note) +kvm-exits +leaving a guest and coming back takes [0-9.]+ us'
expect_line "$tmp/out" '^Usable for '

status=0
unshare -m sh -c 'mount -t tmpfs tmpfs /dev && exec "$0" doctor --ci' "$(realpath "$ringlet")" >"$tmp/out" 2>"$tmp/err" || status=$?
show "$tmp/out" "$tmp/err"
expect_status 1 "without /dev/kvm"
expect_line "$tmp/out" '^missing +kvm-device +no /dev/kvm'
expect_line "$tmp/out" '99-kvm4all.rules'
