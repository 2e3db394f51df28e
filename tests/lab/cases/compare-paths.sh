#!/bin/bash
# As compare.sh, on every path there is.
# timeout: 900
# only: test-all
TEST_COMPARE=${TEST_COMPARE:-paths} exec "$(dirname "$0")/compare.sh"
