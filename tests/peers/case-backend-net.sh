# Our own back end of network cards, `ringlet backend net`, and front ends that are not ours: DPDK's virtio-user in all its
# ways and QEMU.  What goes through is a guest's numbered frames, which it compares when they come back: from a testpmd at
# the other socket, from two of them one behind the other, from a program behind a tap.
#   BACKEND_NET='COMMAND...'   what is started (default: ringlet backend net)
# shellcheck shell=bash disable=SC2154,SC2015
a=$tmp/a.sock b=$tmp/b.sock c=$tmp/c.sock d=$tmp/d.sock
count=${COUNT:-3}
frames=4000
eal=()

# What else EAL is told: --vdev of a second port, the width of its vectors.  Before it come its own options.
eval "$(declare -f peers_unpacked | sed '1s/peers_unpacked/plain_unpacked/')"
peers_unpacked() { plain_unpacked "$@" && peers_argv+=("${eal[@]}"); }

serve() { # HANDLE ARGUMENT...
	local handle=$1
	shift
	# shellcheck disable=SC2086
	peers_start "$handle" "grep -qa 'ready\$' $(peer_log "$handle")" ${BACKEND_NET:-$ringlet backend net} "$@" || fail "no back end"
}

ends() { # HANDLE [N]  and says what it has seen, in $told; dropped were only up to N frames on their way to a guest that had ended
	local dropped
	peer_stop "$1"
	told=$(grep -a ' -> ' "$(peer_log "$1")")
	echo "$told"
	[ -n "$told" ] || fail "the back end has ended without a word"
	dropped=$(sed -n 's/.*, \([0-9]*\) dropped.*/\1/p' <<<"$told" | sort -n | tail -n 1)
	! grep -v '^#' "$(peer_log "$1")" | grep -qE 'refused|broken' && ((${dropped:-0} <= ${2:-64})) || fail "the back end has dropped frames"
}

virtio_user() { # SOCKET client|server QUEUES FORWARD [KEY=VALUE,...]
	peer_testpmd_virtio_user "$1" "$2" "$3" "$4" ${5:+"--vdev=,$5"} || fail "no testpmd"
}

guest() { # ARGUMENTS NET-OPTIONS
	RUN_SECONDS=15 guest_run g net "count=$frames $1" -n "vhost-user,path=$a$2"
}

# ---- a guest's frames through a virtio-user

through() { # KEYS [QUEUES [GUEST-ARGUMENTS [NET-OPTIONS [BACK-END-KEYS]]]]
	local queues=${2:-1}
	serve back "$a,queues=$queues${5:-}" "$b"
	virtio_user "$b" client "$queues" io "$1"
	guest "pairs=$queues ${3:-}" ",queues=$queues${4:-}"
	ends back 200
}

test_split() { through "mrg_rxbuf=1,in_order=0"; }
test_split_24() { PEER_DPDK=trixie through "mrg_rxbuf=1,in_order=0"; }
test_split_not_mergeable() { through "mrg_rxbuf=0,in_order=0"; }
test_split_in_order() { through "mrg_rxbuf=1,in_order=1"; }
test_split_in_order_not_mergeable() { through "mrg_rxbuf=0,in_order=1"; }
test_packed() { through "packed_vq=1,mrg_rxbuf=1,in_order=0"; }
test_packed_24() { PEER_DPDK=trixie through "packed_vq=1,mrg_rxbuf=1,in_order=0"; }
test_packed_not_mergeable() { through "packed_vq=1,mrg_rxbuf=0,in_order=0"; }
test_packed_in_order() { through "packed_vq=1,mrg_rxbuf=1,in_order=1"; }
test_packed_in_order_not_mergeable_24() { PEER_DPDK=trixie through "packed_vq=1,mrg_rxbuf=0,in_order=1"; }
test_packed_to_packed() { through "packed_vq=1" 1 "packed=1" ",packed=on"; }
test_two_queues() { through "" 2; }
test_two_queues_packed_24() { PEER_DPDK=trixie through "packed_vq=1" 2 "packed=1" ",packed=on"; }
test_small_rings() { through "queue_size=64" 1 "window=200"; }
test_poll() { through "" 1 "" "" ",poll"; }
test_poll_packed_two_queues() { through "packed_vq=1" 2 "packed=1" ",packed=on" ",poll"; }
test_interrupts() { through "" 1 "wait=irq"; }
test_interrupts_packed() { through "packed_vq=1" 1 "wait=irq packed=1" ",packed=on"; }
test_no_event_idx() { through "" 1 "wait=irq event_idx=0"; }
test_buffers_in_pieces() { through "" 1 "room=256 window=16"; }
test_buffers_in_pieces_packed() { through "packed_vq=1" 1 "room=256 window=16 packed=1" ",packed=on"; }

# The driver says which functions it chose.
vectorised() { # KEYS PATTERN
	eal=(--log-level=pmd.net.virtio.init:info --force-max-simd-bitwidth=512)
	serve back "$a" "$b"
	virtio_user "$b" client 1 io "vectorized=1,$1"
	sed -n 's/.*virtio: using \(.*\) on port 0/chosen: \1/p' "$(peer_log "$b.virtio_user")" | tr -d '\r' | sort -u
	grep -qa "using $2 Rx path" "$(peer_log "$b.virtio_user")" || fail "the driver has not chosen its $2 path"
	guest "" ""
	ends back
}

test_split_vectorised() { vectorised "mrg_rxbuf=0,in_order=0" vectorized; }
test_split_vectorised_24() { PEER_DPDK=trixie vectorised "mrg_rxbuf=0,in_order=0" vectorized; }
avx512() { grep -qw avx512vl /proc/cpuinfo || skip "this processor has no AVX-512, so DPDK has no such path"; }
test_packed_vectorised() { # DPDK wants both
	avx512
	vectorised "packed_vq=1,mrg_rxbuf=0,in_order=1" "packed ring vectorized"
}
test_packed_vectorised_24() {
	avx512
	PEER_DPDK=trixie vectorised "packed_vq=1,mrg_rxbuf=0,in_order=1" "packed ring vectorized"
}

# Who listens: both of us, or either front end.
test_connects_to_both() {
	virtio_user "$b" server 1 io "packed_vq=1"
	guest_start g net "count=$frames lossy=1" -n "vhost-user,path=$a,server=on,wait=10s"
	serve back "$a,server=off" "$b,server=off"
	peer_wait "$b.virtio_user" "Port 0: " 10 || fail "testpmd has not gone on"
	guest_end g 15
}

test_connects_to_one_24() {
	PEER_DPDK=trixie virtio_user "$b" server 2 io ""
	serve back "$a,queues=2" "$b,server=off"
	peer_wait "$b.virtio_user" "Port 0: " 10 || fail "testpmd has not gone on"
	guest "pairs=2" ",queues=2"
	ends back
}

# ---- two of them

# A guest, a testpmd with a port at each of two back ends, a testpmd that sends back: what one virtio-user sends another gets.
chain() { # KEYS-OF-BOTH QUEUES
	serve near "$a,queues=$2" "$b"
	serve far "$c,queues=$2" "$d"
	virtio_user "$d" client "$2" io "$1"
	eal=(--vdev "net_virtio_user1,path=$c,queues=$2${1:+,$1}")
	virtio_user "$b" client "$2" io "$1"
	eal=()
	guest "pairs=$2" ",queues=$2"
	ends near
	ends far
}

test_two_front_ends() { chain "" 1; }
test_two_front_ends_packed() { chain "packed_vq=1,in_order=0" 1; }
test_two_front_ends_two_queues_24() { PEER_DPDK=trixie chain "" 2; }

# As many as it can, and none is lost without being counted: where the receiver is slow its sender waits.
flood() { # QUEUES KEYS-OF-SENDER KEYS-OF-RECEIVER [BYTES [BACK-END-KEYS]]
	local sent got dropped
	serve back "$a,queues=$1${5:-}" "$b"
	virtio_user "$b" client "$1" rxonly "$3"
	virtio_user "$a" client "$1" none "$2"
	for command in "set fwd txonly" "set txpkts ${4:-64}" start; do peer_testpmd_say "$a.virtio_user" "$command"; done
	sleep 0.5
	until_true 10 sent_enough || fail "nothing has been sent"
	peer_testpmd_ask "$a.virtio_user" stop >/dev/null || fail "testpmd does not stop"
	sleep 0.5
	sent=$(peer_testpmd_stats "$a.virtio_user" | cut -d' ' -f2,4)
	got=$(peer_testpmd_stats "$b.virtio_user" | cut -d' ' -f1,3)
	echo "sent: $sent; received: $got (frames, bytes)"
	# Where so many wait for two processors a receiver may be away for longer than its sender waits.
	ends back $((${sent% *} / 10))
	told=${told%%$'\n'*}
	dropped=$(sed -n 's/.*, \([0-9]*\) dropped$/\1/p' <<<"$told")
	[ "${sent% *}" = $((${got% *} + ${dropped:-0})) ] && [[ -n $dropped || $sent = "$got" ]] || fail "what was sent was not received"
	[[ $told == "$a -> $b: ${got% *} frames, ${got#* } bytes"* ]] || fail "the back end has counted otherwise"
}

sent_enough() { (($(peer_testpmd_stats "$a.virtio_user" | cut -d' ' -f2) > 2000)); }

test_flood() { flood 1 "" ""; }
test_flood_packed_24() { PEER_DPDK=trixie flood 1 "packed_vq=1" "packed_vq=1"; }
test_flood_from_split_to_packed() { flood 1 "in_order=0" "packed_vq=1,mrg_rxbuf=0" 1500; }
test_flood_poll_two_queues() { flood 2 "" "packed_vq=1" 64 ,poll; }
test_flood_to_small_ring() { flood 1 "" "queue_size=32"; }

# ---- QEMU

qemu() { # HANDLE SOCKET GUEST-ARGUMENTS [NET-DEVICE-OPTIONS [QUEUES [CHARDEV-OPTIONS]]]
	command -v qemu-system-x86_64 >/dev/null || skip "there is no qemu-system-x86_64; run scripts/setup.sh bench"
	peers_start "$1" true qemu-system-x86_64 -M q35,memory-backend=mem -object memory-backend-memfd,id=mem,size=64M,share=on \
		-accel kvm -cpu host -m 64M -smp 1 -nodefaults -no-user-config -display none -serial stdio -no-reboot \
		-device isa-debug-exit,iobase=0x5f0,iosize=4 -kernel "$guests/net.elf" -append "$3 config=port" \
		-chardev "socket,id=c,path=$2${6:-}" -netdev "vhost-user,id=n,chardev=c,queues=${5:-1}" \
		-device "virtio-net-pci,netdev=n,disable-legacy=on,romfile=${4:-}" || fail "no QEMU"
}

qemu_ends() { # HANDLE [PATTERN]
	until_true 15 qemu_gone "$1" || fail "QEMU has not ended"
	! grep -qa '^not ok' "$(peer_log "$1")" || fail "$(grep -am1 '^not ok' "$(peer_log "$1")" | tr -d '\r')"
	grep -a '^done' "$(peer_log "$1")" | tr -d '\r' || fail "QEMU's guest has not finished"
}
qemu_gone() { ! peer_alive "$1"; }

qemu_echo() { # GUEST-ARGUMENTS [DEVICE-OPTIONS [QUEUES [BACK-END-KEYS]]]
	serve back "$a,echo,queues=${3:-1}${4:-}"
	qemu q "$a" "count=$frames pairs=${3:-1} $1" "${2:-}" "${3:-1}"
	qemu_ends q
	ends back
}

test_qemu() { qemu_echo "" ""; }
test_qemu_interrupts() { qemu_echo "wait=irq" ""; }
test_qemu_packed() { qemu_echo "packed=1" ",packed=on"; }
test_qemu_not_mergeable() { qemu_echo "mrg=0" ""; }
test_qemu_buffers_in_pieces() { qemu_echo "room=256 window=16" ""; }
test_qemu_two_queues() { qemu_echo "pairs=2" ",mq=on,vectors=8" 2; }
test_qemu_poll() { qemu_echo "" "" 1 ,poll; }

test_qemu_resets() {
	serve back "$a,echo"
	qemu q "$a" "lossy=1"
	peer_wait q '^ready' 15 || fail "the guest does not start"
	now=0
	for ((round = 1; round <= 5 * count; round++)); do
		got=$now
		until_true 5 got_more || fail "after $((round - 1)) resets nothing comes back"
		peer_testpmd_say q r
		peers_until q 5 "[ \$(grep -ca '^reset' $(peer_log q)) = $round ]" || fail "no reset"
	done
	peer_testpmd_say q q
	qemu_ends q
}
got_more() {
	peer_testpmd_say q p
	sleep 0.05
	now=$(awk '/^state/ { n = $5 } END { print n + 0 }' "$(peer_log q)")
	((now > got))
}

test_qemu_and_virtio_user() {
	serve back "$a" "$b"
	virtio_user "$b" client 1 macswap packed_vq=1
	qemu q "$a" "count=$frames swap=1"
	qemu_ends q
	ends back
}

test_qemu_listens() {
	qemu q "$a" "count=$frames" "" 1 ",server=on"
	until_true 5 peers_listens "$a" || fail "QEMU does not listen"
	serve back "$a,server=off,echo"
	qemu_ends q
	ends back
}

# ---- killed, while the other goes on

# Numbered frames by a guest; who sends them back is killed, and comes again.
other_killed() { # HANDLE [SOCKET-THAT-IT-MADE]
	guest_start g net "lossy=1" -n "vhost-user,path=$a"
	guest_ready g
	for ((round = 0; round < count; round++)); do
		guest_grows g got "$(guest_count g got)" 1000 10
		peer_kill "$1"
		guest_grows g sent "$(guest_count g sent)" 100 10
		rm -f "${2:-}"
		peer_restart "$1" || fail "it does not start again"
	done
	guest_grows g got "$(guest_count g got)" 1000 10
	guest_quit g
	peer_stop back
	told=$(grep -a ' -> ' "$(peer_log back)")
	echo "$told"
	grep -q ' dropped' <<<"$told" || fail "while nobody was there, nothing was dropped"
}

test_virtio_user_killed() {
	serve back "$a" "$b"
	virtio_user "$b" client 1 io packed_vq=1
	other_killed "$b.virtio_user"
}

test_virtio_user_killed_two_queues_poll() {
	serve back "$a,queues=2,poll" "$b"
	virtio_user "$b" client 2 io ""
	other_killed "$b.virtio_user"
}

test_listening_virtio_user_killed() { # we connect to it, again
	virtio_user "$b" server 1 io in_order=0
	serve back "$a" "$b,server=off"
	other_killed "$b.virtio_user" "$b"
}

test_qemu_killed() {
	serve back "$a" "$b"
	qemu q "$b" "what=echo"
	guest_start g net "lossy=1 swap=2" -n "vhost-user,path=$a"
	guest_ready g
	for ((round = 0; round < (count + 2) / 3; round++)); do
		guest_grows g got "$(guest_count g got)" 1000 10
		peer_kill q
		guest_grows g sent "$(guest_count g sent)" 100 10
		peer_restart q || fail "QEMU does not start again"
	done
	guest_grows g got "$(guest_count g got)" 1000 10
	guest_quit g
}

# The one that sends is killed under load, and as often nothing is left of it.
test_sender_killed() {
	local before after
	serve back "$a" "$b"
	virtio_user "$b" client 1 rxonly ""
	virtio_user "$a" client 1 txonly packed_vq=1
	before=$(back_handles)
	for ((round = 0; round < count; round++)); do
		got=$(peer_testpmd_stats "$b.virtio_user" | cut -d' ' -f1)
		until_true 10 received_more || fail "nothing comes any more"
		peer_kill "$a.virtio_user"
		peer_restart "$a.virtio_user" || fail "it does not start again"
	done
	got=$(peer_testpmd_stats "$b.virtio_user" | cut -d' ' -f1)
	until_true 10 received_more || fail "nothing comes any more"
	after=$(back_handles)
	[ "$before" = "$after" ] || fail "before: $before, after $count returns: $after"
}
received_more() { (($(peer_testpmd_stats "$b.virtio_user" | cut -d' ' -f1) > got + 1000)); }
back_handles() {
	local fds=("/proc/$(peer_pid back)/fd"/*) tasks=("/proc/$(peer_pid back)/task"/*)
	echo "fds ${#fds[@]} threads ${#tasks[@]}"
}

# ---- a tap

tap_up() { # PEER-OPTIONS  in a network namespace of its own, which goes with the case
	[ "$(id -u)" = 0 ] || skip "taps want root"
	ns=rlnet$$
	ip netns add "$ns" || skip "no network namespaces here"
	ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	ip netns exec "$ns" ip tuntap add rl0 mode tap "$@" && ip -n "$ns" addr add 10.99.7.1/24 dev rl0 && ip -n "$ns" link set rl0 up ||
		fail "no tap"
}
at_end() { [ -z "${ns:-}" ] || ip netns del "$ns"; }

serve_tap() { # SOCKET-KEYS
	# shellcheck disable=SC2086
	peers_start back "grep -qa 'ready\$' $(peer_log back)" ip netns exec "$ns" ${BACKEND_NET:-$ringlet backend net} \
		"$a,tap=rl0$1" || fail "no back end"
}

reflect() {
	peers_start reflect "grep -q reflecting $(peer_log reflect)" ip netns exec "$ns" tests/peers/reflect.py rl0 || fail "no reflection"
}

test_tap_qemu() {
	tap_up
	serve_tap ""
	reflect
	qemu q "$a" "count=$frames window=16"
	qemu_ends q
	ends back
}

test_tap_qemu_packed_poll() {
	tap_up
	serve_tap ",poll"
	reflect
	qemu q "$a" "count=$frames window=16 packed=1" ",packed=on"
	qemu_ends q
	ends back
}

test_tap_qemu_two_queues() {
	tap_up multi_queue
	serve_tap ",queues=2"
	reflect
	qemu q "$a" "lossy=1 count=$frames window=16 pairs=2" ",mq=on,vectors=8" 2
	qemu_ends q
}

# The host's own ping, which compares what comes back, and a testpmd that answers.
ping_tap() { # KEYS [BACK-END-KEYS]
	tap_up
	serve_tap "${2:-}"
	virtio_user "$a" client 1 icmpecho "$1"
	for size in 56 1400; do # until 200 have come back; it may have sent a few more
		ip netns exec "$ns" ping -c 200 -i 0.005 -w 8 -s "$size" 10.99.7.2 >"$tmp/ping" || fail "$(tail -n 5 "$tmp/ping")"
		sed -n '/transmitted/p' "$tmp/ping"
		! grep -iE 'wrong|bad|dup|error|corrupt' "$tmp/ping" || fail "not what was sent"
		read -r got last < <(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$tmp/ping" | sort -n | awk '{ last = $1 } END { print NR, last }')
		((got == last && got >= 200)) || fail "$got answers, the last to number $last"
	done
	sleep 0.3
	ends back 0
	[ "$(cut -d: -f2 <<<"$told" | sort -u | wc -l)" = 1 ] || fail "not each has been answered"
}

test_tap_virtio_user() { ping_tap ""; }
test_tap_virtio_user_packed_24() { PEER_DPDK=trixie ping_tap packed_vq=1; }
test_tap_virtio_user_not_mergeable_poll() { ping_tap mrg_rxbuf=0,in_order=0 ,poll; }

test_tap_virtio_user_killed() {
	tap_up
	serve_tap ""
	virtio_user "$a" client 1 icmpecho packed_vq=1
	for ((round = 0; round < count; round++)); do
		until_true 10 answers || fail "no answer"
		peer_kill "$a.virtio_user"
		peer_restart "$a.virtio_user" || fail "it does not start again"
	done
	until_true 10 answers || fail "no answer"
}
answers() { ip netns exec "$ns" ping -q -c 5 -i 0.005 -W 1 10.99.7.2 >/dev/null; }
