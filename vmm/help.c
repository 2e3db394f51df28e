#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config.h"

static const char help_general[] =
	"Ringlet runs a Linux kernel in a virtual machine on KVM.\n"
	"\n"
	"Usage:\n"
	"  ringlet run [KERNEL] [OPTION]... [-- COMMAND [ARG]...]   boot a guest\n"
	"  ringlet doctor [--json] [--check NAME]                   what this host offers\n"
	"  ringlet completion bash                                  completion script\n"
	"  ringlet help [run|doctor|completion]                     more on one of them\n"
	"\n"
	"Options before and after the command:\n"
	"  -v, --verbose    say more of what is done\n"
	"  -h, --help       this text, or that of the command\n"
	"      --version    the version (also: ringlet version)\n"
	"\n"
	"For a start:\n"
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
	"                           memory; default 512M, a bare number is MiB\n"
	"  -c, --cpus N[,sockets=N][,cores=N][,threads=N][,pin=2-5+8]\n"
	"                           virtual CPUs; default 1; pin: host CPUs they run on\n"
	"      --timeout TIME       end after TIME: 60s, 500ms, 2m; bare: seconds\n"
	"      --panic exit|hang|reboot   what a panic of the guest does; default exit\n"
	"      --reboot exit|again  what a reset of the guest does; default exit\n"
	"      --log FILE           copy the console's output to FILE\n"
	"      --stats[=FILE]       print counters at the end, or as JSON into FILE\n"
	"      --dry-run            print the command line this stands for, and stop\n"
	"  -v, --verbose; -h, --help; --version\n"
	"COMMAND runs in the guest, and its exit status becomes ringlet's.  Others:\n"
	"  0 power-off       121 panic          122 reset or triple fault\n"
	"  119 no answer     123 memory lost    124 timeout\n"
	"  125 ringlet, the host or the command line      128+N ended by signal N\n";

static const char help_doctor[] =
	"Usage: ringlet doctor [OPTION]...\n"
	"Says what this host offers to virtual machines, one line a check, and for what\n"
	"is missing the command that mends it.  Nothing is changed.\n"
	"\n"
	"      --json          one JSON array: name, status, found, mend\n"
	"      --check NAME    only this check; prints its line only if it is not ok\n"
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
		{"run", help_run},
		{"doctor", help_doctor},
		{"completion", help_completion},
	};

	for (size_t i = 0; topic && i < ARRAY_SIZE(texts); i++)
		if (!strcmp(texts[i].topic, topic))
			return texts[i].text;
	return help_general;
}
