#!/bin/bash
# only: test-all
# A guest that is switched off before its command ends has given no answer: 119.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- poweroff -f
expect_status 119 "a power-off without an answer"
