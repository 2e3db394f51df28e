#!/bin/bash
# only: test-all
# With --reboot again a reset boots the same guest once more.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s" --reboot again
wait_for_shell
say reboot -f
wait_for 'Linux version' 60 2
wait_for_shell 2
say exit
finish 30
expect_status 0 "the second shell's end"
