#!/bin/bash
# docs/conformance.md against the sources: the tests that it names exist, each MUST names one, and
# what it counts is what it holds.  TAP on stdout; status 1 when something is wrong.
#   tests/conformance.sh [DOCUMENT]
cd "$(dirname "$0")/.." || exit 2
doc=${1:-docs/conformance.md}
shopt -s lastpipe # rule() tells what failed
failed=0

# part|number|keyword|verdict|tests of each row
rows=$(awk -F' *[|] *' '/^## /{part = substr($0, 4)} $2 ~ /^[A-Z][0-9]+$/{print part "|" $2 "|" $3 "|" $5 "|" $6}' "$doc")
[ -n "$rows" ] || rows=none

# rule NAME: reads what breaks it, a line each
rule() {
	local bad
	bad=$(cat)
	if [ -z "$bad" ]; then echo "ok - conformance/$1" && return; fi
	failed=1
	sed "s|^|not ok - conformance/$1: |" <<<"$bad"
}

# Every test there is, as unit/PROGRAM/SUITE::NAME.  A test may be made by a macro of its file, NAME(name), which
# makes one or several of name##_suffix.
every_test() {
	local file program
	for file in tests/unit/test_*.c; do
		program=${file#tests/unit/test_}
		program=${program%.c}
		# what it includes of its kind counts as its own
		sed -n 's|^#include "\(tests/unit/test_.*\.c\)"|\1|p' "$file" | xargs cat "$file" |
			awk -v program="$program" '
			function put(suite, name) { print "unit/" program "/" suite "::" name }
			{ line = $0 }
			/^#define SUITE / && !own { own = $3 }
			/^#define [A-Z_]+\(name/ { macro = $2; sub(/\(.*/, "", macro) }
			match(line, /Test\([a-z_]+, *name##_[a-z_]+\)|CASE\(name##_[a-z_]+,/) {
				s = substr(line, RSTART, RLENGTH)
				suffix = s; sub(/.*##/, "", suffix); sub(/[),].*/, "", suffix)
				suite = program
				if (s ~ /^Test/) { suite = s; sub(/^Test\(/, "", suite); sub(/,.*/, "", suite) }
				made[macro] = made[macro] " " suite "::" suffix
			}
			/^(Whole)?Test\([a-z_]+, [a-zA-Z0-9_]+\)/ {
				s = line; sub(/^(Whole)?Test\(/, "", s); sub(/\).*/, "", s)
				split(s, part, ", "); put(part[1], part[2])
			}
			/^[A-Z_]+\([a-z0-9_]+\)$/ {
				split(line, part, /[()]/)
				if (part[1] == "ENGINE_TEST") put(own, part[2])
				n = split(made[part[1]], each, " ")
				for (i = 1; i <= n; i++) { split(each[i], x, "::"); put(x[1], part[2] x[2]) }
			}'
	done | sort -u
}

tests=$(every_test)
grep -o 'unit/[^`]*' <<<"$rows" | sort -u | comm -23 - <(echo "$tests") | sed 's/$/ does not exist/' | rule tests
awk -F'|' '$3 ~ /MUST|SHALL/ && $5 !~ /`unit\//{print $2 " names no test"}' <<<"$rows" | rule musts
awk -F'|' '$4 !~ /^(met|not offered|deviates)$/{print $2 ": no such verdict: " $4}' <<<"$rows" | rule verdicts

# The counts in the head: rows, with MUST, of these met, met, not offered, deviates
counted=$(awk -F'|' '
	{ must = $3 ~ /MUST|SHALL/; n = split($1 "|all", names, "|") }
	{ for (i = 1; i <= n; i++) { p = names[i]; if (!(p in rows)) order[++parts] = p
		rows[p]++; musts[p] += must; met_musts[p] += must && $4 == "met"; verdict[p, $4]++ } }
	END { for (i = 1; i <= parts; i++) { p = order[i]
		print p, rows[p], musts[p], met_musts[p], verdict[p, "met"] + 0, verdict[p, "not offered"] + 0, verdict[p, "deviates"] + 0 } }' <<<"$rows" | sort)
stated=$(awk -F' *[|] *' '$3 ~ /^[0-9]+$/ && NF == 10{print $2, $4, $5, $6, $7, $8, $9}' "$doc" | sort)
diff <(echo "$stated") <(echo "$counted") | sed -n 's/^< /stated: /p; s/^> /counted: /p' | rule counts

exit $failed
