#!/bin/bash
# A panic in a running guest: 121, and the end of the console where a person sees it though a command was given.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" --panic exit -- sh -c 'echo c >/proc/sysrq-trigger'
expect_status 121 "a panic"
expect_line "$tmp/err" 'panic'
expect_line "$tmp/err" 'sysrq'
