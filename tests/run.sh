#!/bin/bash
# Runs the floors of tests and counts. What is printed is TAP: failures whole, passes only with -v.
# The last line is "N passed, N failed, N skipped".
# usage: run.sh [-v] FLOOR...     FLOOR: static unit replay instructions assumptions bare host compare matrix linux linux-all
set -uo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
export RINGLET=${RINGLET:-$build/ringlet}
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
verbose=
if [ "${1:-}" = -v ]; then verbose=1 && shift; fi
mkdir -p "$build"
log=$build/test.log
: >"$log"
started=$SECONDS

# Reads TAP; keeps it all in the log and shows what matters.
show() {
	tee -a "$log" | if [ -n "$verbose" ]; then
		cat
	else # a failure's detail follows it as "# " lines
		awk '/^ok /{bad = 0; if (/# *SKIP/) print; fflush(); next} /^not ok /{bad = 1; print; fflush(); next} /^# lab: / && !/, up in / || (/^#/ && bad) {print; fflush()}'
	fi
}

# NAME COMMAND...: one test that is a command.
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then echo "ok - $name"; else
		echo "not ok - $name"
		tail -n 40 <<<"$out" | sed 's/^/# /'
	fi
}

# A floor that printed no result did not run: that is a failure, not silence.
floor() {
	local name=$1 before after
	shift
	before=$(grep -cE '^(not )?ok ' "$log")
	"$@" | show
	after=$(grep -cE '^(not )?ok ' "$log")
	if [ "$after" = "$before" ]; then echo "not ok - $name: no test ran" | show; fi
	echo "# $name: $((after - before)) results, $((SECONDS - started)) s since the start"
}

static() {
	local sources file suite
	mapfile -t sources < <(git ls-files '*.c' '*.h')
	tests/includes.sh
	tests/conformance.sh
	if [ ${#sources[@]} = 0 ]; then echo "not ok - static/sources: git lists none" && return; fi
	for file in tests/unit/test_*.c; do
		for suite in $(sed -nE 's/^TestSuite\((\w+),.*fini = teardown_once.*/\1/p' "$file"); do
			! grep -q "^Test($suite," "$file" || echo "not ok - static/teardown: $file: Test($suite, ...) must be WholeTest"
		done
	done
	check static/format clang-format --dry-run -Werror "${sources[@]}"
	check static/cppcheck tests/cppcheck.sh
	check static/man bash -c 'out=$(mandoc -T lint -W style ringlet.1 2>&1 | grep -v "outdated mandoc.db\|^$"); echo "$out"; [ -z "$out" ]'
	check static/warnings make -s --no-print-directory BUILD="$build/werror" WERROR=1 all
}

unit() {
	local program out status pool=/proc/sys/vm/nr_hugepages huge
	# Some tests want huge pages; where they cannot be had, those are skipped by name.
	huge=$(cat $pool 2>/dev/null || echo 0)
	if [ -w $pool ]; then echo $((huge + 128)) >$pool; fi
	for program in "$build"/tests/unit/test_*; do
		case $program in *.o | *.d) continue ;; esac
		out=$(timeout 300 "$program" --tap=- 2>&1)
		status=$?
		# A leak or a race is told by the sanitizer alone: Criterion's children end well all the same.
		if grep -qE '(Leak|Thread|Address|UndefinedBehavior)Sanitizer|runtime error:' <<<"$out"; then
			echo "not ok - unit/${program##*/test_}: a sanitizer found something"
			grep -nE -A 12 'Sanitizer|runtime error:' <<<"$out" | head -n 60 | sed 's/^/# /'
		fi
		sed -nE "s|^((not )?ok) - |\1 - unit/${program##*/test_}/|p; /^ *#? .*(Assertion|Expected|crash)/s/^/# /p" <<<"$out"
		if [ $status -gt 1 ] || { [ $status = 1 ] && ! grep -q '^not ok' <<<"$out"; }; then
			echo "not ok - unit/${program##*/test_}: ended with status $status"
			tail -n 30 <<<"$out" | sed 's/^/# /'
		fi
	done
	if [ -w $pool ]; then echo "$huge" >$pool; fi
}

# Every input that a fuzzer ever found worth keeping, with the sanitizers.
replay() {
	local program name
	for program in tests/fuzz/fuzz_*.c; do
		name=$(basename "$program" .c)
		name=${name#fuzz_}
		check "replay/$name" timeout 120 "build/replay/$name" "tests/fuzz/corpus/$name"
	done
}

host() { # what needs the host's tools, but no guest's system
	tests/man/examples.sh --host
	BUILD="$build" tests/sandbox.sh
}

# Prints each result with its details in one piece, since two labs write at the same time.
in_pieces() {
	local piece='' line
	while IFS= read -r line; do
		case $line in
		ok\ * | not\ ok\ * | '# lab:'*)
			if [ -n "$piece" ]; then printf '%s\n' "$piece"; fi
			piece=$line
			;;
		*) piece+=$'\n'$line ;;
		esac
	done
	if [ -n "$piece" ]; then printf '%s\n' "$piece"; fi
}

linux() { # CASES: smoke or all
	local which=$1 cases half
	# A case that says "# only: test-all" costs more than it tells every time.
	if [ "$which" = all ]; then
		mapfile -t cases < <(ls tests/lab/cases/*.sh)
		{ tests/lab/matrix.sh all && tests/lab/virtio-matrix.sh all; } >"$build/matrix.list"
	else
		mapfile -t cases < <(grep -L '^# only: test-all' tests/lab/cases/*.sh)
		{ tests/lab/matrix.sh smoke && tests/lab/virtio-matrix.sh smoke; } >"$build/matrix.list"
	fi
	mapfile -t cases < <(for case in "${cases[@]}"; do
		printf '%s %s\n' "$(sed -n 's/^# timeout: //p' "$case" | head -n 1)" "$case"
	done | sort -rn | cut -d ' ' -f 2)
	if "$build/ringlet" doctor --check kvm >/dev/null 2>&1 && [ -z "${LAB:-}" ]; then
		tests/lab/direct "$build/matrix.list" "${cases[@]}"
		return
	fi
	# Two labs with one processor each: an emulator with two threads is slower than two with one, and its
	# nested guests are less stable (docs/lab-stability.md).
	for half in 0 1; do
		awk -v half=$half '{ wide = /32cpu/; n[wide]++; if (n[wide] % 2 == half) print }' "$build/matrix.list" \
			>"$build/matrix.$half.list"
		(
			mine=()
			# The longest first, to and fro, so that both labs end at about the same time.
			for ((i = 0; i < ${#cases[@]}; i++)); do
				if [ $((((i + 1) / 2) % 2)) = $half ]; then mine+=("${cases[i]}"); fi
			done
			LAB_CPUS=${LAB_CPUS:-1} tests/lab/lab cases "$build/matrix.$half.list" "${mine[@]}" | in_pieces
			[ "${PIPESTATUS[0]}" -le 1 ] || echo "not ok - lab/half-$half: the lab itself failed"
		) &
	done
	wait
}

for floor; do
	case $floor in
	static) floor static static ;;
	unit) floor unit unit ;;
	replay) floor replay replay ;;
	instructions) floor instructions tests/instructions.sh ;;
	assumptions) floor assumptions tests/assumptions/run.sh ;;
	bare) floor bare tests/bare/run.sh ;;
	host) floor host host ;;
	compare) floor compare tests/compare.sh ;;
	matrix) floor matrix tests/matrix.sh ;;
	linux) floor linux linux smoke ;;
	linux-all) floor linux linux all ;;
	*)
		echo "run.sh: no such floor: $floor" >&2
		exit 125
		;;
	esac
done

failed=$(grep -c '^not ok ' "$log")
skipped=$(grep -ciE '^ok .*# *SKIP' "$log")
passed=$(($(grep -c '^ok ' "$log") - skipped))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
