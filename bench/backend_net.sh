#!/bin/bash
# `ringlet backend net` and DPDK's net_vhost, in turn, before the same front end: DPDK's virtio-user, whose frames come back to it.
# Both poll, on the last processor; the front end on the first. Prints medians, and the median and quartiles of the paired ratios.
# usage: [BUILD=build] backend_net.sh [ROUNDS [NAME...]]
set -uo pipefail
cd "$(dirname "$0")/.." || exit
ringlet=${RINGLET:-${BUILD:-build}/ringlet}
rounds=${1:-9}
shift $(($# > 0))
tmp=$(mktemp -d)
export PEER_LOGS=$tmp/logs
. tests/peers/lib.sh
trap 'peer_stop_all; rm -rf "$tmp"' EXIT

# What virtio-user is told, and the size of a frame with its checksum
# shellcheck disable=SC2054 # commas are testpmd's
declare -A options=(
	[split-64]=,in_order=0 [split-1518]=,in_order=0
	[in-order-64]='' [packed-64]=,packed_vq=1 [packed-1518]=,packed_vq=1
	[vectorised-64]=,vectorized=1,mrg_rxbuf=0,in_order=1
)
names=("${@:-split-64 split-1518 in-order-64 packed-64 packed-1518 vectorised-64}")
# shellcheck disable=SC2206 # words
names=(${names[*]})

# Packets a second that come back: $rate
once() { # NAME ours|dpdk
	local name=$1 who=$2 sock=$tmp/$2.sock front before after from to pid=
	front=$sock.virtio_user
	if [ "$who" = ours ]; then
		# shellcheck disable=SC2154 # lib.sh
		taskset -c "$peers_cpu" setpriv --pdeathsig KILL "$ringlet" backend net "$sock,echo,poll=on" >"$tmp/ours" 2>&1 &
		pid=$!
		until [ -S "$sock" ]; do sleep 0.05; done
	else
		peer_testpmd_vhost "$sock" server 1 io || return
	fi
	peer_testpmd_virtio_user "$sock" client 1 none --rxd=256 --txd=256 "--vdev=,queue_size=256${options[$name]}" || return
	# The size is of what is in memory: without the checksum.
	peer_testpmd_say "$front" "set txpkts $((${name##*-} - 4))"
	sleep 0.5 # who is not ready yet loses what is sent once only
	peer_testpmd_say "$front" "start tx_first 4"
	sleep 0.7
	before=$(peer_testpmd_stats "$front")
	from=$EPOCHREALTIME
	sleep 1
	after=$(peer_testpmd_stats "$front")
	to=$EPOCHREALTIME
	peer_stop "$front"
	if [ -n "$pid" ]; then kill "$pid" && wait "$pid"; else peer_stop "$sock"; fi
	rate=$(awk -v b="${before%% *}" -v a="${after%% *}" -v from="$from" -v to="$to" 'BEGIN { print (a - b) / (to - from) }')
}

quartiles() { sort -g | awk '{ v[NR] = $1 } function at(q, p) { p = 1 + (NR - 1) * q; return v[int(p)] + (p - int(p)) * (v[int(p) + (p < NR)] - v[int(p)]) }
	END { printf "%.3f (%.3f-%.3f; %.3f-%.3f)", at(.5), at(.25), at(.75), v[1], v[NR] }'; }

echo "| case | ringlet, M packets a second | DPDK's | ringlet / DPDK: median (quartiles; min-max) | rounds |"
echo "|---|---|---|---|---|"
for name in "${names[@]}"; do
	: >"$tmp/pairs"
	for ((round = 0; round < rounds; round++)); do
		order=(ours dpdk)
		if ((round % 2)); then order=(dpdk ours); fi
		for who in "${order[@]}"; do
			rate=0
			once "$name" "$who"
			declare "$who=$rate"
		done
		awk -v a="$ours" -v b="$dpdk" 'BEGIN { if (a > 0 && b > 0) print a / 1e6, b / 1e6, a / b; else exit 1 }' >>"$tmp/pairs" ||
			echo "# $name, round $round: ours $ours, DPDK's $dpdk" >&2
	done
	echo "| $name | $(cut -d ' ' -f 1 "$tmp/pairs" | quartiles | cut -d ' ' -f 1) | $(cut -d ' ' -f 2 "$tmp/pairs" | quartiles | cut -d ' ' -f 1) | $(cut -d ' ' -f 3 "$tmp/pairs" | quartiles) | $(wc -l <"$tmp/pairs") |"
done
