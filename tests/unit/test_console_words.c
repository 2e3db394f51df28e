/* What a kernel says of its own trouble: the words of several versions, and words that only look so. */
#include <criterion/criterion.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/console_words.h"

static unsigned told[TROUBLES];

static void on_trouble(void *opaque, enum trouble kind)
{
	(void)opaque;
	told[kind]++;
}

static struct console_words words;

static void say(const char *text)
{
	words_read(&words, text, strlen(text), on_trouble, NULL);
}

static void again(void)
{
	words_reset(&words);
	memset(told, 0, sizeof(told));
}

/* kind -1: no trouble */
static void expect_kind(const char *line, int kind)
{
	again();
	say("before\n");
	say(line);
	say("\nafter\n");
	for (int k = 0; k < TROUBLES; k++)
		cr_expect_eq(told[k], k == kind, "%s", line);
}

Test(console_words, troubles)
{
	static const struct {
		const char *line;
		int kind;
	} rows[] = {
		{"[    3.1] Kernel panic - not syncing: sysrq triggered crash", TROUBLE_PANIC},
		{"[    3.1] BUG: kernel NULL pointer dereference, address: 0000000000000000", TROUBLE_OOPS},
		{"[    3.1] BUG: unable to handle page fault for address: ffffffffdeadbeef", TROUBLE_OOPS},
		{"[    3.1] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI", TROUBLE_OOPS},
		{"[    3.1] Oops: 0002 [#1] SMP", TROUBLE_OOPS},
		{"[    3.1] kernel BUG at drivers/misc/lkdtm/bugs.c:105!", TROUBLE_OOPS},
		{"[    3.1] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI", TROUBLE_OOPS},
		{"[    3.1] divide error: 0000 [#1] SMP", TROUBLE_OOPS},
		{"[    3.1] general protection fault, probably for non-canonical address 0x1: 0000 [#1]",
		 TROUBLE_OOPS},
		{"[    3.1] BUG: KASAN: slab-out-of-bounds in x+0x1/0x2", TROUBLE_OOPS},
		{"[    3.1] BUG: KFENCE: use-after-free read in x+0x1/0x2", TROUBLE_OOPS},
		{"[    3.1] BUG: scheduling while atomic: swapper/0/0/0x00000002", TROUBLE_OOPS},
		{"[    3.1] Internal error: Oops: 0000000096000004 [#1] SMP", TROUBLE_OOPS},
		{"[    3.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:71]", TROUBLE_LOCKUP},
		{"[    3.1] NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", TROUBLE_LOCKUP},
		{"[    3.1] rcu: INFO: rcu_preempt self-detected stall on CPU", TROUBLE_LOCKUP},
		{"[    3.1] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", TROUBLE_LOCKUP},
		{"[    3.1] INFO: task cat:71 blocked for more than 120 seconds.", TROUBLE_LOCKUP},
		{"[    3.1] BUG: workqueue lockup - pool cpus=0", TROUBLE_LOCKUP},
		{"BUG: no time stamp", TROUBLE_OOPS},
		{"[    3.1] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2", -1},
		{"[    3.1] traps: a.out[71] general protection fault ip:401136 sp:7ffe error:0 in a.out", -1},
		{"[    3.1] a.out[71]: segfault at 0 ip 0 sp 0 error 14", -1},
		{"[    3.1] DEBUG: all is well, no DEBUG:BUG", -1},
		{"[    3.1] INFO: task is fine", -1},
		{"[    3.1] kernel panic - not syncing", -1},
		{"[    3.1] Kernel panic", -1},
		{"", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_kind(rows[i].line, rows[i].kind);
}

Test(console_words, split_anywhere)
{
	static const char line[] = "[ 1.0] watchdog: BUG: soft lockup - CPU#0\r\n";

	for (size_t at = 0; at < sizeof(line); at++) {
		again();
		words_read(&words, line, at, on_trouble, NULL);
		words_read(&words, line + at, sizeof(line) - 1 - at, on_trouble, NULL);
		cr_assert_eq(told[TROUBLE_LOCKUP], 1, "split at %zu", at);
		cr_assert_eq(told[TROUBLE_OOPS], 0, "split at %zu", at);
	}
}

Test(console_words, the_first_line_is_kept_without_its_stamp)
{
	again();
	say("[    3.129][    T1] BUG: kernel NULL pointer dereference\n[ 3.2] Oops: 0000 [#1]\n");
	cr_expect_eq(told[TROUBLE_OOPS], 1);
	cr_expect_str_eq(words.line[TROUBLE_OOPS], "BUG: kernel NULL pointer dereference");
}

Test(console_words, a_panic_does_not_wait_for_its_line)
{
	again();
	say("[ 1.0] Kernel panic - not syncing");
	cr_expect_eq(told[TROUBLE_PANIC], 1);
	say(": VFS: Unable to mount root fs\n");
	cr_expect_eq(told[TROUBLE_PANIC], 1);
	cr_expect_str_eq(words.line[TROUBLE_PANIC], "Kernel panic - not syncing: VFS: Unable to mount root fs");
}

Test(console_words, the_last_line_may_lack_its_end)
{
	again();
	say("Oops: 0000 [#1]");
	cr_expect_eq(told[TROUBLE_OOPS], 0);
	words_end(&words, on_trouble, NULL);
	cr_expect_eq(told[TROUBLE_OOPS], 1);
}

Test(console_words, a_line_without_end)
{
	again();
	for (unsigned i = 0; i < 10000; i++)
		say("x Oops:");
	say("\n");
	cr_expect_eq(told[TROUBLE_OOPS], 1);
	cr_expect_lt(strlen(words.line[TROUBLE_OOPS]), WORDS_LINE);
}
