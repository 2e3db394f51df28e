/* The table of exit statuses. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/outcome.h"

static char why[256];

static int status(enum outcome outcome, int value, bool has_command)
{
	memset(why, '#', sizeof(why));
	return outcome_status(outcome, value, has_command, "", why, sizeof(why));
}

Test(outcome, table)
{
	static const struct {
		enum outcome outcome;
		int value;
		int plain, with_command;
	} rows[] = {
		{OUTCOME_POWER_OFF, 0, 0, 119},
		{OUTCOME_NO_ANSWER, 0, 119, 119},
		{OUTCOME_ANSWER, 0, 0, 0},
		{OUTCOME_BOOT_HANG, 0, 118, 118},
		{OUTCOME_OOPS, 0, 120, 120},
		{OUTCOME_SOFT_LOCKUP, 0, 120, 120},
		{OUTCOME_BACK_END_LOST, 0, 123, 123},
		{OUTCOME_ANSWER, 1, 1, 1},
		{OUTCOME_ANSWER, 255, 255, 255},
		{OUTCOME_PANIC, 0, 121, 121},
		{OUTCOME_RESET, 0, 122, 122},
		{OUTCOME_TRIPLE_FAULT, 0, 122, 122},
		{OUTCOME_MEMORY_LOST, 0, 123, 123},
		{OUTCOME_TIMEOUT, 0, 124, 124},
		{OUTCOME_FAILED, 0, 125, 125},
		{OUTCOME_NONE, 0, 125, 125},
		{OUTCOME_SIGNAL, SIGINT, 130, 130},
		{OUTCOME_SIGNAL, SIGTERM, 143, 143},
		{OUTCOME_QUIT, 0, 0, 119},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_expect_eq(status(rows[i].outcome, rows[i].value, false), rows[i].plain, "row %zu", i);
		cr_expect_eq(status(rows[i].outcome, rows[i].value, true), rows[i].with_command, "row %zu", i);
	}
}

Test(outcome, every_answer_of_a_command)
{
	for (int v = 0; v <= 255; v++) {
		bool ours = v >= 118 && v <= 125;

		cr_expect_eq(status(OUTCOME_ANSWER, v, true), ours ? 117 : v, "%d", v);
		cr_expect_eq(!why[0], !ours, "%d: \"%s\"", v, why);
		cr_expect_eq(status(OUTCOME_ANSWER, v, false), v, "%d", v);
		cr_expect_eq(why[0], 0);
	}
}

Test(outcome, a_changed_answer_names_the_real_one)
{
	status(OUTCOME_ANSWER, 124, true);
	cr_expect(strstr(why, "124") && strstr(why, "117"), "%s", why);
}

Test(outcome, says_why)
{
	static const enum outcome spoken[] = {OUTCOME_PANIC,        OUTCOME_RESET,       OUTCOME_TRIPLE_FAULT,
					      OUTCOME_MEMORY_LOST,  OUTCOME_TIMEOUT,     OUTCOME_NO_ANSWER,
					      OUTCOME_OOPS,         OUTCOME_SOFT_LOCKUP, OUTCOME_BOOT_HANG,
					      OUTCOME_BACK_END_LOST};

	for (size_t i = 0; i < ARRAY_SIZE(spoken); i++) {
		status(spoken[i], 0, false);
		cr_expect_gt(strlen(why), 10, "row %zu", i);
	}
	status(OUTCOME_SIGNAL, SIGTERM, false);
	cr_expect(strstr(why, "15"), "%s", why);
}

Test(outcome, says_nothing_where_all_is_well)
{
	static const enum outcome silent[] = {OUTCOME_POWER_OFF, OUTCOME_QUIT, OUTCOME_FAILED};

	for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
		status(silent[i], 0, false);
		cr_expect_eq(why[0], 0, "row %zu: %s", i, why);
	}
}

Test(outcome, keeps_to_a_small_buffer)
{
	char small[8] = "1234567";

	outcome_status(OUTCOME_TIMEOUT, 0, false, "", small, 4);
	cr_expect_eq(small[3], 0);
	cr_expect_str_eq(small + 4, "567");
}

Test(outcome, detail_follows_the_sentence)
{
	outcome_status(OUTCOME_PANIC, 0, true, "VFS: no root", why, sizeof(why));
	cr_expect(strstr(why, "panicked: VFS: no root"), "%s", why);
	outcome_status(OUTCOME_FAILED, 0, true, "no kernel", why, sizeof(why));
	cr_expect_str_eq(why, "no kernel");
}

/* What --result promises. */
Test(outcome, names)
{
	static const char promised[] =
		" answer power-off no-answer panic oops soft-lockup boot-hang timeout reset "
		"triple-fault back-end-lost memory-lost signal quit failed ";

	for (int o = OUTCOME_NONE; o <= OUTCOME_QUIT; o++) {
		char word[32];

		snprintf(word, sizeof(word), " %s ", outcome_name((enum outcome)o));
		cr_expect(strstr(promised, word), "%d: %s", o, word);
	}
}
