#!/bin/bash
# Instructions a frame of `ringlet backend net` and of DPDK's net_vhost, counted by callgrind: all that is spent inside the burst functions
# (net_burst; rte_vhost_dequeue_burst and rte_vhost_enqueue_burst) while DPDK's virtio-user sends and gets its frames back, less the
# polls that found nothing, at what one costs before the first frame. Counts need no rounds and no quiet machine.
# usage: [BUILD=build] backend_net_count.sh [NAME...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit
ringlet=${RINGLET:-${BUILD:-build}/ringlet}
tmp=$(mktemp -d)
export PEER_LOGS=$tmp/logs PEER_PATIENCE=120
. tests/peers/lib.sh
trap 'peer_stop_all; rm -rf "$tmp"' EXIT
declare -A options=([split]=,in_order=0 [packed]=,packed_vq=1)
names=("${@:-split-64 split-1518 packed-64 packed-1518}")
# shellcheck disable=SC2206 # words
names=(${names[*]})

# Calls of FUNCTIONs and what was spent inside them: of callgrind's file
spent() { # FILE FUNCTION...
	local file=$1
	shift
	awk -v wanted=" $* " '
		function named(text, id) { # "(12) name" the first time, "(12)" after that
			match(text, /^\([0-9]+\)/)
			id = substr(text, 1, RLENGTH)
			if (length(text) > RLENGTH) name[id] = substr(text, RLENGTH + 2)
			return name[id]
		}
		sub(/^fn=/, "") { named($0); next }
		sub(/^cfn=/, "") { f = named($0); sub(/\047.*/, "", f); next }
		sub(/^calls=/, "") { n = $1; getline; if (index(wanted, " " f " ")) { calls += n; spent += $2 } }
		END { print calls + 0, spent + 0 }' "$file"
}

# $calls and $spent of the back end since the last time
take() { # FUNCTION...
	local dump
	rm -f "$tmp"/count.*
	callgrind_control -d "$(peer_pid "$tmp/back")" >"$tmp/control" 2>&1
	dump=$(find "$tmp" -name 'count.*' | head -n 1)
	[ -n "$dump" ] || { peers_fail "no counts: $(cat "$tmp/control")" || return; }
	read -r calls spent < <(spent "$dump" "$@")
}

# Instructions a frame: $cost
once() { # NAME ours|dpdk
	local name=$1 who=$2 front=$tmp/front so drivers=() functions calls spent empty frames ring=${1%-*}
	local count=(valgrind --tool=callgrind "--callgrind-out-file=$tmp/count" --dump-instr=no --fair-sched=yes)
	rm -f "$tmp/sock"
	if [ "$who" = ours ]; then
		functions=(net_burst)
		# shellcheck disable=SC2154 # lib.sh
		peers_start "$tmp/back" "peers_listens $tmp/sock" taskset -c "$peers_cpu" "${count[@]}" \
			"$ringlet" backend net "$tmp/sock,echo,poll=on" || return
	else
		functions=(rte_vhost_dequeue_burst rte_vhost_enqueue_burst)
		peers_unpacked bookworm usr/bin/dpdk-testpmd || return
		for so in "$peers_cache"/bookworm/usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_{net_vhost,mempool_ring}.so.??; do
			drivers+=(-d "$so")
		done
		peers_start "$tmp/back" "peers_listens $tmp/sock" "${count[@]}" "${peers_argv[@]}" --no-huge -m 128 --no-pci --no-telemetry \
			--file-prefix back --lcores "0@0,1@$peers_cpu" "${drivers[@]}" --vdev "net_vhost0,iface=$tmp/sock" \
			-- -i --disable-link-check --no-mlockall --total-num-mbufs=16384 --auto-start --forward-mode=io || return
	fi
	peer_testpmd_virtio_user "$tmp/sock" client 1 none --rxd=256 --txd=256 "--vdev=,queue_size=256${options[$ring]}" || return
	front=$tmp/sock.virtio_user
	peer_testpmd_say "$front" "set txpkts $((${name##*-} - 4))"
	sleep 3
	take "${functions[@]}" || return
	sleep 3
	take "${functions[@]}" || return
	empty=$(awk -v n="$calls" -v spent="$spent" 'BEGIN { print n ? spent / n : 0 }')
	peer_testpmd_say "$front" "start tx_first 4"
	sleep 10
	peer_testpmd_say "$front" "stop"
	sleep 3
	take "${functions[@]}" || return
	frames=$(peer_testpmd_stats "$front")
	peer_stop "$front"
	peer_stop "$tmp/back"
	cost=$(awk -v calls="$calls" -v spent="$spent" -v empty="$empty" -v frames="${frames%% *}" -v per=${#functions[@]} 'BEGIN {
		idle = calls - frames / 32 * per # bursts are of 32; a few more would make no difference that is seen
		printf "%.1f\n", (spent - (idle > 0 ? idle : 0) * empty) / frames }')
	echo "# $name $who: $frames frames, $calls calls, $spent instructions, $empty an empty poll" >&2
}

echo "| instructions a frame | Ringlet | DPDK | ratio |"
echo "|---|---|---|---|"
for name in "${names[@]}"; do
	once "$name" ours && ours=$cost && once "$name" dpdk || continue
	awk -v name="$name" -v a="$ours" -v b="$cost" 'BEGIN { printf "| %s | %s | %s | %.3f |\n", name, a, b, a / b }'
done
