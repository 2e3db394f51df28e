#include "vmm/config_options.h"

#include "lib/cleanup.h"

#define BOTH (ONE_DASH | TWO_DASH)

#define KINDS     "--net, --disk, --vsock, --scsi, --fs, --rng, --balloon, --console virtio"
#define NO_DEVICE "not in this version; there are " KINDS
#define ONE_NET   "say the whole device at once: -n user[,hostfwd=...] or -n tap[,ifname=NAME]"
#define ONE_DEVICE                                                                                             \
	"each kind of device has its own option: " KINDS                                                       \
	"; any that a vhost-user back end serves is --device vhost-user,path=SOCKET,type=NAME"
#define LATER     "not in this version"
#define CONSOLE   "leave it out: the console is always the terminal (--log copies it to a file)"
#define ALWAYS    "leave it out: ringlet always runs on KVM"
#define ONE_BOARD "leave it out: there is one board, and the guest has the host's CPU model"
#define NO_SOCKET "say --control FILE, or only --name NAME, and use \"ringlet ctl\""
#define NO_GDB    "there is no debugger stub in this version"

const struct option_alias option_aliases[] = {
	{"initramfs", TWO_DASH, "initrd", NULL},
	{"cmdline", TWO_DASH, "append", NULL},
	{"params", TWO_DASH, "append", NULL},
	{"p", ONE_DASH, "append", NULL},
	{"memory", TWO_DASH, "mem", NULL},
	{"smp", BOTH, "cpus", NULL},
	{"kernel", ONE_DASH, "kernel", NULL},
	{"initrd", ONE_DASH, "initrd", NULL},
	{"append", ONE_DASH, "append", NULL},
	{"help", ONE_DASH, "help", NULL},
	{"version", ONE_DASH, "version", NULL},
	{"disk", ONE_DASH, "disk", NULL},
	{"drive", BOTH, "disk", NULL},
	{"block", TWO_DASH, "disk", NULL},
	{"nic", BOTH, "net", NULL},
	{"network", BOTH, "net", NULL},
	{"console", ONE_DASH, "console", NULL},

	{"hugepages", BOTH, NULL, "say -m SIZE,hugepages=2M (real huge pages, not advice)"},
	{"hugetlbfs", BOTH, NULL, "say -m SIZE,hugepages=2M,path=DIR"},
	{"mem-path", BOTH, NULL, "say -m SIZE,path=DIR"},
	{"mem-prealloc", BOTH, NULL, "say -m SIZE,prealloc"},
	{"cpu-affinity", BOTH, NULL, "say -c N,pin=2-5"},
	{"nographic", BOTH, NULL, CONSOLE},
	{"display", BOTH, NULL, CONSOLE},
	{"vga", BOTH, NULL, CONSOLE},
	{"serial", BOTH, NULL, CONSOLE},
	{"chardev", BOTH, NULL, CONSOLE},
	{"monitor", BOTH, NULL, NO_SOCKET},
	{"qmp", BOTH, NULL, NO_SOCKET},
	{"api-socket", BOTH, NULL, NO_SOCKET},
	{"api-sock", BOTH, NULL, NO_SOCKET},
	{"socket", BOTH, NULL, NO_SOCKET},
	{"name", ONE_DASH, "name", NULL},
	{"accel", BOTH, NULL, ALWAYS},
	{"enable-kvm", BOTH, NULL, ALWAYS},
	{"machine", BOTH, NULL, ONE_BOARD},
	{"M", ONE_DASH, NULL, ONE_BOARD},
	{"cpu", BOTH, NULL, ONE_BOARD},
	{"bios", BOTH, NULL, "leave it out: the kernel is entered directly, there is no firmware"},
	{"firmware", BOTH, NULL, "leave it out: the kernel is entered directly, there is no firmware"},
	{"no-reboot", BOTH, NULL, "leave it out: a guest's reset ends the run (--reboot exit)"},
	{"nodefaults", BOTH, NULL, "leave it out: nothing is there that was not asked for"},
	{"s", ONE_DASH, NULL, NO_GDB},
	{"S", ONE_DASH, NULL, NO_GDB},
	{"gdb", BOTH, NULL, NO_GDB},
	{"config-file", BOTH, NULL, "say it in options: ringlet run --help"},

	{"hda", BOTH, NULL, "say -d FILE: the guest has it as /dev/vda"},
	{"rwdisk", BOTH, NULL, "say -d FILE"},
	{"blockdev", BOTH, NULL, "say the whole device at once: -d FILE[,ro][,direct]"},
	{"cdrom", BOTH, NULL, "say -d FILE,ro: the guest has it as /dev/vda"},
	{"net", ONE_DASH, NULL, ONE_NET},
	{"netdev", BOTH, NULL, ONE_NET},
	{"device", ONE_DASH, NULL, ONE_DEVICE},
	{"pmem", BOTH, NULL, NO_DEVICE},
	{"vdpa", BOTH, NULL, "say --net vdpa,path=DEVICE or --disk vdpa,path=DEVICE"},
	{"vhost-user", BOTH, NULL, "say --net, --disk, --fs or --device, each vhost-user,path=SOCKET"},
	{"root", ONE_DASH, "root", NULL},
	{"share", ONE_DASH, "share", NULL},
	{"virtfs", BOTH, NULL, "say --share DIR:PATH, or --root DIR"},
	{"daemonize", ONE_DASH, NULL, "not here: ringlet run ... </dev/null & runs it in the background"},
	{"numa", BOTH, NULL, LATER},
	{"no-shutdown", ONE_DASH, NULL, LATER ": a guest that powers off ends the run"},
};
const size_t noption_aliases = ARRAY_SIZE(option_aliases);

#define NO_ADDRESS     "addresses are not set from here; leave it out"
#define SAY_SOCKET     "say vhost-user,path=SOCKET"
#define SAY_QUEUES     "it counts virtqueues elsewhere; say queues=N, the number of pairs"
#define SAY_RATE       "say rate=12M (bytes a second), rate=10000p (packets) or both joined by \"+\""
#define SAY_OFFLOAD    "say csum=, tso= and uso="
#define NO_NAME        "devices are numbered in the order given; leave it out"
#define NO_LIMIT       "a disk has no limit in this version"
#define NO_TUNING      "this is found out from the file; leave it out"
#define ALWAYS_DISCARD "the guest can discard wherever the file can; leave it out"

const struct key_def config_net_aliases[] = {
	{.name = "mode", .stands_for = "kind"},
	{.name = "type", .stands_for = "kind"},
	{.name = "tap-name", .stands_for = "tap"},
	{.name = "tapif", .stands_for = "tap"},
	{.name = "tap-fd", .stands_for = "fd"},
	{.name = "guest_mac", .stands_for = "mac"},
	{.name = "macaddr", .stands_for = "mac"},
	{.name = "host_mtu", .stands_for = "mtu"},
	{.name = "mq", .stands_for = "queues"},
	{.name = "vq-pairs", .stands_for = "queues"},
	{.name = "packed-queue", .stands_for = "packed"},
	{.name = "mrg-rxbuf", .stands_for = "mrg_rxbuf"},
	{.name = "offload_csum", .stands_for = "csum"},
	{.name = "offload_tso", .stands_for = "tso"},
	{.name = "vhost-net", .stands_for = "vhost"},
	{.name = "downscript", .stands_for = "script"},
	{.name = "num_queues", .hint = SAY_QUEUES},
	{.name = "vectors", .hint = "one for each queue and one more; leave it out"},
	{.name = "fds", .hint = "one fd is one pair of queues; with more say ifname=NAME,queues=N"},
	{.name = "vhost_user", .hint = SAY_SOCKET},
	{.name = "vhost_socket", .hint = SAY_SOCKET},
	{.name = "vhost_mode", .hint = "say server where this side is to listen"},
	{.name = "vhostfd", .hint = "/dev/vhost-net is opened here; say vhost=on"},
	{.name = "vhostforce", .stands_for = "vhost"},
	{.name = "socket", .stands_for = "path"},
	{.name = "vhostdev", .stands_for = "path"},
	{.name = "br", .hint = "put the tap on the bridge beforehand and say tap,ifname=NAME"},
	{.name = "ip", .hint = NO_ADDRESS},
	{.name = "mask", .hint = NO_ADDRESS},
	{.name = "net", .hint = NO_ADDRESS},
	{.name = "host", .hint = NO_ADDRESS},
	{.name = "dns", .hint = NO_ADDRESS},
	{.name = "dhcpstart", .hint = NO_ADDRESS},
	{.name = "guest_ip", .hint = NO_ADDRESS},
	{.name = "host_ip", .hint = NO_ADDRESS},
	{.name = "host-ip", .hint = NO_ADDRESS},
	{.name = "netmask", .hint = NO_ADDRESS},
	{.name = "host_mac", .hint = NO_ADDRESS},
	{.name = "guestfwd", .hint = LATER},
	{.name = "restrict", .hint = LATER},
	{.name = "trans", .hint = "say transport=pci or transport=mmio"},
	{.name = "offload_ufo", .hint = SAY_OFFLOAD},
	{.name = "guest_csum", .hint = SAY_OFFLOAD},
	{.name = "bw_size", .hint = SAY_RATE},
	{.name = "bw_refill_time", .hint = SAY_RATE},
	{.name = "ops_size", .hint = SAY_RATE},
	{.name = "ops_refill_time", .hint = SAY_RATE},
	{.more = config_common_keys},
};

const struct key_def config_disk_aliases[] = {
	{.name = "file", .stands_for = "path"},
	{.name = "readonly", .stands_for = "ro"},
	{.name = "read-only", .stands_for = "ro"},
	{.name = "o_direct", .stands_for = "direct"},
	{.name = "num_queues", .stands_for = "queues"},
	{.name = "num-queues", .stands_for = "queues"},
	{.name = "image_type", .stands_for = "format"},
	{.name = "vhost_user", .hint = SAY_SOCKET},
	{.name = "socket", .hint = SAY_SOCKET},
	{.name = "queue_affinity", .hint = "say pin=2-5: queue 0 is served on host CPU 2, and so on"},
	{.name = "async-executor", .hint = "say aio=uring or aio=sync"},
	{.name = "snapshot", .hint = LATER "; copy the file, or say ro"},
	{.name = "block-size", .hint = NO_TUNING},
	{.name = "block_size", .hint = NO_TUNING},
	{.name = "lock", .hint = NO_TUNING},
	{.name = "discard", .hint = ALWAYS_DISCARD},
	{.name = "detect-zeroes", .hint = LATER "; leave it out"},
	{.name = "sparse", .hint = ALWAYS_DISCARD},
	{.name = "werror", .hint = "errors go to the guest; leave it out"},
	{.name = "rerror", .hint = "errors go to the guest; leave it out"},
	{.name = "index", .hint = NO_NAME},
	{.name = "unit", .hint = NO_NAME},
	{.name = "rate", .hint = NO_LIMIT},
	{.name = "rate_limit_group", .hint = NO_LIMIT},
	{.name = "bw_size", .hint = NO_LIMIT},
	{.name = "bw_refill_time", .hint = NO_LIMIT},
	{.name = "ops_size", .hint = NO_LIMIT},
	{.name = "ops_refill_time", .hint = NO_LIMIT},
	{.more = config_common_keys},
};
