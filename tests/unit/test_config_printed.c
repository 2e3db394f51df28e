/* The command line as it is printed, which gives the same again, and random ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#define COMMAND "ringlet "
#include "tests/unit/config_rig.h"

TestSuite(config_printed, .fini = config_rig_done);

static void same_cpus(const struct cpu_config *a, const struct cpu_config *b)
{
	cr_expect_eq(a->n, b->n);
	cr_expect_eq(a->sockets, b->sockets);
	cr_expect_eq(a->cores, b->cores);
	cr_expect_eq(a->threads, b->threads);
	cr_assert_eq(a->npin, b->npin);
	cr_expect_eq(memcmp(a->pin, b->pin, a->npin * sizeof(a->pin[0])), 0);
}

Test(config_printed, printed_line_gives_the_same_again)
{
	char *first[] = {(char *)"ringlet",
			 (char *)"run",
			 (char *)"it's a kernel",
			 (char *)"-i",
			 (char *)"i",
			 (char *)"-a",
			 (char *)"a \"b\" $c",
			 (char *)"-a",
			 (char *)"",
			 (char *)"--append=--",
			 (char *)"-m",
			 (char *)"1.5G,hugepages,path=/a,,b c,share=off",
			 (char *)"-c",
			 (char *)"8,cores=2,threads=2,pin=4-7+0+2",
			 (char *)"--timeout",
			 (char *)"1.5s",
			 (char *)"--panic=hang",
			 (char *)"--reboot=again",
			 (char *)"--log",
			 (char *)"l",
			 (char *)"--stats=s",
			 (char *)"--dry-run",
			 (char *)"-v",
			 (char *)"--no-default-append",
			 (char *)"--",
			 (char *)"sh",
			 (char *)"-c",
			 (char *)"exit '7'",
			 (char *)"",
			 NULL};
	char *words[MAX_ARGS + 1], line[2048];
	struct config other;
	int n = (int)(sizeof(first) / sizeof(first[0])) - 1;

	cr_assert_eq(config_parse(&cfg, n, first, &err), 0, "%s", err.text);
	n = config_print_run(&cfg, line, sizeof(line));
	cr_assert_eq(n, (int)strlen(line));
	n = unquote(line, words, MAX_ARGS);
	cr_assert_eq(config_parse(&other, n, words, &err), 0, "%s", err.text);
	cr_expect_str_eq(other.run.kernel, cfg.run.kernel);
	cr_expect_str_eq(other.run.initrd, cfg.run.initrd);
	cr_assert_eq(other.run.nappend, 3);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_str_eq(other.run.append[i], cfg.run.append[i]);
	cr_expect_eq(other.run.mem.size, cfg.run.mem.size);
	cr_expect_eq(other.run.mem.hugepage_size, cfg.run.mem.hugepage_size);
	cr_expect_str_eq(other.run.mem.path, "/a,b c");
	cr_expect_not(other.run.mem.share);
	cr_expect(other.run.mem.prealloc);
	same_cpus(&other.run.cpu, &cfg.run.cpu);
	cr_expect_eq(other.run.timeout_ms, 1500);
	cr_expect_eq(other.run.panic, PANIC_HANG);
	cr_expect_eq(other.run.reboot, REBOOT_AGAIN);
	cr_expect_str_eq(other.run.log, "l");
	cr_expect_str_eq(other.run.stats_path, "s");
	cr_expect(other.run.dry_run);
	cr_expect(other.verbose);
	cr_expect_not(other.run.default_append);
	cr_assert_eq(other.run.argc, 4);
	cr_expect_str_eq(other.run.argv[2], "exit '7'");
	cr_expect_str_eq(other.run.argv[3], "");
	config_free(&other);
}

Test(config_printed, printed_line_spells_defaults_out)
{
	char line[512];

	takes("run");
	config_print_run(&cfg, line, sizeof(line));
	cr_expect_str_eq(line, "ringlet run --unpack=on --mem=512M,share=on,thp=on,prealloc=off "
			       "--cpus=1,sockets=1,cores=1,threads=1 --transport=pci "
			       "--console=serial --timeout=0 --boot-timeout=0 --panic=exit "
			       "--oops=ignore --reboot=exit --sandbox=on");
}

Test(config_printed, printing_stays_in_its_buffer)
{
	char whole[512], line[512];
	int n;

	takes("run -k bz");
	n = config_print_run(&cfg, whole, sizeof(whole));
	for (unsigned long size = 0; size < 64; size++) {
		memset(line, '#', sizeof(line));
		cr_assert_eq(config_print_run(&cfg, line, size), n);
		cr_assert_eq(line[size], '#');
		if (size) {
			cr_assert_eq(strlen(line), size - 1);
			cr_assert_eq(strncmp(line, whole, size - 1), 0);
		}
	}
}

/* Words that matter to the parser, and pieces to join them with. */
static const char *const fuzz_words[] = {
	"run",
	"doctor",
	"help",
	"completion",
	"version",
	"bash",
	"bzImage",
	"--",
	"-",
	"-m",
	"--mem",
	"-c",
	"--cpus",
	"-smp",
	"-k",
	"-kernel",
	"-i",
	"-a",
	"-p",
	"--params",
	"--timeout",
	"--panic",
	"--reboot",
	"--log",
	"--stats",
	"--dry-run",
	"--json",
	"--check",
	"kvm",
	"-v",
	"-h",
	"--help",
	"--version",
	"--no-default-append",
	"--disk",
	"-d",
	"--net",
	"-n",
	"--rng",
	"--console",
	"--transport",
	"user",
	"tap",
	"virtio",
	"mmio",
	"ro",
	"ifname=",
	"queues=2",
	"queue-size=64",
	"rate=1M+2p",
	"mac=02:00:00:00:00:01",
	"hostfwd=tcp::1-:2",
	"doorbell=pio",
	"devices",
	"-nographic",
	"512M",
	"1.5G",
	"hugepages",
	"hugepages=1G",
	"path=/x",
	"share=off",
	"prealloc",
	"size=",
	"4",
	"sockets=2",
	"cores=",
	"threads=3",
	"pin=2-5+7",
	"pin=0-1023+0-1023",
	"boot=4",
	"max=9",
	"60s",
	"0.0001",
	"exit",
	"hang",
	"again",
	"",
	",",
	",,",
	"=",
	"+",
	"-x",
	"--x=y",
	"99999999999999999999",
	"%s%n",
	"\xff\xfe",
	"'",
	"--mem=",
	"-m1G",
	"-vvv",
	"-vm",
};

static uint32_t fuzz_state = 12345;

static uint32_t fuzz_next(uint32_t n)
{
	fuzz_state ^= fuzz_state << 13;
	fuzz_state ^= fuzz_state >> 17;
	fuzz_state ^= fuzz_state << 5;
	return fuzz_state % n;
}

static void fuzz_word(char *word, size_t size)
{
	static const char *const glue[] = {"", ",", "=", ",,", "-"};
	size_t len = 0;

	for (uint32_t i = 0; i <= fuzz_next(4) && len < size; i++)
		len += (size_t)snprintf(word + len, size - len, "%s%s", i ? glue[fuzz_next(5)] : "",
					fuzz_words[fuzz_next(sizeof(fuzz_words) / sizeof(fuzz_words[0]))]);
	if (fuzz_next(8) == 0)
		word[fuzz_next((uint32_t)size - 1)] = (char)(1 + fuzz_next(255));
}

Test(config_printed, random_lines_neither_crash_nor_leak, .timeout = 120)
{
	unsigned taken = 0;

	for (int round = 0; round < 50000; round++) {
		/* From the heap, each on its own, so that a step past an end is seen. */
		char *argv[12] = {strdup("ringlet")}, word[128] = "";
		int argc = 1, n = 1 + (int)fuzz_next(9);

		if (fuzz_next(2))
			argv[argc++] = strdup("run");
		for (; argc < n; argc++) {
			memset(word, 0, sizeof(word));
			fuzz_word(word, sizeof(word));
			argv[argc] = strdup(word);
		}
		argv[argc] = NULL;
		memset(&err, 0, sizeof(err));
		if (config_parse(&cfg, argc, argv, &err) == 0) {
			config_print_run(&cfg, word, sizeof(word));
			taken++;
		} else {
			cr_assert(err.text[0] && err.code < 0, "refused without a sentence");
		}
		config_free(&cfg);
		for (int i = 0; i < argc; i++)
			free(argv[i]);
	}
	cr_expect_gt(taken, 1000);
#ifdef __SANITIZE_ADDRESS__
	/* What the sanitizer finds when the test has ended, Criterion does not hear of. */
	cr_expect_eq(__lsan_do_recoverable_leak_check(), 0);
#endif
}
