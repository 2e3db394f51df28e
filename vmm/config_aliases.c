#include "vmm/config_options.h"

#include "lib/cleanup.h"

#define BOTH (ONE_DASH | TWO_DASH)

#define NO_DISK   "disks are not in this version; an initrd (-i) carries files"
#define NO_NET    "network cards are not in this version"
#define NO_DEVICE "devices beyond the console are not in this version"
#define LATER     "not in this version"
#define CONSOLE   "leave it out: the console is always the terminal (--log copies it to a file)"
#define ALWAYS    "leave it out: ringlet always runs on KVM"
#define ONE_BOARD "leave it out: there is one board, and the guest has the host's CPU model"
#define NO_SOCKET "there is no control socket in this version; signals stop the guest"
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

	{"hugepages", BOTH, NULL, "say -m SIZE,hugepages=2M (real huge pages, not advice)"},
	{"hugetlbfs", BOTH, NULL, "say -m SIZE,hugepages=2M,path=DIR"},
	{"mem-path", BOTH, NULL, "say -m SIZE,path=DIR"},
	{"mem-prealloc", BOTH, NULL, "say -m SIZE,prealloc"},
	{"cpu-affinity", BOTH, NULL, "say -c N,pin=2-5"},
	{"nographic", BOTH, NULL, CONSOLE},
	{"display", BOTH, NULL, CONSOLE},
	{"vga", BOTH, NULL, CONSOLE},
	{"serial", BOTH, NULL, CONSOLE},
	{"console", BOTH, NULL, CONSOLE},
	{"chardev", BOTH, NULL, CONSOLE},
	{"monitor", BOTH, NULL, NO_SOCKET},
	{"qmp", BOTH, NULL, NO_SOCKET},
	{"api-socket", BOTH, NULL, NO_SOCKET},
	{"api-sock", BOTH, NULL, NO_SOCKET},
	{"control", BOTH, NULL, NO_SOCKET},
	{"socket", BOTH, NULL, NO_SOCKET},
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

	{"d", ONE_DASH, NULL, NO_DISK},
	{"disk", BOTH, NULL, NO_DISK},
	{"drive", BOTH, NULL, NO_DISK},
	{"block", BOTH, NULL, NO_DISK},
	{"hda", BOTH, NULL, NO_DISK},
	{"n", ONE_DASH, NULL, NO_NET},
	{"net", BOTH, NULL, NO_NET},
	{"netdev", BOTH, NULL, NO_NET},
	{"nic", BOTH, NULL, NO_NET},
	{"network", BOTH, NULL, NO_NET},
	{"device", BOTH, NULL, NO_DEVICE},
	{"vsock", BOTH, NULL, NO_DEVICE},
	{"scsi", BOTH, NULL, NO_DEVICE},
	{"fs", BOTH, NULL, NO_DEVICE},
	{"rng", BOTH, NULL, NO_DEVICE},
	{"balloon", BOTH, NULL, NO_DEVICE},
	{"transport", BOTH, NULL, NO_DEVICE},
	{"root", BOTH, NULL, NO_DISK},
	{"share", BOTH, NULL, NO_DISK},
	{"virtfs", BOTH, NULL, NO_DISK},
	{"modules", BOTH, NULL, LATER},
	{"env", BOTH, NULL, LATER},
	{"boot-timeout", BOTH, NULL, LATER ": --timeout counts from the start"},
	{"oops", BOTH, NULL, LATER ": -a oops=panic makes an oops a panic"},
	{"result", BOTH, NULL, LATER ": --stats=F.json writes counters"},
	{"junit", BOTH, NULL, LATER},
	{"trace", BOTH, NULL, LATER},
	{"name", BOTH, NULL, LATER},
	{"sandbox", BOTH, NULL, LATER},
};
const size_t noption_aliases = ARRAY_SIZE(option_aliases);
