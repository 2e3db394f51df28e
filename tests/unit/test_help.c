/* The texts: they fit a screen, and no option is missing in them or in the manual. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_options.h"
#include "vmm/doctor_checks.h"

#define SCREEN_COLUMNS 80
#define SCREEN_LINES   24

static const char *const topics[] = {NULL, "run", HELP_DEVICES, HELP_TESTS, "ctl", "doctor", "completion"};

Test(help, fits_the_screen)
{
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		const char *topic = topics[i] ? topics[i] : "general";
		int lines = 0;

		for (const char *s = config_help(topics[i]); *s; s++, lines++) {
			size_t len = strcspn(s, "\n");

			cr_expect_leq(len, SCREEN_COLUMNS, "%s: %.*s", topic, (int)len, s);
			cr_assert_eq(s[len], '\n', "%s: the last line has no end", topic);
			s += len;
		}
		/* One line is left for the prompt. */
		cr_expect_lt(lines, SCREEN_LINES, "%s: %d lines", topic, lines);
	}
}

Test(help, has_no_tabs)
{
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++)
		cr_expect_null(strchr(config_help(topics[i]), '\t'));
}

Test(help, topics_differ)
{
	cr_expect_str_neq(config_help("run"), config_help(NULL));
	cr_expect_str_neq(config_help("doctor"), config_help(NULL));
	cr_expect_str_eq(config_help("nonsense"), config_help(NULL));
}

/* word stands in text with nothing before or after it that would make it another. */
static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *s = text; (s = strstr(s, word)); s++)
		if ((s == text || (!isalnum((unsigned char)s[-1]) && s[-1] != '-')) &&
		    !isalnum((unsigned char)s[len]) && s[len] != '-' && s[len] != '_')
			return true;
	return false;
}

static void expect_keys(const char *text, const struct option_def *def, const char *where)
{
	/* The first may be left out, and may be shown so. */
	const struct key_def *key = def->keys ? key_next(def->keys) : NULL;

	for (; key; key = key_next(key))
		if (key_is_public(key))
			cr_expect(has_word(text, key->name), "%s misses --%s %s=", where, def->name, key->name);
}

static void expect_option(const char *text, const struct option_def *def, const char *where)
{
	char word[64];

	snprintf(word, sizeof(word), "--%s", def->name);
	cr_expect(has_word(text, word), "%s misses %s", where, word);
	snprintf(word, sizeof(word), "-%c,", def->letter);
	if (def->letter && !strstr(text, word)) {
		word[2] = ' ';
		cr_expect(strstr(text, word), "%s misses -%c", where, def->letter);
	}
}

static bool is_of_devices(const struct option_def *def)
{
	for (const struct key_def *key = def->keys; key; key = key_next(key))
		if (!strcmp(key->name, "transport"))
			return true;
	return !strcmp(def->name, "transport");
}

/* Told of in "help tests", with its keys. */
static bool is_of_tests(const struct option_def *def)
{
	char word[64];

	snprintf(word, sizeof(word), "--%s", def->name);
	return has_word(config_help(HELP_TESTS), word);
}

Test(help, of_run_has_every_option)
{
	for (size_t i = 0; i < noption_defs; i++)
		if (option_defs[i].places & IN_RUN) {
			expect_option(config_help("run"), &option_defs[i], "help run");
			if (is_of_tests(&option_defs[i]))
				expect_keys(config_help(HELP_TESTS), &option_defs[i], "help tests");
			else if (!is_of_devices(&option_defs[i]))
				expect_keys(config_help("run"), &option_defs[i], "help run");
		}
}

Test(help, of_run_points_at_others)
{
	cr_expect(strstr(config_help("run"), "ringlet help " HELP_DEVICES));
	cr_expect(strstr(config_help("run"), "ringlet help " HELP_TESTS));
}

Test(help, of_devices_has_their_options_and_keys)
{
	for (size_t i = 0; i < noption_defs; i++)
		if (is_of_devices(&option_defs[i])) {
			expect_option(config_help(HELP_DEVICES), &option_defs[i], "help devices");
			expect_keys(config_help(HELP_DEVICES), &option_defs[i], "help devices");
		}
}

Test(help, of_doctor_has_every_option)
{
	for (size_t i = 0; i < noption_defs; i++)
		if (option_defs[i].places & IN_DOCTOR)
			expect_option(config_help("doctor"), &option_defs[i], "help doctor");
}

static const char *const ctl_commands[] = {"pause", "resume",      "stats",   "counters", "power-button",
					   "quit",  "resize-disk", "balloon", "datapath"};

Test(help, of_ctl_has_every_command)
{
	for (size_t i = 0; i < sizeof(ctl_commands) / sizeof(ctl_commands[0]); i++)
		cr_expect(has_word(config_help("ctl"), ctl_commands[i]), "misses %s", ctl_commands[i]);
}

/* "--disk vhost-user" has keys that --disk FILE has not. */
Test(help, of_devices_has_what_a_back_end_is_told)
{
	const struct option_def disk = {.name = "disk vhost-user", .keys = config_disk_remote_keys};

	expect_keys(config_help(HELP_DEVICES), &disk, "help devices");
	cr_expect(has_word(config_help(HELP_DEVICES), "vhost-user"));
	cr_expect(has_word(config_help(HELP_DEVICES), "vdpa"));
}

Test(help, in_general_has_every_command)
{
	for (size_t i = 0; i < ncommand_defs; i++) {
		char words[64];

		snprintf(words, sizeof(words), "ringlet %s", command_defs[i].name);
		cr_expect(has_word(config_help(NULL), words), "misses %s", words);
	}
}

/* The part of ringlet.1 between two of its lines. */
static char *manual(const char *from, const char *to)
{
	static char text[65536];
	FILE *f = fopen("ringlet.1", "re");
	char *start, *end;
	size_t len;

	if (!f)
		cr_skip_test("ringlet.1 is not in the working directory");
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	start = strstr(text, from);
	cr_assert(start, "ringlet.1 has no %s", from);
	end = strstr(start, to);
	cr_assert(end, "ringlet.1 has no %s after %s", to, from);
	*end = '\0';
	return start;
}

/* The heads of the lists of options, every flag with its dash: ".It Fl k , -kernel Ar file". */
static char *option_heads(void)
{
	static char heads[16384];
	char *rest, *text = manual(".Ss Options everywhere", ".Ss The guest's machine");
	bool inside = false;
	size_t len = 0;

	for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest)) {
		char *flag = strstr(l, "Fl ");

		if (!strcmp(l, ".It Xo")) {
			inside = true;
		} else if (!strcmp(l, ".Xc")) {
			inside = false;
		} else if (inside || !strncmp(l, ".It ", 4)) {
			if (flag)
				memcpy(flag, " - ", 3);
			for (; *l && len < sizeof(heads) - 3; l++) {
				/* The dash stands before the word, and before the one behind a comma. */
				if (flag && l == flag + 1) {
					heads[len++] = '-';
					l++;
				} else if (flag && l > flag && !strncmp(l, ", ", 2)) {
					heads[len++] = ',';
					heads[len++] = ' ';
					heads[len++] = '-';
					l++;
				} else {
					heads[len++] = *l;
				}
			}
			heads[len++] = '\n';
		}
	}
	heads[len] = '\0';
	return heads;
}

Test(manual, has_every_option)
{
	const char *heads = option_heads();

	for (size_t i = 0; i < noption_defs; i++) {
		expect_option(heads, &option_defs[i], "ringlet.1");
		expect_keys(heads, &option_defs[i], "ringlet.1");
	}
}

Test(manual, has_what_a_disk_with_a_back_end_is_told)
{
	const struct option_def disk = {.name = "disk vhost-user", .keys = config_disk_remote_keys};
	const char *text = manual(".Fl d , -disk Cm vhost-user", ".Xc");

	for (const struct key_def *key = key_next(disk.keys); strcmp(key->name, "transport");
	     key = key_next(key))
		if (key_is_public(key))
			cr_expect(has_word(text, key->name), "misses %s", key->name);
}

Test(manual, has_every_command_of_ctl)
{
	const char *text = manual(".Sh DESCRIPTION", ".Ss Options everywhere");

	for (size_t i = 0; i < sizeof(ctl_commands) / sizeof(ctl_commands[0]); i++)
		cr_expect(has_word(text, ctl_commands[i]), "misses %s", ctl_commands[i]);
}

Test(manual, says_no_more_that_devices_served_elsewhere_are_missing)
{
	cr_expect_null(strstr(manual(".Sh CAVEATS", "standard error"), "not in this version"));
}

Test(manual, has_every_command)
{
	const char *text = manual(".Sh SYNOPSIS", ".Sh DESCRIPTION");

	for (size_t i = 0; i < ncommand_defs; i++) {
		char line[64];

		snprintf(line, sizeof(line), ".Cm %s\n", command_defs[i].name);
		cr_expect(strstr(text, line), "ringlet.1 misses %s", command_defs[i].name);
	}
}

Test(manual, tells_of_every_key_of_devices)
{
	char *text = manual(".Ss Options of run for virtio devices", ".Ss Options of doctor");
	char items[8192] = "", *rest;

	/* What has an item of its own, beyond the line of its option. */
	for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
		if (!strncmp(l, ".It Cm ", 7))
			strncat(strcat(items, l + 6), "\n", 2);
	for (size_t i = 0; i < noption_defs; i++)
		if (is_of_devices(&option_defs[i]))
			expect_keys(items, &option_defs[i], "the items of ringlet.1");
}

Test(manual, has_every_exit_status)
{
	static const char *const statuses[] = {"0",   "117", "119", "121", "122",  "123",
					       "124", "125", "126", "127", "128+N"};
	const char *text = manual(".Sh EXIT STATUS", ".Sh EXAMPLES");

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		char head[32];

		snprintf(head, sizeof(head), ".It %s", statuses[i]);
		cr_expect(strstr(text, head), "ringlet.1 misses status %s", statuses[i]);
	}
}
