#!/bin/sh
# Who may include whom.  TAP on stdout; status 1 when a rule is broken.
#   tests/includes.sh [ROOT]
cd "${1:-$(dirname "$0")/..}" || exit 2

# Libraries, and the only files that may know each (a shell pattern, | between several).
libraries='
jansson.h   vmm/stats.c|vmm/result.c|vmm/doctor.c|vmm/control.c|vmm/control_client.c|compare/report_json.c|compare/counters_control.c|matrix/result.c
liburing.h  backends/file_uring.c|servers/server_call.c
slirp/libslirp.h backends/slirp_helper.c
libfdt.h    vmm/fdt.c
seccomp.h   lib/confine.c
'

dirs=
for d in vmm lib devices backends servers compare matrix; do
	[ -d "$d" ] && dirs="$dirs $d"
done

# "file:line:what is included" for every #include, one a line: all the rules look at this list.
list=$(find $dirs -name '*.[chS]' -exec grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]' /dev/null {} + |
	sed -E 's/^([^:]*:[0-9]+):[^<"]*[<"]([^>"]*)[>"].*/\1:\2/' | sort)

# rule NAME: reads the lines that break it
rule() {
	bad=$(cat)
	if [ -z "$bad" ]; then
		echo "ok - includes/$1"
		return
	fi
	echo "$bad" | while IFS=: read -r file line what; do
		echo "not ok - includes/$1: $file:$line $what"
	done
}

# breaks WHO WHAT [BUT_WHO [BUT_WHAT]]: extended regular expressions over the file and what it includes
breaks() {
	echo "$list" | awk -F: -v who="$1" -v what="$2" -v but="${3:-^$}" -v but_what="${4:-^$}" \
		'$1 ~ who && $3 ~ what && $1 !~ but && $3 !~ but_what'
}

# exit() outside comments and strings, but not on_exit(), .exit( or ->exit(.
exits() {
	find $dirs -name '*.[ch]' -exec awk -v call="$1" '
		FNR == 1 { comment = 0 }
		{
			s = $0
			gsub(/"([^"\\]|\\.)*"/, "\"\"", s)
			if (comment) {
				if (!sub(/^.*\*\//, "", s))
					next
				comment = 0
			}
			gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", s)
			if (sub(/\/\*.*/, "", s))
				comment = 1
			sub(/\/\/.*/, "", s)
			if (s ~ "(^|[^A-Za-z0-9_.>])" call "[ \t]*\\(")
				print FILENAME ":" FNR ":" $0
		}' {} +
}
all_rules() {
	breaks . '(^|/)machine\.h$' '^vmm/(main|machine)\.c$' | rule machine-is-included-by-main-only
	breaks '^vmm/' '^(devices|backends)/' '^vmm/(main|machine|machine_[a-z]+)\.c$|^vmm/devices_parts\.h$' | rule vmm-knows-devices-in-its-root-only
	breaks . '^linux/kvm\.h$' '^vmm/kvm/' | rule kvm-headers-stay-in-vmm-kvm
	breaks '^vmm/kvm/' '^(devices|backends)/' | rule kvm-knows-no-devices
	breaks '^devices/' '^backends/' | rule devices-know-no-backends
	breaks '^devices/(net|blk|rng|console|balloon)/' '(^|/)virtio_(pci|mmio)' | rule devices-know-no-transport
	breaks '^devices/virtio_(pci|mmio)' '^devices/(net|blk|rng|console|balloon)/' | rule transports-know-no-device
	breaks '^backends/' '^(vmm|devices)/' '^$' \
		'^(devices/virtio/datapath\.h|devices/net/net_port\.h|devices/blk/disk\.h|vmm/evloop\.h|vmm/guest_mem\.h)$' |
		rule backends-know-five-headers
	breaks '^servers/' '^(vmm|devices|backends)/' '^servers/backend_' \
		'^(devices/virtio/(virtqueue|vq_burst|datapath)\.h|devices/net/net_port\.h|devices/blk/[a-z_]+\.h|backends/vhost_user_(msg|socket)\.h|vmm/(evloop|guest_mem|loop_thread)\.h)$' |
		rule servers-know-rings-and-what-they-serve
	breaks . '^servers/' '^(servers/|vmm/main\.c$)' | rule servers-are-included-by-main-only
	breaks '^compare/' '^(vmm|devices|backends|servers)/' '^$' \
		'^(vmm/(config_keys|config_values|unpack|version)\.h|devices/virtio/feature_names\.h)$' |
		rule compare-runs-vms-and-knows-none
	breaks '^matrix/' '^(vmm|devices|backends|servers|compare)/' '^$' \
		'^vmm/(config|config_options|config_keys|config_values|doctor_checks)\.h$' | rule matrix-runs-vms-and-knows-few-headers
	breaks . '^matrix/' '^(matrix/|vmm/main\.c$)' | rule matrix-is-included-by-main-only
	breaks . '^compare/' '^(compare/|vmm/main\.c$)' | rule compare-is-included-by-main-only
	breaks . '^linux/vhost' '^backends/vhost_' | rule vhost-headers-stay-in-backends
	breaks . '^linux/virtio_pci\.h$' '^devices/virtio_pci' | rule virtio-pci-header-stays-in-its-transport
	breaks '^lib/' '^(vmm|devices|backends)/' | rule lib-knows-lib-only
	# A path from the root says who is meant; "../x.h" or a bare name could be anybody.
	breaks . '\.\./' | rule no-way-round-by-dots

	echo "$libraries" | while read -r header files; do
		[ -n "$header" ] || continue
		pattern=$(echo "$files" | sed 's/\./\\./g')
		breaks . "(^|/)$(echo "$header" | sed 's/\./\\./g')\$" "^($pattern)\$"
	done | rule libraries-stay-in-their-files

	exits '(quick_)?exit' | grep -v '^vmm/main\.c:' | rule exit-in-main-only
	exits '_[eE]xit' | grep -Ev '^(vmm/(crash|ram_file)|lib/confine|compare/process_[a-z]+|matrix/keeper|backends/virtiofsd(_become)?)\.c:' | rule _exit-in-crash-and-after-fork-only
}

result=$(all_rules)
echo "$result"
! echo "$result" | grep -q '^not ok'
