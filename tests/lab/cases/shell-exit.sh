#!/bin/bash
# only: test-all
# Without a command there is a shell on the console; when it ends the guest powers off: 0.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s"
wait_for_shell
say 'tty; echo jobs=$-'
wait_for 'jobs=.*m' 20 # job control, so the shell has a controlling terminal
say exit
finish 30
expect_status 0 "the shell's end"
expect_line "$tmp/out" 'Power down'
