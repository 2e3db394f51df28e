#!/bin/bash
# reboot -f in the guest ends ringlet with 122 when nobody asked to boot again.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s"
wait_for_shell
say reboot -f
finish 30
expect_status 122 "reboot -f"
