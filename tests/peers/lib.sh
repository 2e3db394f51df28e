# Sourced by tests that need a real peer: each function starts one and returns once it is ready, or prints why not and
# returns 1. README.md says what each peer is like.
# shellcheck shell=bash
#
# A peer is known by its HANDLE, the first argument of the function that starts it: a socket's path, a VDUSE device's name
# or a directory. The rest is the same for all: peer_pid, peer_log, peer_alive, peer_kill, peer_stop, peer_restart.
# Peers die with the shell that started them, however that ends; so start them in the shell itself, not in $(...).
#   PEER_LOGS=DIR       logs, kept, named after the last part of the handle (default: build/peers)
#   PEER_CPU=N          where busy-polling peers run (default: the last processor)
#   PEER_PATIENCE=60    seconds until a peer that is not ready counts as broken
#   PEER_DPDK, PEER_QSD=bookworm|trixie|host   which testpmd (bookworm), which storage daemon (host)
peers_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peers_logs=${PEER_LOGS:-$(cd "$peers_here/../.." && pwd)/build/peers}
peers_cache=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}/peers
peers_cpu=${PEER_CPU:-$(($(nproc) - 1))}
peers_patience=${PEER_PATIENCE:-60}
peers_tmp=$(mktemp -d)
declare -gA peers_pid=() peers_in=() peers_first=() peers_undo=() peers_command=() peers_ready=()
peers_last=0

peers_fail() {
	echo "peers: $*" >&2
	return 1
}

peers_name() { # HANDLE  of its log
	echo "${1##*/}"
}

# A program of an unpacked release with that release's libraries.
peers_unpacked() { # RELEASE PROGRAM: sets $peers_argv
	local root=$peers_cache/$1 loader
	[ -e "$root/STAMP" ] || "$peers_here/fetch.sh" "$1" >/dev/null || return 1
	for loader in "$root"/{usr/,}lib64/ld-linux-x86-64.so.2; do [ ! -e "$loader" ] || break; done
	[ -e "$root/$2" ] || { peers_fail "$root has no $2" || return; }
	# Without the preloaded library, what a program says stays in its buffer as long as a file takes it.
	peers_argv=("$loader" --argv0 "${2##*/}" --preload "$root/usr/libexec/coreutils/libstdbuf.so"
		--library-path "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root/$2")
}

# ---- any peer

peer_pid() { echo "${peers_pid[$1]:-}"; }
peer_log() { echo "$peers_logs/$(peers_name "$1").log"; }
peer_alive() { [ -n "${peers_pid[$1]:-}" ] && kill -0 "${peers_pid[$1]}" 2>/dev/null; }

peer_show() { # HANDLE  what it last said
	echo "--- peer $1"
	tail -n "${2:-40}" "$(peer_log "$1")" | tr -d '\r'
	echo "---"
}

# Starts COMMAND... as HANDLE and waits for READY, a command.
peers_start() { # HANDLE READY COMMAND...
	local handle=$1 ready=$2 log
	shift 2
	if peer_alive "$handle"; then
		peers_fail "a peer runs on $handle already"
		return
	fi
	peers_command[$handle]=$(printf '%q ' "$@")
	peers_ready[$handle]=$ready
	mkdir -p "$peers_logs"
	log=$(peer_log "$handle")
	: >"$log"
	peers_spawn "$handle"
}

peers_spawn() { # HANDLE
	local handle=$1 log command=() fifo fd
	log=$(peer_log "$handle")
	eval "command=(${peers_command[$handle]})"
	echo "# ${command[*]}" >>"$log"
	if [ -z "${peers_in[$handle]:-}" ]; then # so that it can be talked to, and sees no end of its input
		fifo=$peers_tmp/$((peers_last += 1)).in
		mkfifo "$fifo"
		exec {fd}<>"$fifo"
		peers_in[$handle]=$fd
	fi
	fd=${peers_in[$handle]}
	RUNTIME_DIRECTORY=$peers_tmp _STDBUF_O=L LISTEN_FDS='' setsid setpriv --pdeathsig KILL "${command[@]}" \
		<&"$fd" >>"$log" 2>&1 &
	peers_pid[$handle]=$!
	peers_until "$handle" "$peers_patience" "${peers_ready[$handle]}" || {
		peer_show "$handle" 20 >&2
		peer_stop "$handle"
		return 1
	}
}

# Until COMMAND, which is one string, succeeds.
peers_until() { # HANDLE SECONDS COMMAND
	local end=$((SECONDS + $2))
	until eval "$3" 2>/dev/null; do
		peer_alive "$1" || { peers_fail "the peer on $1 ended before this was true: $3" || return; }
		((SECONDS <= end)) || { peers_fail "not true of the peer on $1 within $2 s: $3" || return; }
		sleep 0.05
	done
}

# Without connecting: some peers accept once.
peers_listens() { # SOCK
	grep -qE "^[^ ]+ [^ ]+ [^ ]+ 00010000 0001 01 +[0-9]+ $1\$" /proc/net/unix
}

peer_wait() { # HANDLE PATTERN [SECONDS]: until its log has the line
	peers_until "$1" "${3:-$peers_patience}" "grep -qaE -- $(printf %q "$2") $(printf %q "$(peer_log "$1")")"
}

peer_kill() { # HANDLE  at once, as a crash would: its socket and its devices stay
	local pid=${peers_pid[$1]:-}
	[ -n "$pid" ] || return 0
	kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	peers_pid[$1]=
}

# Of a peer that was a client the socket is the other side's, and somebody listens there still.
peers_remove_stale() { # SOCK
	if [ -S "$1" ] && ! peers_listens "$1"; then rm -f -- "$1"; fi
}

peer_restart() { # HANDLE  after peer_kill, or after it ended: the same command again
	peer_kill "$1"
	peers_remove_stale "$1" # DPDK refuses to listen where a socket is left
	peers_spawn "$1"
}

peer_stop() { # HANDLE  and nothing of it is left but the log
	local pid=${peers_pid[$1]:-} left=50 fd=${peers_in[$1]:-}
	eval "${peers_first[$1]:-}"
	if [ -n "$pid" ]; then
		kill -TERM "$pid" 2>/dev/null
		kill -CONT -- "-$pid" 2>/dev/null
		while kill -0 "$pid" 2>/dev/null && ((left-- > 0)); do sleep 0.1; done
		peer_kill "$1"
	fi
	if [ -n "$fd" ]; then exec {fd}>&-; fi
	eval "${peers_undo[$1]:-}"
	peers_remove_stale "$1"
	rm -f -- "$1.pid" "$1.repair"
	unset "peers_pid[$1]" "peers_in[$1]" "peers_first[$1]" "peers_undo[$1]" "peers_command[$1]" "peers_ready[$1]"
}

peer_stop_all() { # for a trap on EXIT
	local handle
	for handle in "${!peers_pid[@]}"; do peer_stop "$handle"; done
	rm -rf "$peers_tmp"
}

# ---- DPDK's testpmd

# Options of testpmd come after the fixed arguments; among them, --vdev=,KEY=VALUE adds to the device's.
# Forwarding: io (back on the port it came from, where there is one port), macswap, icmpecho (answers ARP and ping itself),
# rxonly, txonly; "none" leaves it stopped until peer_testpmd_say HANDLE start. Size: of txonly's frames.
peers_testpmd() { # HANDLE READY NMBYTES VDEV QUEUES FORWARD [SIZE] [OPTIONS]
	local handle=$1 ready=$2 mb=$3 vdev=$4 queues=$5 forward=${6:-io} size='' release=${PEER_DPDK:-bookworm} so abi cpu=$peers_cpu
	shift $(($# < 6 ? $# : 6))
	case ${1:-} in [0-9]*) size=$1 && shift ;; esac
	local options=() drivers=()
	while [ $# -gt 0 ]; do
		case $1 in --vdev=,*) vdev+=${1#--vdev=} ;; *) options+=("$1") ;; esac
		shift
	done
	case $vdev in net_virtio_user*) cpu=0 ;; esac # the other end has $peers_cpu
	peers_unpacked "$release" usr/bin/dpdk-testpmd || return
	for so in "$peers_cache/$release"/usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_{net_vhost,net_virtio,net_tap,mempool_ring}.so.??; do
		abi=${so%/*}
		# It loads an installed release's drivers by itself, and would not bear having them twice.
		[ -d "/usr/lib/x86_64-linux-gnu/dpdk/${abi##*/}" ] || drivers+=(-d "$so")
	done
	[ "$forward" = none ] || options+=(--auto-start "--forward-mode=$forward")
	[ -z "$size" ] || options+=("--txpkts=$size")
	peers_start "$handle" "$ready" "${peers_argv[@]}" --no-huge -m "$mb" --no-pci --no-telemetry \
		--file-prefix "$(peers_name "$handle")" --lcores "0@0,1@$cpu" "${drivers[@]}" --vdev "$vdev" \
		-- -i --disable-link-check --no-mlockall --total-num-mbufs=16384 --rxq="$queues" --txq="$queues" "${options[@]}"
}

# A vhost-user net back end. server: it makes the socket; client: it connects to ours, again and again until we are there.
peer_testpmd_vhost() { # SOCK client|server QUEUES [FORWARD [SIZE]] [OPTIONS]
	local sock=$1 role=$2 queues=$3 ready
	shift 3
	case $role in
	server) ready="peers_listens $sock" ;;
	client) ready="grep -qaE 'testpmd> *\$|reconnecting|Port 0: ' $(peer_log "$sock")" ;;
	*) peers_fail "a testpmd is client or server, not $role" || return ;;
	esac
	peers_testpmd "$sock" "$ready" 128 "net_vhost0,iface=$sock,queues=$queues,client=$([ "$role" = client ] && echo 1 || echo 0)" \
		"$queues" "${@:-io}"
}

# A vhost-user front end with a virtio driver in it, where no guest is wanted. Its handle is SOCK.virtio_user. As a server it
# is ready when it listens.
peer_testpmd_virtio_user() { # SOCK client|server QUEUES [FORWARD [SIZE]] [OPTIONS]
	local sock=$1 role=$2 queues=$3 handle=$1.virtio_user ready
	shift 3
	ready="grep -qa 'Port 0: ' $(peer_log "$handle")"
	[ "$role" = client ] || {
		ready="peers_listens $sock"
		peers_undo[$handle]="rm -f $sock"
	}
	peers_testpmd "$handle" "$ready" 192 \
		"net_virtio_user0,path=$sock,queues=$queues,server=$([ "$role" = server ] && echo 1 || echo 0)" "$queues" "${@:-io}"
}

peer_testpmd_say() { # HANDLE COMMAND  as at its prompt
	printf '%s\n' "$2" >&"${peers_in[$1]}"
}

peer_testpmd_ask() { # HANDLE COMMAND  prints what it says
	local log before mark="mark$((peers_last += 1))"
	log=$(peer_log "$1")
	before=$(wc -c <"$log")
	peer_testpmd_say "$1" "$2"
	peer_testpmd_say "$1" "set promisc $mark off" # which it does not know, and says so
	peers_until "$1" 10 "tail -c +$((before + 1)) $(printf %q "$log") | grep -qai 'bad arguments'" || return
	tail -c "+$((before + 1))" "$log" | tr -d '\r'
}

peer_testpmd_stats() { # HANDLE  prints packets received, sent, bytes received, sent
	peer_testpmd_ask "$1" "show port stats 0" |
		awk '/RX-packets:/ { rx = $2; rb = $NF } /TX-packets:/ { tx = $2; tb = $NF } END { print rx, tx, rb, tb }' |
		sed 's/[^0-9 ]//g'
}

# ---- QEMU's storage daemon

peers_qsd() { # HANDLE READY FILE FORMAT EXPORT
	local handle=$1 ready=$2 file=$3 format=$4 export=$5 qmp
	qmp=$peers_tmp/$(peers_name "$handle").qmp
	if [ "${PEER_QSD:-host}" = host ]; then
		peers_argv=(qemu-storage-daemon)
	else
		peers_unpacked "$PEER_QSD" usr/bin/qemu-storage-daemon || return
	fi
	peers_start "$handle" "$ready" "${peers_argv[@]}" --chardev "socket,id=qmp,path=$qmp,server=on,wait=off" \
		--monitor chardev=qmp --blockdev "file,node-name=file,filename=$file" --blockdev "$format,node-name=disk,file=file" \
		--export "$export,id=export,node-name=disk,writable=on"
}

peer_qsd_vhost_blk() { # SOCK FILE [raw|qcow2 [QUEUES]]
	peers_qsd "$1" "peers_listens $1" "$2" "${3:-raw}" "vhost-user-blk,addr.type=unix,addr.path=$1,num-queues=${4:-1}"
}

# Prints the answers.
peer_qsd_qmp() { # HANDLE JSON
	printf '{"execute":"qmp_capabilities"}\n%s\n' "$2" |
		socat -t 2 - "UNIX-CONNECT:$peers_tmp/$(peers_name "$1").qmp" | tail -n +3
}

peer_qsd_resize() { # HANDLE BYTES
	peer_qsd_qmp "$1" '{"execute":"block_resize","arguments":{"node-name":"disk","size":'"$2"'}}' | grep -q '"return"'
}

# ---- VDUSE: needs the kernel's module, so the lab

# Where the device is to be found: peers_vdpa NAME prints /dev/vhost-vdpa-N.
peers_vdpa() {
	local dir=/sys/bus/vdpa/devices/$1 node
	for node in "$dir"/vhost-vdpa-*; do [ -e "$node" ] && echo "/dev/${node##*/}" && return; done
	return 1
}

peers_vduse_ready() {
	local name=$1
	for module in vduse vhost_vdpa; do modprobe "$module" 2>/dev/null; done
	[ -e /dev/vduse/control ] || { peers_fail "no /dev/vduse/control; this kernel has no VDUSE: run it in the lab" || return; }
	# A daemon that ends by itself takes its device along, but not while the bus has it; one that was killed leaves it.
	peers_first[$name]="timeout 40 vdpa dev del $name 2>/dev/null"
	peers_undo[$name]="[ ! -e /dev/vduse/$name ] || peers_vduse_destroy $name"
}

peers_vduse_destroy() { # NAME
	python3 -c 'import fcntl, sys
VDUSE_DESTROY_DEV = 0x41008103
with open("/dev/vduse/control", "rb") as control:
    fcntl.ioctl(control, VDUSE_DESTROY_DEV, sys.argv[1].encode().ljust(256, b"\0"))' "$1"
}

peers_vduse_attach() { # NAME
	local name=$1 dir=/sys/bus/vdpa/devices/$1
	if [ ! -e "$dir" ]; then # there already if the daemon was only started again
		vdpa dev add name "$name" mgmtdev vduse || return
	fi
	if [ "$(basename "$(readlink -f "$dir/driver")")" != vhost_vdpa ]; then
		if [ -e "$dir/driver" ]; then echo "$name" >"$dir/driver/unbind"; fi
		echo vhost_vdpa >"$dir/driver_override"
		echo "$name" >/sys/bus/vdpa/drivers/vhost_vdpa/bind
	fi
	peers_until "$name" 10 "peers_vdpa $name >/dev/null"
}

peer_qsd_vduse() { # NAME FILE [raw|qcow2 [QUEUES]]
	peers_vduse_ready "$1" || return
	peers_qsd "$1" "[ -e /dev/vduse/$1 ]" "$2" "${3:-raw}" "vduse-blk,name=$1,num-queues=${4:-1}" || return
	peers_vduse_attach "$1"
}

# Only DPDK 24.11 has it. The device's queues are told by the kernel's module, not by DPDK.
peer_testpmd_vduse() { # NAME QUEUES [FORWARD [SIZE]] [OPTIONS]
	local name=$1 queues=$2
	shift 2
	peers_vduse_ready "$name" || return
	PEER_DPDK=trixie peers_testpmd "$name" "[ -e /dev/vduse/$name ]" 128 "net_vhost0,iface=/dev/vduse/$name,queues=$queues" \
		"$queues" "${@:-io}" || return
	peers_vduse_attach "$name"
}

# ---- virtiofsd

peer_virtiofsd() { # SOCK DIR [c|rust] [OPTIONS]
	local sock=$1 dir=$2 kind=${3:-rust}
	shift $(($# < 3 ? $# : 3))
	case $kind in
	c)
		[ -x /usr/lib/qemu/virtiofsd ] || { peers_fail "no /usr/lib/qemu/virtiofsd; QEMU 7.2 was the last with it" || return; }
		peers_argv=(/usr/lib/qemu/virtiofsd -f "--socket-path=$sock" -o "source=$dir")
		;;
	rust)
		peers_unpacked trixie usr/libexec/virtiofsd || return
		peers_argv+=("--socket-path=$sock" "--shared-dir=$dir")
		;;
	*) peers_fail "there is a virtiofsd in c and one in rust, not in $kind" || return ;;
	esac
	peers_start "$sock" "peers_listens $sock" "${peers_argv[@]}" "$@"
}

# ---- passt

peer_passt() { # SOCK [OPTIONS]
	local sock=$1
	shift
	peers_unpacked trixie usr/bin/passt || return
	peers_start "$sock" "peers_listens $sock" "${peers_argv[@]}" --foreground --vhost-user --socket "$sock" "$@"
}

# ---- Open vSwitch with DPDK

# A switch of its own in DIR, with a bridge br0. Its taps are in a network namespace of its own; with PEER_OVS_NET=host they,
# br0 among them, are here, and taps from here can be ports.
peer_ovs() { # DIR
	local dir=$1 root=$peers_cache/bookworm plugins='' so abi where=(unshare -n) tap
	if [ "${PEER_OVS_NET:-private}" = host ]; then
		where=()
		for tap in br0 ovs-netdev; do
			[ ! -e "/sys/class/net/$tap" ] || { peers_fail "an interface $tap exists; run: ip link del $tap" || return; }
		done
	fi
	mkdir -p "$dir"
	"$peers_here/fetch.sh" bookworm >/dev/null || return
	export OVS_RUNDIR=$dir OVS_DBDIR=$dir OVS_LOGDIR=$dir OVS_SYSCONFDIR=$dir
	peers_unpacked bookworm usr/bin/ovsdb-tool || return
	rm -f "$dir/conf.db"
	"${peers_argv[@]}" create "$dir/conf.db" "$root/usr/share/openvswitch/vswitch.ovsschema" || return
	peers_unpacked bookworm usr/sbin/ovsdb-server || return
	peers_start "$dir/db" "peers_listens $dir/db.sock" "${peers_argv[@]}" "$dir/conf.db" \
		"--remote=punix:$dir/db.sock" "--unixctl=$dir/db.ctl" || return
	for so in "$root"/usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_mempool_ring.so.??; do
		abi=${so%/*}
		[ -d "/usr/lib/x86_64-linux-gnu/dpdk/${abi##*/}" ] || plugins+=" -d $so"
	done
	peer_ovs_vsctl "$dir" --no-wait -- init -- set Open_vSwitch . other_config:dpdk-init=true \
		other_config:dpdk-alloc-mem="${PEER_OVS_MB:-512}" \
		other_config:per-port-memory=true other_config:pmd-cpu-mask="$(printf '0x%x' $((1 << peers_cpu)))" \
		other_config:dpdk-extra="\"--no-huge --legacy-mem --no-pci --no-telemetry --file-prefix $(peers_name "$dir")$plugins\"" || return
	peers_unpacked bookworm usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk || return
	peers_start "$dir" "peer_ovs_vsctl $dir get Open_vSwitch . dpdk_initialized | grep -q true" \
		"${where[@]}" "${peers_argv[@]}" "unix:$dir/db.sock" "--unixctl=$dir/ctl" || {
		peer_stop "$dir/db"
		return 1
	}
	peers_undo[$dir]="peer_stop $dir/db"
	# It leaves them behind.
	[ "${#where[@]}" -gt 0 ] || peers_undo[$dir]+="; for tap in br0 ovs-netdev; do ip link del \$tap; done 2>/dev/null"
	peer_ovs_vsctl "$dir" add-br br0 -- set bridge br0 datapath_type=netdev
}

peer_ovs_vsctl() { # DIR ARGUMENTS...
	local dir=$1
	shift
	peers_unpacked bookworm usr/bin/ovs-vsctl && "${peers_argv[@]}" --db="unix:$dir/db.sock" --timeout=20 "$@"
}

peer_ovs_appctl() { # DIR ARGUMENTS...
	local dir=$1
	shift
	peers_unpacked bookworm usr/bin/ovs-appctl && "${peers_argv[@]}" -t "$dir/ctl" "$@"
}

# client: the switch connects to SOCK (dpdkvhostuserclient); server: it makes DIR/PORT, and SOCK is not given.
peer_ovs_port() { # DIR PORT SOCK|server
	if [ "$3" = server ]; then
		peer_ovs_vsctl "$1" add-port br0 "$2" -- set Interface "$2" type=dpdkvhostuser
	else
		peer_ovs_vsctl "$1" add-port br0 "$2" -- set Interface "$2" type=dpdkvhostuserclient "options:vhost-server-path=$3"
	fi
}

peer_ovs_stats() { # DIR PORT  prints packets from the guest, to it
	peer_ovs_appctl "$1" dpctl/show -s |
		awk -v port="$2" '/^ *port / { here = $3 == port } here && /[RT]X packets:/ { sub(/.*:/, "", $2); printf "%s ", $2 }'
}

# ---- the kernel's SCSI target for vhost-scsi: needs its modules, so the lab

# One LUN on FILE. No package is needed: targetcli would only write the same files.
peer_vhost_scsi() { # WWPN FILE   (WWPN: naa.5001405 and 9 hexadecimal digits)
	local wwpn=$1 file=$2 config=/sys/kernel/config core port
	for module in target_core_mod target_core_file vhost_scsi; do modprobe "$module" 2>/dev/null; done
	mountpoint -q $config || mount -t configfs none $config
	core=$config/target/core/fileio_0/${wwpn#naa.}
	port=$config/target/vhost/$wwpn/tpgt_1
	mkdir -p "$core" || { peers_fail "the kernel's SCSI target cannot be set up: run it in the lab" || return; }
	peers_pid[$wwpn]=
	peers_undo[$wwpn]="rm -f $port/lun/lun_0/disk; rmdir $port/lun/lun_0 $port ${port%/*} $core"
	echo "fd_dev_name=$file,fd_dev_size=$(stat -c %s "$file")" >"$core/control" &&
		echo 1 >"$core/enable" && mkdir -p "$port/lun/lun_0" && echo "${wwpn%?}$(((0x${wwpn: -1} + 1) % 10))" >"$port/nexus" &&
		ln -s "$core" "$port/lun/lun_0/disk"
}
