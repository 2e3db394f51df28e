#!/bin/bash
# A panic before any process, so before the pvpanic driver is there: known by the console's words.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" --panic exit -a rdinit=/nonexistent
expect_status 121 "a panic without init"
expect_line "$tmp/out" 'Kernel panic'
