#!/bin/bash
# `ringlet backend net` and DPDK's net_vhost, in turn, before the same front end: DPDK's virtio-user, whose frames come back to it.
# Both poll, on the last processor; the front end on the first. Prints medians, and the median and quartiles of the paired ratios.
# guests-*: two cards that the back end joins, both in one front end, which sends what comes out of one into the other: each
# frame goes from guest to guest again and again, both ways. "busy": the share of its time that the front end has something to do.
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
	[guests-split-64]=,in_order=0 [guests-split-1518]=,in_order=0
	[guests-packed-64]=,packed_vq=1 [guests-packed-1518]=,packed_vq=1
)
names=("${@:-split-64 split-1518 in-order-64 packed-64 packed-1518 vectorised-64 guests-split-64 guests-split-1518 guests-packed-64 guests-packed-1518}")
# shellcheck disable=SC2206 # words
names=(${names[*]})

# A testpmd with two ports that it joins, at $tmp/sock-0 and $tmp/sock-1: VDEV0,KEY=SOCKETMORE and VDEV1.
two_ports() { # NAME READY CPU VDEV KEY MORE [OPTIONS...]
	local name=$1 ready=$2 cpu=$3 vdev=$4 key=$5 more=$6 release=${PEER_DPDK:-bookworm} so drivers=() i
	shift 6
	peers_unpacked "$release" usr/bin/dpdk-testpmd || return
	# shellcheck disable=SC2154 # lib.sh
	for so in "$peers_cache/$release"/usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_{net_vhost,net_virtio,mempool_ring}.so.??; do
		[ -d "/usr/lib/x86_64-linux-gnu/dpdk/$(basename "${so%/*}")" ] || drivers+=(-d "$so")
	done
	for i in 0 1; do drivers+=(--vdev "$vdev$i,$key=$tmp/sock-$i$more"); done
	peers_start "$tmp/$name" "$ready" "${peers_argv[@]}" --no-huge -m 256 --no-pci --no-telemetry --file-prefix "$name" \
		--lcores "0@0,1@$cpu" "${drivers[@]}" -- -i --disable-link-check --no-mlockall --total-num-mbufs=16384 \
		--forward-mode=io "$@"
}

# Frames a second that have gone from card to card: $rate; how busy the front end was: $busy
between() { # NAME ours|dpdk
	local name=$1 who=$2 front=$tmp/front pid='' from to
	rm -f "$tmp"/sock-?
	if [ "$who" = ours ]; then
		taskset -c "$peers_cpu" setpriv --pdeathsig KILL "$ringlet" backend net "$tmp/sock-0,poll=on" "$tmp/sock-1" >"$tmp/ours" 2>&1 &
		pid=$!
		until [ -S "$tmp/sock-0" ] && [ -S "$tmp/sock-1" ]; do sleep 0.05; done
	else
		two_ports back "peers_listens $tmp/sock-1" "$peers_cpu" net_vhost iface "" --auto-start || return
	fi
	two_ports front "grep -qa 'Port 1: ' $(peer_log "$front")" 0 net_virtio_user path ",queue_size=256${options[$name]}" \
		--rxd=256 --txd=256 --record-core-cycles || return
	peer_testpmd_say "$front" "set txpkts $((${name##*-} - 4))"
	sleep 0.5
	peer_testpmd_say "$front" "start tx_first 4"
	sleep 0.5
	from=$EPOCHREALTIME # it answers later than it counts
	peer_testpmd_ask "$front" "clear fwd stats all" >"$tmp/cleared"
	sleep 1
	to=$EPOCHREALTIME
	peer_testpmd_ask "$front" "show fwd stats all" >"$tmp/stats"
	peer_stop "$front"
	if [ -n "$pid" ]; then kill "$pid" && wait "$pid"; else peer_stop "$tmp/back"; fi
	read -r rate busy < <(awk -v from="$from" -v to="$to" '
		/Accumulated forward statistics/ { all = 1 }
		all && /RX-packets:/ { n = $2 }
		/CPU cycles\/packet/ { sub(/.*total cycles=/, ""); cycles = $0 + 0 }
		/MHz/ { sub(/.*at /, ""); mhz = $0 + 0 }
		END { t = to - from; print n / t, mhz ? cycles / (t * mhz * 1e6) : 0 }' "$tmp/stats")
}

# Packets a second that come back: $rate
once() { # NAME ours|dpdk
	local name=$1 who=$2 sock=$tmp/$2.sock front before after from to pid=
	busy=0
	case $name in guests-*)
		between "$name" "$who"
		return
		;;
	esac
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

echo "| case | ringlet, M packets a second | DPDK's | ringlet / DPDK: median (quartiles; min-max) | rounds | busy: ringlet's front end, DPDK's |"
echo "|---|---|---|---|---|---|"
for name in "${names[@]}"; do
	: >"$tmp/pairs"
	ours=0 dpdk=0 busy_ours=0 busy_dpdk=0
	for ((round = 0; round < rounds; round++)); do
		order=(ours dpdk)
		if ((round % 2)); then order=(dpdk ours); fi
		for who in "${order[@]}"; do
			rate=0
			once "$name" "$who"
			declare "$who=$rate" "busy_$who=$busy"
		done
		awk -v a="$ours" -v b="$dpdk" -v busy="$busy_ours $busy_dpdk" 'BEGIN { if (a > 0 && b > 0) print a / 1e6, b / 1e6, a / b, busy; else exit 1 }' >>"$tmp/pairs" ||
			echo "# $name, round $round: ours $ours, DPDK's $dpdk" >&2
	done
	echo "| $name | $(cut -d ' ' -f 1 "$tmp/pairs" | quartiles | cut -d ' ' -f 1) | $(cut -d ' ' -f 2 "$tmp/pairs" | quartiles | cut -d ' ' -f 1) | $(cut -d ' ' -f 3 "$tmp/pairs" | quartiles) | $(wc -l <"$tmp/pairs") | $(cut -d ' ' -f 4 "$tmp/pairs" | quartiles | cut -d ' ' -f 1), $(cut -d ' ' -f 5 "$tmp/pairs" | quartiles | cut -d ' ' -f 1) |"
done
