#!/bin/bash
# "ringlet matrix" with children that end in every way there is, and with bare guests. TAP on stdout.
# usage: RINGLET=build/ringlet tests/matrix.sh [NAME...]
set -u
cd "$(dirname "$0")/.." || exit
root=$PWD
build=${BUILD:-build}
ringlet=$(realpath "${RINGLET:-$build/ringlet}") || exit
bare=$(realpath "$build/bare") || exit
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chosen=" $* "
failed=0
export MATRIX_TEST=$$ # by which processes are known to be of this test
export XDG_RUNTIME_DIR=$tmp/run
mkdir -m 700 "$XDG_RUNTIME_DIR"

# --- a stand-in for "ringlet run": --append says what it does ---
cat >"$tmp/fake" <<'END'
#!/bin/bash
for word; do
	case $word in
	--append=*) mode=${word#*=} ;;
	--result=*) result=${word#*=} ;;
	--log=*) log=${word#*=} ;;
	esac
done
say() { # STATUS OUTCOME REASON
	printf '{"status":%d,"outcome":"%s","reason":"%s","times_ms":{"end":12.5}}\n' "$@" >"$result"
}
printf 'console line %s\n' {1..40} >"$log"
case $mode in
answer-*) say "${mode#*-}" answer '' && exit "${mode#*-}" ;;
power-off) say 0 power-off '' && exit 0 ;;
panic)
	printf 'Kernel panic - not syncing: \033[1mtest\n' >>"$log"
	say 121 panic 'the guest panicked: test' && exit 121
	;;
green-panic) say 0 panic 'the guest panicked' && exit 0 ;;
no-result) exit 0 ;;
garbage) head -c 3000 /dev/urandom >"$result" && exit 0 ;;
half) printf '{"status":0,"outcome":"answ' >"$result" && exit 0 ;;
array) echo '[0]' >"$result" && exit 0 ;;
new-word) say 0 glorious '' && exit 0 ;;
huge) { printf '{"status":0,"outcome":"answer","reason":"' && head -c 20000000 /dev/zero | tr '\0' x && printf '"}'; } >"$result" && exit 0 ;;
link) ln -s "$MATRIX_GOOD" "$result" && exit 0 ;;
fifo) mkfifo "$result" && exit 0 ;;
lies) say 0 answer '' && exit 3 ;;
vmm-killed) say 143 signal 'SIGTERM' && exit 143 ;;
segv) say 0 answer '' && kill -SEGV $$ ;;
hang)
	trap '' TERM
	setsid sleep 300 &
	sleep 300
	;;
slow)
	trap 'say 143 signal SIGTERM; kill $!; exit 143' TERM
	sleep 300 &
	wait
	;;
orphan)
	setsid sleep 300 >/dev/null 2>&1 &
	say 0 answer '' && exit 0
	;;
helper) # ends a moment after it, as helpers that die with it do
	(sleep 0.3) >/dev/null 2>&1 &
	say 0 answer '' && exit 0
	;;
noisy) yes 'output without an end' | head -c 3000000 && say 1 answer '' && exit 1 ;;
count)
	mkdir "$MATRIX_COUNT/$$" && ls "$MATRIX_COUNT" | wc -l >>"$MATRIX_COUNT.most"
	sleep 0.3
	rmdir "$MATRIX_COUNT/$$"
	say 0 answer '' && exit 0
	;;
esac
END
chmod +x "$tmp/fake"

# What a matrix might leave on the host: processes, and sockets where those are not everybody's (root's are)
state() {
	local file
	grep -lazs "^MATRIX_TEST=$MATRIX_TEST\$" /proc/[0-9]*/environ | while read -r file; do
		case $(tr '\0' ' ' 2>/dev/null <"${file%/environ}/cmdline") in
		*ringlet* | *fake* | sleep* | *matrix\ *m.ini*) echo "process ${file//[^0-9]/}" ;;
		esac
	done
	ls "$XDG_RUNTIME_DIR/ringlet" 2>/dev/null
}

# Processes that were told to end may take a moment.
nothing_left() {
	local i
	for ((i = 0; i < 80; i++)); do
		state >"$tmp/after"
		if cmp -s "$tmp/before" "$tmp/after"; then return 0; fi
		sleep 0.1
	done
	why="left on the host: $(diff "$tmp/before" "$tmp/after" | grep '^[<>]' | tr '\n' ' ')"
	return 1
}

check() { # NAME FUNCTION: "ok", or "not ok" with $why
	[ "$chosen" = "  " ] || [[ $chosen == *" $1 "* ]] || return
	why=
	rm -rf "$tmp/out" "$tmp/o" "$tmp/err" && : >"$tmp/o" && : >"$tmp/err"
	state >"$tmp/before"
	if "$2" && nothing_left; then
		echo "ok - matrix/$1"
	else
		failed=1
		echo "not ok - matrix/$1: $why"
		sed 's/^/# /' "$tmp/o" "$tmp/err" 2>/dev/null | tail -n 40
	fi
}

# The file of a matrix, from stdin
file() {
	cat >"$tmp/m.ini"
}

run() { # STATUS OPTION...
	local want=$1 status
	shift
	timeout 120 "$ringlet" matrix "$tmp/m.ini" --out "$tmp/out" "$@" >"$tmp/o" 2>"$tmp/err" </dev/null
	status=$?
	[ $status = "$want" ] || { why="exit status $status, expected $want"; return 1; }
}

fake() { # STATUS OPTION...
	run "$1" --ringlet "$tmp/fake" "${@:2}"
}

told() { # PATTERN: in a line of stdout
	grep -qE -- "$1" "$tmp/o" || { why="nothing like \"$1\" in stdout"; return 1; }
}

complained() { # PATTERN: in a line of stderr
	grep -qE -- "$1" "$tmp/err" || { why="nothing like \"$1\" in stderr"; return 1; }
}

# --- verdicts ---

all_as_expected() {
	file <<-END
		[kernel one]
		path = a
		[kernel two]
		path = b
		[options ok]
		append = answer-0
		[options seven]
		append = answer-7
		expect = 7
		[options dead]
		append = panic
		expect = panic
		[options by-number]
		append = panic
		expect = 121
		[options off]
		append = power-off
		[options odd]
		append = answer-3
		expect = nonzero
		[options help]
		append = helper
	END
	fake 0 --jobs 4 && told '^passed one/ok \(' && told '^passed two/dead ' && told '^14 passed, 0 failed; ' &&
		told ' the longest (one|two)/help with' && [ -s "$tmp/out/two/dead/console.log" ] && [ -s "$tmp/out/one/ok/result.json" ]
}

# The one thing that it must never do: pass one of these.
never_green() {
	local modes=(answer-1 panic green-panic no-result garbage half array new-word huge link fifo lies segv vmm-killed orphan) n mode
	n=${#modes[@]}
	for mode in "${modes[@]}"; do printf '[options %s]\nappend = %s\n' "$mode" "$mode"; done | file
	echo '{"status":0,"outcome":"answer","reason":""}' >"$tmp/good.json"
	MATRIX_GOOD=$tmp/good.json fake 1 --jobs 4 --junit "$tmp/out/j.xml" && told "^0 passed, $n failed; " &&
		told '^FAILED answer-1 .*: answer, status 1; expected status 0$' &&
		told '^FAILED panic .*: the guest panicked: test \(panic, status 121; expected status 0\)$' &&
		told '^FAILED green-panic .*: the guest panicked \(panic, status 0; expected status 0\)$' &&
		told '^FAILED no-result .*: .*status 0, but it wrote no result' && told '^FAILED garbage .*: .* its result is malformed' &&
		told '^FAILED half .*malformed' && told '^FAILED array .*malformed' && told '^FAILED new-word .*glorious' &&
		told '^FAILED huge .*malformed' && told '^FAILED link .*result' && told '^FAILED fifo .*malformed' &&
		told '^FAILED lies .*status 3, but its result says 0' && told '^FAILED segv .*signal 11 \(Segmentation fault\)' &&
		told '^FAILED vmm-killed .*: SIGTERM \(signal, status 143' && told '^FAILED orphan .*left 1 process behind, killed now' &&
		told '^    \| Kernel panic - not syncing: test$' && told '^    \| console line 25$' && ! told '^    \| console line 1$' &&
		told "^    log: $tmp/out/panic/console.log$" && why= && xmllint --noout "$tmp/out/j.xml" &&
		[ "$(xmllint --xpath 'count(//failure)' "$tmp/out/j.xml")" = $n ] || { why=${why:-the XML is wrong} && false; }
}

# A status that only the VMM's end explains is not the guest's own.
killed_is_not_143() {
	printf '[options a]\nappend = vmm-killed\nexpect = 143\n' | file
	fake 1 && told '^FAILED a '
}

stale_result() {
	printf '[options a]\nappend = answer-0\n' | file
	fake 0 && [ -s "$tmp/out/a/result.json" ] || return
	printf '[options a]\nappend = no-result\n' | file
	fake 1 && told 'wrote no result'
}

# It does not obey its own --timeout: killed with all that it has started.
limit() {
	printf '[matrix]\ngrace = 300ms\n[options h]\nappend = hang\ntimeout = 200ms\n[options ok]\nappend = answer-0\n' | file
	fake 1 --jobs 2 && told '^FAILED h .*: ringlet run did not end within 0.5 s' && told '^passed ok '
}

noisy() {
	printf '[options n]\nappend = noisy\n' | file
	fake 1 --junit "$tmp/j.xml" && told '^    \| output without an end$' && [ "$(stat -c %s "$tmp/j.xml")" -lt 100000 ] && xmllint --noout "$tmp/j.xml"
}

fail_fast() {
	printf '[options a]\nappend = answer-1\n[options b]\nappend = answer-0\n[options c]\nappend = answer-0\n' | file
	fake 1 --fail-fast --jobs 1 --tap && told '^not ok 2 - b$' && told 'not run: an earlier case failed' && ! told '^ok' && why= &&
		[ ! -e "$tmp/out/b" ] && complained '^0 passed, 1 failed, 2 not run'
}

tap() {
	printf '[options a]\nappend = answer-1\n[options b]\nappend = answer-0\n' | file
	fake 1 --tap --jobs 1 || return
	cat >"$tmp/want" <<-END
		TAP version 14
		1..2
		not ok 1 - a
		  ---
		  message: "answer, status 1; expected status 0"
		  kind: "status"
		  log: "$tmp/out/a/console.log"
		  duration_ms: N
		  ...
		ok 2 - b
		  ---
		  duration_ms: N
		  ...
	END
	sed 's/duration_ms: [0-9]*$/duration_ms: N/' "$tmp/o" | diff "$tmp/want" - >"$tmp/diff" || { why="TAP differs: $(cat "$tmp/diff")" && false; }
}

junit() {
	printf '[matrix]\nname = <&"\n[kernel k]\npath = x\n[options a]\nappend = panic\n[options b]\nappend = answer-0\n' | file
	fake 1 --junit "$tmp/j.xml" && xmllint --noout "$tmp/j.xml" || return
	[ "$(xmllint --xpath 'string(//testcase[1]/failure/@type)' "$tmp/j.xml")" = panic ] &&
		[ "$(xmllint --xpath 'string(//testcase[2]/@name)' "$tmp/j.xml")" = k/b ] &&
		[ "$(xmllint --xpath 'string(//testcase[2]/@classname)' "$tmp/j.xml")" = '<&".k' ] &&
		xmllint --xpath 'string(//testcase[1]/system-err)' "$tmp/j.xml" | grep -q 'Kernel panic' || { why="the XML is wrong" && false; }
}

# --- how many at a time ---

most() { # NUMBER: that many ran at a time
	local got
	got=$(sort -n "$tmp/count.most" | tail -1)
	[ "$got" = "$1" ] || { why="$got ran at a time, expected $1"; return 1; }
}

counted() {
	rm -rf "$tmp/count" "$tmp/count.most" && mkdir "$tmp/count"
	export MATRIX_COUNT=$tmp/count
}

jobs() {
	counted
	{ echo '[defaults]' && echo 'append = count' && printf '[options %s]\n-m 64M\n' {1..9}; } | file
	fake 0 --jobs 3 && most 3
}

# Each with all the processors: one at a time; with one each: as many as there are.
processors() {
	local n
	n=$(nproc)
	counted
	{ printf '[defaults]\nappend = count\n-c %d -m 64M\n' "$n" && printf '[options %s]\n' 1 2 3; } | file
	fake 0 && most 1 || return
	counted
	{ printf '[defaults]\nappend = count\n-m 64M\n' && printf '[options x%s]\n' $(seq $((2 * n))); } | file
	fake 0 && most "$n" || return
	counted # more than there are: alone, and not never
	{ printf '[defaults]\nappend = count\n-c %d -m 64M\n' $((n + 2)) && printf '[options %s]\n' 1 2; } | file
	fake 0 && most 1
}

memory() {
	local free
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	counted
	{ printf '[defaults]\nappend = count\n-m %dM\n' $((free * 6 / 10 / 2 * 2)) && printf '[options %s]\n' 1 2 3; } | file
	fake 0 && most 1
}

# --- ends ---

# interrupted SIGNAL STATUS: nothing is left, and what was done is told
interrupted() {
	local pid status i
	printf '[options a]\nappend = answer-0\n[options b]\nappend = slow\n[options c]\nappend = hang\n[options d]\nappend = answer-0\n' | file
	timeout 60 "$ringlet" matrix "$tmp/m.ini" --out "$tmp/out" --ringlet "$tmp/fake" --jobs 3 >"$tmp/o" 2>"$tmp/err" </dev/null &
	pid=$!
	for ((i = 0; i < 100; i++)); do
		if [ -e "$tmp/out/d" ] || { [ -e "$tmp/out/c/console.log" ] && [ -s "$tmp/out/c/console.log" ]; }; then break; fi
		sleep 0.05
	done
	sleep 0.3
	pid=$(pgrep -P $pid -f matrix | head -1)
	[ -n "$pid" ] || { why="it does not run" && return 1; }
	kill "-$1" "$pid"
	wait %1 2>/dev/null
	status=$?
	[ $status = "$2" ] || { why="exit status $status, expected $2"; return 1; }
}

ctrl_c() {
	interrupted INT 130 && told '^passed a ' && told '^FAILED b .*ended by the signal' && told '^FAILED c .*ended by the signal' &&
		told '^2 passed, 2 failed; |^1 passed, 2 failed, 1 not run: a signal' && [ -s "$tmp/out/b/result.json" ]
}

sigterm() {
	interrupted TERM 143 && told '^FAILED c '
}

# Not even then is a child left, nor one that ignores signals, nor a grandchild in a session of its own.
kill_9() {
	interrupted KILL 137
}

gone_reader() {
	{ echo '[defaults]' && echo 'append = answer-0' && printf '[options %s]\n' {1..20}; } | file
	timeout 60 "$ringlet" matrix "$tmp/m.ini" --out "$tmp/out" --ringlet "$tmp/fake" 2>"$tmp/err" | head -1 >"$tmp/o"
	told '^passed [0-9]+ '
}

# --- files and options ---

wrong_file() { # TEXT PATTERN
	printf "$1" >"$tmp/m.ini"
	fake 125 && complained "$2"
}

wrong_files() {
	wrong_file '[kernel a]\npath = x\nexpct = 0\n' 'm.ini:3: \[kernel\] has no key "expct"; did you mean "expect"\?' &&
		wrong_file '[comand a]\nrun = x\n' 'm.ini:1: there is no section \[comand\]; did you mean \[command\]\?' &&
		wrong_file '# nothing\n' 'm.ini: no case: expected at least one' &&
		wrong_file '[defaults]\nmem = 1X\n' 'm.ini:2: mem: --mem: .*1X' &&
		wrong_file '[defaults]\nlog = x\n' 'm.ini:2: log: files of results are the matrix' &&
		wrong_file '[command a]\nrun = a | b\n' 'm.ini:2: run: "\|" is for a shell' &&
		wrong_file '[options a]\n[matrix]\nexclude = b\n' 'm.ini:3: exclude: "b" matches no case; one is a' || return
	[ ! -e "$tmp/out" ] || { why="--out was made for a file that is wrong" && false; }
}

no_file() {
	file </dev/null && rm "$tmp/m.ini"
	fake 125 && complained 'm.ini: No such file'
}

options() {
	printf '[options a]\nappend = answer-0\n[options b]\nappend = answer-1\n' | file
	fake 125 --flter a && complained 'there is no option --flter; did you mean --filter\?' && fake 125 --jobs 0 && fake 125 --filter zzz &&
		complained '"zzz" matches none of 2 cases' && fake 0 --filter a && told '^1 passed' && fake 0 --dry-run && told '^# b, expected: status 0$' &&
		[ "$(grep -c '^ringlet run .*--append=answer-' "$tmp/o")" = 2 ] && run 125 --ringlet /nowhere && complained '/nowhere' &&
		fake 125 --junit "$tmp/none/x" && complained 'none/x'
}

# Paths are relative to the file, whoever calls from where; and what is run is this very program.
guests() {
	mkdir -p "$tmp/dir/kernels" && cp "$bare"/{debug_exit,poweroff,spin,pvpanic}.elf "$tmp/dir/kernels/" && cat >"$tmp/dir/m.ini" <<-END
		[defaults]
		-m 64M --timeout 20s
		[kernel answer]
		path = kernels/debug_exit.elf
		[kernel seven]
		path = kernels/debug_exit.elf
		append = status=7
		expect = 7
		[kernel off]
		path = kernels/poweroff.elf
		[kernel spin]
		path = kernels/spin.elf
		timeout = 1s
		expect = timeout
		[kernel bad]
		path = kernels/debug_exit.elf
		append = status=1
		[kernel none]
		path = kernels/none
		[options pci]
		transport = pci
		[options two]
		cpus = 2
		[matrix]
		exclude = none/two
	END
	(cd / && timeout 120 "$ringlet" matrix "$tmp/dir/m.ini" --out "$tmp/out" --junit "$tmp/j.xml" >"$tmp/o" 2>"$tmp/err" </dev/null)
	[ $? = 1 ] || { why="exit status is not 1" && return 1; }
	told '^8 passed, 3 failed; ' && told '^FAILED bad/two .*status 1; expected status 0' && told '^FAILED none/pci .*failed, status 125|^FAILED none/pci .*none' &&
		[ ! -e "$tmp/out/none/two" ] && xmllint --noout "$tmp/j.xml"
}

cd "$tmp" || exit
check all-as-expected all_as_expected
check never-green never_green
check killed-is-not-143 killed_is_not_143
check stale-result stale_result
check limit limit
check noisy noisy
check fail-fast fail_fast
check tap tap
check junit junit
check jobs jobs
check processors processors
check memory memory
check ctrl-c ctrl_c
check sigterm sigterm
check kill-9 kill_9
check gone-reader gone_reader
check wrong-files wrong_files
check no-file no_file
check options options
check guests guests
cd "$root" || exit
exit $failed
