#!/bin/bash
# Static analysis; a finding fails. What is left out, and why, stands here.
set -eu
cd "$(dirname "$0")/.."
exec cppcheck --quiet --error-exitcode=1 --std=c11 --language=c --inline-suppr -j2 \
	--enable=warning,portability,performance \
	--suppress=missingInclude --suppress=missingIncludeSystem `# system headers are not read` \
	--suppress=memleak --suppress=resourceLeak `# it does not know the cleanup attribute; LeakSanitizer looks` \
	--suppress=nullPointerArithmeticRedundantCheck \
	--suppress=unknownMacro `# Criterion's Test()` \
	-I. -D_GNU_SOURCE lib vmm devices backends servers compare matrix guest-images
