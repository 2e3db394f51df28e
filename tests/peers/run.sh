#!/bin/bash
# Ringlet's remote datapaths against real peers, with bare guests: TAP; exit 1 if a test fails. Nothing is tried twice.
# usage: run.sh [NAME...]     NAME: blk-qsd, blk-qsd/kill, */kill; without one all of them
#   RINGLET=build/ringlet BUILD=build   guests: make peer-guests
#   COUNT=100   rounds of what is repeated   PEER_LOGS=DIR   as in lib.sh
cd "$(dirname "$0")/../.." || exit
if [ "${1:-}" = --one ]; then # FILE FUNCTION
	set -u
	tmp=$(mktemp -d)
	# shellcheck source=tests/peers/cases.sh
	. tests/peers/cases.sh
	trap cases_end EXIT
	trap 'fail "not done in time"' TERM
	# shellcheck source=/dev/null
	. "$2"
	"$3"
	exit
fi

wanted() { # NAME OF...
	local name=$1 pattern
	shift
	[ $# != 0 ] || return 0
	for pattern; do
		# shellcheck disable=SC2053
		[[ $name == $pattern || ${name%%/*} == $pattern ]] && return 0
	done
	return 1
}

tests/peers/fetch.sh >/dev/null || { echo "Bail out! the peers cannot be fetched" && exit 1; }
said=$(mktemp)
trap 'rm -f "$said"' EXIT
count=0 failed=0
for file in tests/peers/case-*.sh; do
	case=${file##*/case-}
	case=${case%.sh}
	while read -r function limit; do
		name=$case/${function#test_}
		wanted "$name" "$@" || continue
		count=$((count + 1))
		started=${EPOCHREALTIME/[.,]/}
		PEER_LOGS=${PEER_LOGS:-${BUILD:-build}/peers/logs}/$name \
			timeout -k 40 "$((limit * ${SLOWER:-1}))" bash tests/peers/run.sh --one "$file" "$function" >"$said" 2>&1 </dev/null
		status=$?
		ms=$(((${EPOCHREALTIME/[.,]/} - started) / 1000))
		case $status in
		0) echo "ok $count - peers/$name" ;;
		77) echo "ok $count - peers/$name # SKIP $(sed -n 's/^SKIP: //p' "$said")" ;;
		*) echo "not ok $count - peers/$name" && failed=$((failed + 1)) ;;
		esac
		echo "# $ms ms"
		sed 's/^\(# \)\?/# /' "$said"
	done < <(sed -nE 's/^(test_[a-z0-9_]+)\(\) \{( # limit: ([0-9]+))?.*/\1 \3/p' "$file" | awk '{ print $1, $2 ? $2 : 60 }')
done
echo "1..$count"
[ "$failed" = 0 ]
