#!/bin/bash
# Counts the instructions that a chain, a disk request and a frame cost (tests/callgrind/cost.c) and fails where
# one costs over 10 % more than tests/instructions.txt says: TAP on stdout.
# usage: [BUILD=build] instructions.sh [--record] [CASE...]     --record: writes the file anew
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

build=${BUILD:-build}
known=tests/instructions.txt
record=
if [ "${1:-}" = --record ]; then record=1 && shift; fi
chosen=" $* "
bursts=100

if ! command -v valgrind >/dev/null; then
	echo "ok - instructions # SKIP valgrind is not installed (apt-get install valgrind)"
	exit 0
fi
case $build in *san*) # the sanitizers' own instructions would be counted
	echo "ok - instructions # SKIP a build with sanitizers"
	exit 0
	;;
esac
mkdir -p "$build/tests"
if ! out=$(make -s --no-print-directory BUILD="$build" "$build/libringlet.a" "$build/libfakes.a" 2>&1 &&
	gcc -I. -D_GNU_SOURCE -std=c17 -O2 -g -Wall -Wextra -pthread -o "$build/tests/cost" tests/callgrind/cost.c \
		"$build/libfakes.a" "$build/libringlet.a" -luring -lslirp -ljansson -lzstd -llzma -llz4 -lz 2>&1); then
	echo "not ok - instructions: it does not build"
	sed 's/^/# /' <<<"$out"
	exit 1
fi

# The compiler makes the numbers, so they hold for one.
compiler=$(gcc -dumpfullversion)
if [ -n "$record" ]; then
	{
		echo "# Instructions a unit, by tests/instructions.sh --record; -O2."
		echo "compiler $compiler"
	} >"$known.new"
elif ! grep -qx "compiler $compiler" "$known"; then
	echo "ok - instructions # SKIP recorded with $(grep '^compiler' "$known"), here is $compiler"
	exit 0
fi

# Instructions of BURSTS bursts inside the function, and units
count() { # CASE FUNCTION BURSTS
	valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$2" "$build/tests/cost" "$1" "$3" \
		2>&1 | awk '/Collected/ { c = $NF } /^[0-9]+$/ { u = $1 } END { if (c && u) print c, u }'
}

failed=0
while read -r name unit function; do
	[ "$chosen" = "  " ] || [[ $chosen == *" $name "* ]] || continue
	# The difference of two runs: without what the start costs.
	read -r c1 u1 < <(count "$name" "$function" $bursts)
	read -r c2 u2 < <(count "$name" "$function" $((2 * bursts)))
	if [ -z "${c1:-}" ] || [ -z "${c2:-}" ] || [ "$c1" = "$c2" ]; then
		echo "not ok - instructions/$name: nothing was counted"
		failed=1
		continue
	fi
	now=$(awk -v c=$((c2 - c1)) -v u=$((u2 - u1)) 'BEGIN { printf "%.1f", c / u }')
	if [ -n "$record" ]; then
		echo "$name $now $unit" | tee -a "$known.new"
		continue
	fi
	was=$(awk -v n="$name" '$1 == n { print $2 }' "$known")
	if awk -v now="$now" -v was="${was:-0}" 'BEGIN { exit !(now <= 1.1 * was) }'; then
		echo "ok - instructions/$name"
		echo "# $now a $unit, $was recorded"
	else
		echo "not ok - instructions/$name: $now a $unit, ${was:-nothing} recorded in $known"
		echo "# If that is worth it: tests/instructions.sh --record"
		failed=1
	fi
done < <("$build/tests/cost" list)
[ -z "$record" ] || mv "$known.new" "$known"
exit $failed
