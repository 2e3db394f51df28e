#!/bin/sh
# Runs what Makefile.inc built: one TAP line each, exit 1 if one does not hold.
# usage: run.sh [NAME...]
cd "$(dirname "$0")/../.." || exit 1
dir=${BUILD:-build}/assumptions
src=tests/assumptions
status=0

[ $# -gt 0 ] || set -- $(cd "$src" && ls *.c | sed 's/\.c$//')
echo "1..$#"
for name; do
	if [ ! -x "$dir/$name" ]; then
		echo "not ok - assumptions/$name: $dir/$name is not built"
		status=1
		continue
	fi
	out=$(timeout -k 1 30 "$dir/$name" 2>&1)
	rc=$?
	case $rc in
	0 | 77) echo "$out" ;;
	1)
		echo "$out"
		status=1
		;;
	*)
		echo "not ok - assumptions/$name: it ended with status $rc"
		[ -z "$out" ] || echo "$out" | sed 's/^/# /'
		status=1
		;;
	esac
done
exit $status
