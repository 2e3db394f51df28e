#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config.h"
#include "vmm/config_options.h"

static const char help_general[] =
	"Ringlet runs a Linux kernel in a virtual machine on KVM.\n"
	"\n"
	"Usage:\n"
	"  ringlet run [KERNEL] [OPTION]... [-- COMMAND [ARG]...]   boot a guest\n"
	"  ringlet ctl NAME COMMAND [ARG]...                        a running guest\n"
	"  ringlet explain NAME [DEVICE]                            why a device is slow\n"
	"  ringlet matrix FILE                                      many runs, judged\n"
	"  ringlet compare --net LIST|--disk LIST ...               what each path costs\n"
	"  ringlet backend net|blk ...                              a virtio server\n"
	"  ringlet doctor [--json] [--check NAME] [--ci]            what this host offers\n"
	"  ringlet completion bash                                  completion script\n"
	"  ringlet help [run|devices|tests|ctl|explain|doctor|...]  more on one of them\n"
	"\n"
	"Options before and after the command:\n"
	"  -v, --verbose    say more; --version: the version (also: ringlet version)\n"
	"  -h, --help       this text, or that of the command\n"
	"\n"
	"  ringlet doctor                             is KVM usable here?\n"
	"  ringlet run -i initrd.img -m 1G -c 2       boot the newest kernel of /boot\n"
	"  ringlet run bzImage -i initrd.img --dry-run   only say what would be run\n"
	"\n"
	"At the guest's console Ctrl-a x quits and Ctrl-a h lists the other keys.\n"
	"The manual is ringlet(1).\n";

static const char help_run[] =
	"Usage: ringlet run [KERNEL] [OPTION]... [-- COMMAND [ARG]...]\n"
	"Boots KERNEL (bzImage or vmlinux; without one the newest /boot/vmlinuz-*).\n"
	"  -k, --kernel FILE        the same as KERNEL; --unpack off: it unpacks itself\n"
	"  -i, --initrd FILE        initial RAM disk\n"
	"  -a, --append TEXT        more for the kernel's command line; may be repeated\n"
	"      --no-default-append  only what -a says is on the command line\n"
	"  -m, --mem SIZE[,hugepages[=2M|1G]][,path=DIR][,share=on|off][,prealloc]\n"
	"                [,thp=on|off]  memory; default 512M, a bare number is MiB\n"
	"  -c, --cpus N[,sockets=N][,cores=N][,threads=N][,pin=2-5+8]\n"
	"                           virtual CPUs; default 1; pin: host CPUs they run on\n"
	"  -n, --net; -d, --disk; --fs; --device; --vsock; --scsi; --rng; --balloon;\n"
	"  --console; --transport   virtio devices: see \"ringlet help devices\"\n"
	"  --root; --share; --modules; --env; --cwd; --user; --stdin; --boot-timeout;\n"
	"  --oops; --result; --junit; --sandbox    boot tests: see \"ringlet help tests\"\n"
	"      --timeout TIME       end after TIME: 60s, 500ms, 2m; bare: seconds\n"
	"      --panic exit|hang|reboot; --reboot exit|again    what then; default exit\n"
	"      --name NAME          for \"ringlet ctl\"; --control FILE: socket's place\n"
	"      --log FILE           copy the console's output to FILE\n"
	"      --stats[=FILE]       print counters at the end, or as JSON into FILE\n"
	"      --dry-run            print the command line this stands for, and stop\n"
	"  -v, --verbose; -h, --help; --version; --trace control: each vhost, vDPA call\n"
	"COMMAND's exit status becomes ringlet's; without: 0 power-off, 121 panic, 122\n"
	"  reset, 123 memory lost, 124 timeout, 125 our or the host's failure, 128+N.\n";

static const char help_tests[] =
	"Usage: ringlet run -k KERNEL [OPTION]... -- COMMAND [ARG]...\n"
	"Runs COMMAND in a guest; what it prints comes out here, and its status is ours.\n"
	"      --root DIR|IMAGE[,rw]      its root: a directory (by virtiofsd) or a disk\n"
	"                      image; writes stay in the guest's memory unless rw is said\n"
	"      --share DIR[:PATH][,rw]    one more directory (or path=DIR,at=PATH)\n"
	"      --modules DIR   of the kernel; default: lib/modules beside it\n"
	"      --env NAME[=VALUE]; --cwd DIR; --user UID[:GID]|NAME    default: root\n"
	"      --stdin         COMMAND reads our standard input; default: nothing\n"
	"KERNEL may be a build tree of Linux.  How the run is judged:\n"
	"      --boot-timeout TIME        for the guest to reach our init\n"
	"      --timeout TIME             for all of it\n"
	"      --oops ignore|fail         oops, soft lock-up; default ignore\n"
	"      --panic exit|hang|reboot   default exit\n"
	"      --result FILE   how it went, as JSON; --junit FILE: for CI servers\n"
	"      --log FILE      the kernel's messages, which are not on our output\n"
	"      --sandbox off   without the filters of system calls\n"
	"Exit status: COMMAND's (118 to 125 become 117; 126, 127: it cannot start), or\n"
	"  118 boot time-out      119 no answer         120 oops or soft lock-up\n"
	"  121 panic              122 reset             123 back end or memory lost\n"
	"  124 time-out           125 ringlet, the host or the command line\n"
	"  128+N ended by signal N\n"
	"Many kernels, commands and options: \"ringlet matrix FILE\".\n";

static const char help_ctl[] =
	"Usage: ringlet ctl NAME COMMAND [ARG]...\n"
	"Asks something of a running guest.  NAME is what --name said (without it,\n"
	"vm- and the process number), or the path of its socket, with a slash in it.\n"
	"\n"
	"  pause                 the vCPUs stand still\n"
	"  resume                ... and go on\n"
	"  stats                 counters so far\n"
	"  counters [DEVICE]     the same and KVM's own for programs, as one JSON object\n"
	"  power-button          what SIGTERM does: the guest is asked to power off\n"
	"  quit                  the VM ends now\n"
	"  resize-disk [DISK]    the file of disk0, disk1, ... has a new size; or of all\n"
	"  datapath DEVICE WHO   who serves net0, disk0, ... from now on: what --net or\n"
	"                        --disk take, such as tap,vhost=on; the guest runs on\n"
	"  balloon SIZE          the guest shall do without that much of its memory\n"
	"\n"
	"  -v, --verbose; -h, --help; --version\n"
	"\n"
	"Exit status: 0 done, 1 the VM refused and said why, 125 no such VM.\n";

static const char help_explain[] =
	"Usage: ringlet explain NAME [DEVICE]\n"
	"Says of each virtio device of a running guest, or of one (net0, disk0, ...):\n"
	"\n"
	"  who serves it, and whether its back end is there\n"
	"  each feature bit: whether the device, who serves it and the driver have it,\n"
	"  and who removed it\n"
	"  each queue: its entries, who walks it, doorbells by ioeventfd and by exit,\n"
	"  interrupts, those spared, bursts, chains, bytes, system calls\n"
	"  and in a sentence each, why it is not as fast as it could be\n"
	"\n"
	"What nobody here can count is \"-\", and what KVM counted stands at the top.\n"
	"NAME is as for \"ringlet ctl\".\n"
	"\n"
	"  -v, --verbose; -h, --help; --version\n"
	"\n"
	"Exit status: 0 done, 1 there is no such device, 125 no such VM.\n";

static const char help_devices[] =
	"Usage: ringlet run [KERNEL] [OPTION]... [-- COMMAND [ARG]...]\n"
	"Virtio devices: only those asked for.  Each of the first five adds one.\n"
	"  -n, --net user[,hostfwd=tcp::2222-:22]... | vhost-user,BACKEND[,queues=N]\n"
	"    | tap[,ifname=NAME|,fd=N][,queues=N][,vhost=on[,poll-us=N]] | vdpa,path=DEV\n"
	"    [,mac=52:54:00:12:34:56][,mtu=N][,rate=12M+10000p] (bytes, packets a s)\n"
	"    [,csum=on|off][,tso=on|off][,uso=on|off][,mrg_rxbuf=on|off]\n"
	"  -d, --disk FILE[,ro][,direct][,aio=uring|sync][,cache=writeback|writethrough]\n"
	"    [,queues=N][,serial=TEXT][,format=raw] | vhost-user,BACKEND | vdpa,path=DEV\n"
	"      --fs vhost-user,BACKEND,tag=NAME    a directory of the host, by virtiofsd\n"
	"      --device vhost-user,BACKEND,type=NAME|N[,queues=N][,config=HEX]    any\n"
	"      --scsi vhost,wwpn=NAME[,queues=N]   a target of the host's kernel\n"
	"BACKEND: path=SOCKET[,server][,wait=60s][,reconnect=1s]\n"
	"      --vsock CID            sockets between guest and host\n"
	"      --rng[=KEY=VALUE,...]; --balloon[=KEY=VALUE,...]\n"
	"      --console serial|virtio[,port=NAME[:SOCKET]]...[,KEY=VALUE]...\n"
	"                   shell on ttyS0 (default) or hvc0; port: a stream beside it\n"
	"      --transport pci|mmio   of those without transport=pci|mmio; default pci\n"
	"Keys of all devices:\n"
	"  queue-size=N; pin=2-5+8               entries a ring; its threads' host CPUs\n"
	"  packed=on|off, in_order=on|off        default off; features=HEX: no other bits\n"
	"  event_idx=on|off, indirect=on|off     offered to the guest; default on\n"
	"  bits=common|all       all: also what closes some changes by \"ctl ... datapath\"\n"
	"  notify=ioeventfd|exit, irq=irqfd|ioctl, doorbell=mmio|pio   default: the first\n";

static const char help_doctor[] =
	"Usage: ringlet doctor [OPTION]...\n"
	"Says what this host offers to virtual machines, one line a check, and for what\n"
	"is missing the command that mends it.  Nothing is changed.\n"
	"\n"
	"      --json          one JSON array: name, status, found, mend\n"
	"      --check NAME    only this check; prints its line only if it is not ok\n"
	"      --ci            what a CI job needs, and the lines that mend it there\n"
	"  -v, --verbose; -h, --help; --version\n"
	"\n"
	"A check is ok, missing, slow (KVM emulates, a kernel cannot run at speed) or\n"
	"note (works, with something to know).  \"ringlet run\" needs only the kvm ones;\n"
	"of those, \"kvm\" stands for all: device, permission, API and measured speed.\n"
	"\n"
	"Exit status: 0 what \"ringlet run\" needs is there (with --check: ok), 1 it is\n"
	"not, 125 the command line is wrong.\n";

static const char help_completion[] =
	"Usage: ringlet completion bash\n"
	"Prints a completion script.  For this shell:\n"
	"\n"
	"  source <(ringlet completion bash)\n"
	"\n"
	"and for every shell to come:\n"
	"\n"
	"  mkdir -p ~/.local/share/bash-completion/completions\n"
	"  ringlet completion bash >~/.local/share/bash-completion/completions/ringlet\n";

const char *config_help(const char *topic)
{
	static const struct {
		const char *topic, *text;
	} texts[] = {
		{"run", help_run},         {HELP_DEVICES, help_devices}, {"ctl", help_ctl},
		{HELP_TESTS, help_tests},  {"doctor", help_doctor},      {"completion", help_completion},
		{"explain", help_explain},
	};

	for (size_t i = 0; topic && i < ARRAY_SIZE(texts); i++)
		if (!strcmp(texts[i].topic, topic))
			return texts[i].text;
	return help_general;
}
