#!/bin/bash
# The lab is a host with everything; doctor must see it.
. "$(dirname "$0")/../lib.sh"
status=0
"$ringlet" doctor >"$tmp/out" 2>"$tmp/err" || status=$?
show "$tmp/out" "$tmp/err"
expect_status 0 "ringlet doctor"
expect_line "$tmp/out" kvm
expect_line "$tmp/out" vhost-net
