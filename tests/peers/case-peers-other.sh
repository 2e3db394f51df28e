# passt, Open vSwitch and the virtiofsds.
# shellcheck shell=bash disable=SC2154,SC2015
sock=$tmp/s

passt() { # GUEST-ARGUMENTS OPTIONS
	peer_passt "$sock" || fail "no passt"
	guest_run g dhcp "$1" -n "vhost-user,path=$sock$2"
}

test_passt() { passt "" ""; }
test_passt_csum_off() { passt "" ",csum=off"; }
test_passt_irq() { passt "wait=irq" ""; }

test_passt_leaves() { # it ends with its connection, and we with our guest
	peer_passt "$sock" -1 || fail "no passt"
	guest_run g dhcp "" -n "vhost-user,path=$sock"
	until_true 10 passt_gone || fail "passt runs on"
}
passt_gone() { ! peer_alive "$sock"; }

test_ovs_two_guests() { # limit: 120
	local lost late
	peer_ovs "$tmp/ovs" && peer_ovs_port "$tmp/ovs" p0 "$tmp/o0" && peer_ovs_port "$tmp/ovs" p1 "$tmp/o1" || fail "no switch"
	guest_start echo net "what=echo" -n "vhost-user,path=$tmp/o1,server,mac=52:54:00:00:00:02"
	guest_ready echo
	# The switch takes a port into use a moment after it has set up its rings: the first frames may find nobody.
	guest_start g net "count=4000 swap=2 lossy=1" -n "vhost-user,path=$tmp/o0,server,mac=52:54:00:00:00:01"
	guest_end g 60
	read -r lost late < <(sed -n 's/.* lost \([0-9]*\) late \([0-9]*\) .*/\1 \2/p' "$tmp/g.out" | tail -n 1)
	[ $((lost - late)) -le 400 ] || fail "of 4000 frames $lost were missed and $late of these came late"
	echo "from and to p0: $(peer_ovs_stats "$tmp/ovs" p0), p1: $(peer_ovs_stats "$tmp/ovs" p1)"
	guest_quit echo
}

test_ovs_killed() { # limit: 240
	peer_ovs "$tmp/ovs" && peer_ovs_port "$tmp/ovs" p0 "$tmp/o0" && peer_ovs_port "$tmp/ovs" p1 "$tmp/o1" || fail "no switch"
	guest_start echo net "what=echo" -n "vhost-user,path=$tmp/o1,server,reconnect=100ms,mac=52:54:00:00:00:02"
	until_true 5 peers_listens "$tmp/o1" || fail "nobody listens"
	guest_start g net "lossy=1 swap=2" -n "vhost-user,path=$tmp/o0,server,reconnect=100ms,mac=52:54:00:00:00:01"
	guest_ready g 60
	guest_grows g got 0 500 60
	for ((round = 0; round < ${COUNT:-3}; round++)); do
		peer_kill "$tmp/ovs"
		peer_restart "$tmp/ovs" || fail "the switch does not start again"
		guest_grows g got "$(guest_count g got)" 500 60
	done
	guest_quit g
	guest_quit echo
}

fs() { # KIND OPTIONS...
	local kind=$1
	shift
	mkdir "$tmp/shared"
	head -c 300000 /dev/urandom >"$tmp/shared/hello"
	peer_virtiofsd "$sock" "$tmp/shared" "$kind" "$@" || fail "no virtiofsd"
	guest_start g fuse "${arguments:-}" --fs "vhost-user,path=$sock,tag=shared"
	guest_end g
	same_as_file g "$tmp/shared/hello"
	grep -q "^tag shared queues 1" "$tmp/g.out" || fail "another tag, or no queue"
}

test_virtiofsd_c() { fs c; }
test_virtiofsd_c_irq() { arguments="wait=irq" fs c; }
test_virtiofsd_rust() { fs rust; }
test_virtiofsd_rust_irq() { arguments="wait=irq" fs rust; }
