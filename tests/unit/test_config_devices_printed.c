/* Command lines of devices as they are printed, which give the same again; random ones, and spoilt ones. */
#include <stdlib.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "tests/unit/config_rig.h"

TestSuite(devices_printed, .fini = config_rig_done);
TestSuite(devices_mutated, .fini = config_rig_done);

Test(devices_printed, with_defaults_spelt_out)
{
#define COMMON                                                                                                 \
	"transport=pci,notify=ioeventfd,irq=irqfd,doorbell=mmio,packed=off,in_order=off,event_idx=on,"         \
	"indirect=on"
	char line[2048];

	takes("-n user -d a --rng --balloon --console virtio");
	config_print_run(&cfg, line, sizeof(line));
	cr_expect(strstr(line, " --net=user,queues=1,csum=on,tso=on,uso=off,mrg_rxbuf=on," COMMON " "), "%s",
		  line);
	cr_expect(strstr(line, " --disk=path=a,ro=off,direct=off,cache=writeback,queues=1," COMMON " "), "%s",
		  line);
	cr_expect(strstr(line, " --rng=" COMMON " "), "%s", line);
	cr_expect(strstr(line, " --balloon=" COMMON " "), "%s", line);
	cr_expect(strstr(line, " --console=virtio," COMMON " "), "%s", line);
}

Test(devices_printed, lines_that_are_hard)
{
	static const char *const lines[] = {
		"-d path=vdpa -d path=ro -d path=a=b -d 'a,,b c' -d path=-- -d path=,,,,",
		"-d \\'\\'\\' -d 'a\nb,serial=\"x' -d '$(x),serial= '",
		"-n tap,ifname=a%d -n tap,fd=3 -n user",
		"-n tap,ifname=',,' -n tap,ifname=\\'\"",
		"-n user,rate=1B -n user,rate=1025B+1p -n user,rate=1.5K -n user,rate=1T+4294967295p",
		"--transport mmio -d a,transport=pci,doorbell=pio -n user,csum=off",
		"-n user,pin=0-3+2-5+1 --rng=pin=7+6+5",
		"--console virtio,transport=mmio --console serial",
		"--name a --console 'virtio,port=b,port=c:/x:y,port=d:a,,b c,port=e:,,,packed'",
		"--console virtio,port=-:\\'",
	};

	for (size_t i = 0; i < N(lines); i++) {
		takes(lines[i]);
		survives_printing();
	}
}

static uint32_t fuzz_state = 2463534242;

static uint32_t fuzz_next(uint32_t n)
{
	fuzz_state ^= fuzz_state << 13;
	fuzz_state ^= fuzz_state >> 17;
	fuzz_state ^= fuzz_state << 5;
	return fuzz_state % n;
}

static const char *const common_values[] = {
	"bits=all",         "bits=common",  "transport=pci",
	"transport=mmio",   "notify=exit",  "irq=ioctl",
	"doorbell=pio",     "packed",       "in_order=on",
	"event_idx=off",    "indirect=off", "queue-size=256",
	"queue-size=1024",  "pin=2-5+8",    "pin=0",
	"notify=ioeventfd", "event_idx=on", "features=0x130000020",
};
static const char *const net_values[] = {
	"mac=52:54:00:12:34:56",
	"mtu=1500",
	"rate=12M",
	"rate=1500B+7p",
	"rate=99p",
	"csum=off",
	"tso=off",
	"uso=off",
	"uso",
	"bits=all",
	"csum=on",
	"mrg_rxbuf=off",
};
static const char *const user_values[] = {"hostfwd=tcp::2222-:22", "hostfwd=udp:127.0.0.1:53-:53"};
static const char *const tap_values[] = {"ifname=tap0", "queues=4", "queues=16",       "ifname=a,,b",
					 "fd=5",        "vhost",    "vhost,poll-us=50"};
static const char *const remote_values[] = {"path=/run/s", "path=a,,b", "server",
					    "wait=0",      "wait=1.5s", "reconnect=20ms"};
static const char *const disk_values[] = {"ro",       "direct",     "aio=uring",          "aio=sync",
					  "queues=3", "serial=S 1", "cache=writethrough", "ro=off"};
static const char *const generic_options[] = {
	"vsock=7",
	"scsi=vhost,wwpn=naa.5001405a2b3c4d5e,queues=3",
	"fs=vhost-user,path=it's,tag=x y",
	"device=vhost-user,path=s,type=gpu,queues=2,config=00ff1234",
	"device=vhost-user,path=s,type=63,server",
};
static const char *const port_values[] = {"port=agent:/tmp/a.sock", "port=a:b,,c", "port=b.0:it's"};
static const char *const files[] = {"a", "path=vdpa", "path=a=b", "b,,c", "it's", "x y", "path=\n"};

static void add_some(char *value, size_t size, const char *const *from, uint32_t n, uint32_t most)
{
	for (uint32_t i = fuzz_next(most + 1); i; i--) {
		size_t len = strlen(value);

		snprintf(value + len, size - len, "%s%s", len && value[len - 1] != '=' ? "," : "",
			 from[fuzz_next(n)]);
	}
}

/* An option with its value, of which most are right. */
static void some_option(char *arg, size_t size)
{
	switch (fuzz_next(9)) {
	case 0:
		snprintf(arg, size, "--net=user");
		add_some(arg, size, user_values, N(user_values), 2);
		add_some(arg, size, net_values, N(net_values), 4);
		break;
	case 1:
		snprintf(arg, size, "--net=tap");
		add_some(arg, size, tap_values, N(tap_values), 1);
		add_some(arg, size, net_values, N(net_values), 4);
		break;
	case 2:
	case 3:
		snprintf(arg, size, "--disk=%s", files[fuzz_next(N(files))]);
		add_some(arg, size, disk_values, N(disk_values), 5);
		break;
	case 4:
		snprintf(arg, size, fuzz_next(2) ? "--rng=pci" : "--balloon=mmio");
		break;
	case 5:
		snprintf(arg, size, "--console=virtio");
		add_some(arg, size, port_values, N(port_values), 3);
		break;
	case 6:
		snprintf(arg, size, fuzz_next(2) ? "--net=vhost-user,path=s" : "--disk=vhost-user,path=s");
		add_some(arg, size, remote_values, N(remote_values), 3);
		break;
	case 7:
		snprintf(arg, size, "--%s", generic_options[fuzz_next(N(generic_options))]);
		break;
	default:
		snprintf(arg, size, fuzz_next(2) ? "--transport=mmio" : "--transport=pci");
		return;
	}
	add_some(arg, size, common_values, N(common_values), 3);
}

/* Up to a dozen options, each on the heap on its own, so that a step past an end is seen. */
static int some_line(char *argv[], void (*change)(char *arg, size_t size))
{
	int argc = 0, n = 2 + (int)fuzz_next(7);

	argv[argc++] = strdup("ringlet");
	argv[argc++] = strdup("run");
	while (argc < n) {
		char arg[512];

		some_option(arg, sizeof(arg));
		if (change)
			change(arg, sizeof(arg));
		argv[argc++] = strdup(arg);
	}
	argv[argc] = NULL;
	return argc;
}

/* Parses some lines; every one that is taken survives printing.  How many are. */
static unsigned fuzz(int rounds, void (*change)(char *arg, size_t size))
{
	unsigned taken = 0;

	for (int round = 0; round < rounds; round++) {
		char *argv[16];
		int argc = some_line(argv, change);

		memset(&err, 0, sizeof(err));
		if (config_parse(&cfg, argc, argv, &err) == 0) {
			if (cfg.command == COMMAND_RUN)
				survives_printing();
			taken++;
		} else {
			cr_assert(err.text[0] && err.code < 0, "refused without a sentence");
		}
		config_free(&cfg);
		for (int i = 0; i < argc; i++)
			free(argv[i]);
	}
#ifdef __SANITIZE_ADDRESS__
	/* What the sanitizer finds when the test has ended, Criterion does not hear of. */
	cr_expect_eq(__lsan_do_recoverable_leak_check(), 0);
#endif
	return taken;
}

Test(devices_printed, random_lines_give_the_same_again, .timeout = 120)
{
	cr_expect_gt(fuzz(2000, NULL), 1000);
}

/* Bytes changed, put in, taken out; a piece said twice. */
static void mutate(char *arg, size_t size)
{
	static const char likely[] = ",,==+-:.0179KMGTBpx \n'\\\"\xff%";

	for (uint32_t n = 1 + fuzz_next(3); n; n--) {
		size_t len = strlen(arg), at = fuzz_next((uint32_t)len + 1);
		char c = fuzz_next(4) ? likely[fuzz_next(sizeof(likely) - 1)] : (char)(1 + fuzz_next(255));
		size_t piece;

		switch (fuzz_next(4)) {
		case 0:
			if (at < len)
				arg[at] = c;
			break;
		case 1:
			if (len + 1 < size) {
				memmove(arg + at + 1, arg + at, len + 1 - at);
				arg[at] = c;
			}
			break;
		case 2:
			if (at < len)
				memmove(arg + at, arg + at + 1, len - at);
			break;
		default:
			piece = fuzz_next((uint32_t)(len - at) + 1);
			if (len + piece < size)
				memmove(arg + at + piece, arg + at, len + 1 - at);
			break;
		}
	}
}

Test(devices_mutated, mutations_neither_crash_nor_leak, .timeout = 120)
{
	unsigned taken = fuzz(6000, mutate);

	cr_expect_gt(taken, 200);
	cr_expect_lt(taken, 5800);
}
