#!/bin/bash
# only: test-all
# poweroff -f in the guest: 0.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s"
wait_for_shell
say poweroff -f
finish 30
expect_status 0 "poweroff -f"
