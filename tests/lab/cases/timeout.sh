#!/bin/bash
# --timeout ends a guest that goes on: 124, in time.
. "$(dirname "$0")/../lib.sh"
began=$SECONDS
run_guest --timeout 5s -- sleep 1000
expect_status 124 "the timeout"
((SECONDS - began < 15)) || fail "--timeout 5s took $((SECONDS - began)) s"
