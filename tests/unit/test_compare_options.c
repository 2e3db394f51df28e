/* The command line of "ringlet compare". */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "compare/options.h"

#define MAX_ARGS 32

static struct plan plan;
static struct err err;

static void done(void)
{
	options_free(&plan);
}

TestSuite(compare_options, .fini = done);

/* Words end at spaces. */
static int parse(const char *line)
{
	static char words[2048];
	static char *argv[MAX_ARGS + 1];
	int argc = 0;

	options_free(&plan);
	memset(&err, 0, sizeof(err));
	snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
		cr_assert_lt(argc, MAX_ARGS);
		argv[argc++] = word;
	}
	argv[argc] = NULL;
	return options_parse(&plan, argc, argv, &err);
}

static void takes(const char *line)
{
	cr_assert_eq(parse(line), 0, "%s: %s", line, err.text);
}

static void refuses(const char *line, ...)
{
	const char *word;
	va_list ap;

	cr_assert_eq(parse(line), -EINVAL, "\"%s\" is taken", line);
	va_start(ap, line);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(err.text, word), "\"%s\" misses \"%s\" in: %s", line, word, err.text);
	va_end(ap);
}

#define LINUX " -k vmlinuz -i initrd --tools tools.img"

Test(compare_options, what_is_usual)
{
	takes("--net tap,vhost-net");
	cr_expect_eq(plan.npaths, 2);
	cr_expect_eq(plan.path[0].kind, PATH_TAP);
	cr_expect_eq(plan.path[1].kind, PATH_VHOST_NET);
	cr_expect_str_eq(plan.path[1].name, "vhost-net");
	cr_expect_eq(plan.repeat, 5);
	cr_expect_float_eq(plan.seconds, 5, 1e-9);
	cr_expect_eq(plan.guest, GUEST_BARE);
	cr_expect_not(plan.best);
	cr_expect_eq(plan.nworkloads, 2);
	cr_expect_null(plan.out);
}

Test(compare_options, a_kernel_makes_the_guest_linux)
{
	takes("--net tap" LINUX);
	cr_expect_eq(plan.guest, GUEST_LINUX);
	cr_expect_str_eq(plan.kernel, "vmlinuz");
	cr_expect_str_eq(plan.tools, "tools.img");
	cr_expect_eq(plan.nworkloads, 3);
	refuses("--net tap --guest bare" LINUX, "--kernel", NULL);
	refuses("--net tap --guest linux", "-k KERNEL", NULL);
	refuses("--net tap -k vmlinuz", "-i INITRD", NULL);
}

Test(compare_options, every_path_of_a_card)
{
	takes("--net tap,vhost-net,vhost-user,vdpa,user --workload pps");
	cr_expect_eq(plan.npaths, 5);
	cr_expect_eq(plan.path[2].kind, PATH_NET_VHOST_USER);
	cr_expect_eq(plan.path[3].kind, PATH_NET_VDPA);
	cr_expect_eq(plan.path[4].kind, PATH_USER);
	cr_expect_not(plan.disk);
}

Test(compare_options, every_path_of_a_disk)
{
	takes("-d in-process,vhost-user,vdpa --size 64M");
	cr_expect(plan.disk);
	cr_expect_eq(plan.path[0].kind, PATH_IN_PROCESS);
	cr_expect_eq(plan.path[1].kind, PATH_DISK_VHOST_USER);
	cr_expect_eq(plan.path[2].kind, PATH_DISK_VDPA);
	cr_expect_eq(plan.disk_bytes, 64u << 20);
	cr_expect_str_eq(plan.workload[0].name, "randread");
	cr_expect_str_eq(plan.workload[1].name, "qd1");
}

Test(compare_options, one_path_for_each_combination)
{
	takes("--net tap,user --transport pci,mmio --ring split,packed --notify ioeventfd,exit --workload pps");
	cr_assert_eq(plan.npaths, 16);
	cr_expect_str_eq(plan.path[0].name, "tap pci split ioeventfd");
	cr_expect_str_eq(plan.path[7].name, "tap mmio packed exit");
	cr_expect(plan.path[7].mmio);
	cr_expect(plan.path[7].packed);
	cr_expect(plan.path[7].notify_exit);
	cr_expect_eq(plan.path[8].kind, PATH_USER);
	for (unsigned i = 0; i < 16; i++)
		for (unsigned j = 0; j < i; j++)
			cr_expect_str_neq(plan.path[i].name, plan.path[j].name);
}

Test(compare_options, what_is_not_usual_is_in_a_paths_name)
{
	takes("--net tap --transport mmio --ring packed");
	cr_expect_str_eq(plan.path[0].name, "tap mmio packed");
}

Test(compare_options, a_vdpa_device_of_the_users_own)
{
	takes("--net vdpa=/dev/vhost-vdpa-3,tap --transport pci,mmio");
	cr_expect_str_eq(plan.path[0].device, "/dev/vhost-vdpa-3");
	cr_expect_str_eq(plan.path[1].device, "/dev/vhost-vdpa-3");
	cr_expect_null(plan.path[2].device);
	refuses("--net tap=tap0", "tap", "=tap0", NULL);
	refuses("--net vdpa=", "vdpa", NULL);
}

Test(compare_options, words_that_are_not_known)
{
	refuses("--net tap,vhostnet", "vhostnet", "vhost-net", NULL);
	refuses("--net tap,zzzzzzzz", "zzzzzzzz", "vhost-user", NULL);
	refuses("--disk tap", "tap", "in-process", NULL);
	refuses("--net tap,,user", "missing", NULL);
	refuses("--net tap,tap", "twice", NULL);
	refuses("--net tap --ring spilt", "spilt", "split", NULL);
	refuses("--net tap --workload randread", "card", "randread", NULL);
	refuses("--net tap --workload pqs", "pqs", "pps", NULL);
	refuses("--net tap --workload pps,pps", "twice", NULL);
	refuses("--net tap --reapeat 5", "--reapeat", "--repeat", NULL);
	refuses("tap", "tap", "--help", NULL);
	refuses("- --net tap", "-", NULL);
}

Test(compare_options, either_a_card_or_a_disk)
{
	refuses("--net tap --disk in-process", "two comparisons", NULL);
	refuses("--repeat 3", "--net tap", NULL);
	refuses("", "--net tap", NULL);
}

Test(compare_options, values_are_checked)
{
	refuses("--net tap --repeat 0", "--repeat", "1", NULL);
	refuses("--net tap --repeat 1001", "--repeat", "1000", NULL);
	refuses("--net tap --duration 100ms", "--duration", "100ms", NULL);
	refuses("--net tap --duration never", "--duration", "never", NULL);
	refuses("--net tap --features some", "--features", "some", NULL);
	refuses("--disk vdpa --size 1K", "--size", "1K", NULL);
	refuses("--net tap --repeat", "--repeat", "missing", NULL);
	refuses("--net tap --quiet=yes", "--quiet", "no value", NULL);
	takes("--net tap --repeat 1000 --duration 200ms --features best -q");
	cr_expect_eq(plan.repeat, 1000);
	cr_expect_float_eq(plan.seconds, 0.2, 1e-9);
	cr_expect(plan.best);
	cr_expect(plan.quiet);
}

Test(compare_options, the_runs_own_are_passed_on_and_checked_now)
{
	takes("--net tap -m 1G -c2 --append=quiet --unpack off");
	cr_assert_eq(plan.nrun, 4);
	cr_expect_str_eq(plan.run[0], "--mem=1G");
	cr_expect_str_eq(plan.run[1], "--cpus=2");
	cr_expect_str_eq(plan.run[2], "--append=quiet");
	cr_expect_str_eq(plan.run[3], "--unpack=off");
	refuses("--net tap -m lots", "lots", NULL);
	refuses("--net tap --rng", "--rng", NULL);
}

Test(compare_options, a_command_of_the_users_own)
{
	takes("--net tap" LINUX " -- make -j2");
	cr_expect_eq(plan.ncommand, 2);
	cr_expect_str_eq(plan.command[0], "make");
	cr_expect_eq(plan.nworkloads, 1);
	cr_expect_eq(plan.workload[0].kind, WORKLOAD_COMMAND);
	takes("--net tap --workload tcp" LINUX " -- true");
	cr_expect_eq(plan.nworkloads, 2);
	refuses("--net tap -- true", "Linux", "-k", NULL);
	refuses("--net tap" LINUX " --", "command is missing", NULL);
}

Test(compare_options, what_takes_an_operating_system)
{
	refuses("--net tap --workload tcp", "tcp", "Linux", NULL);
	takes("--net tap --workload tcp" LINUX);
}

Test(compare_options, help)
{
	cr_expect_eq(parse("--net tap --help"), 1);
	cr_expect_eq(parse("-h"), 1);
	for (const char *line = options_help; *line;) {
		const size_t len = strcspn(line, "\n");

		cr_expect_leq(len, 90, "%.*s", (int)len, line);
		line += len + (line[len] == '\n');
	}
}
