#!/bin/bash
# "ringlet matrix" with each of its cases.
# timeout: 900
# only: test-all
TEST_MATRIX=all exec "$(dirname "$0")/matrix.sh"
