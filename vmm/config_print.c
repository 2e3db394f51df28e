#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_values.h"

struct text {
	char *buf;
	size_t size, len; /* len: as if size were without end */
};

static void add_char(struct text *t, char c)
{
	if (t->len + 1 < t->size) {
		t->buf[t->len] = c;
		t->buf[t->len + 1] = '\0';
	}
	t->len++;
}

static void add(struct text *t, const char *s)
{
	while (*s)
		add_char(t, *s++);
}

static bool is_plain(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("_@%+=:,./-", c));
}

static void add_quoted(struct text *t, const char *s)
{
	const char *p = s;

	while (is_plain(*p))
		p++;
	if (!*p && *s) {
		add(t, s);
		return;
	}
	add_char(t, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			add(t, "'\\''");
		else
			add_char(t, *s);
	}
	add_char(t, '\'');
}

static void add_option(struct text *t, const char *name, const char *value)
{
	add(t, " --");
	add(t, name);
	if (value) {
		add_char(t, '=');
		add_quoted(t, value);
	}
}

static void add_mem(struct text *t, const struct mem_config *mem)
{
	char size[32], page[32], value[2 * PATH_MAX + 128] = "";
	struct text list = {.buf = value, .size = sizeof(value)};

	format_size(mem->size, size, sizeof(size));
	format_size(mem->hugepage_size, page, sizeof(page));
	add(&list, size);
	if (mem->hugepage_size) {
		add(&list, ",hugepages=");
		add(&list, page);
	}
	if (mem->path) {
		add(&list, ",path=");
		for (const char *s = mem->path; *s; s++) {
			/* In a list a comma stands for itself only when doubled. */
			if (*s == ',')
				add_char(&list, ',');
			add_char(&list, *s);
		}
	}
	add(&list, mem->share ? ",share=on" : ",share=off");
	add(&list, mem->prealloc ? ",prealloc=on" : ",prealloc=off");
	add_option(t, "mem", value);
}

static void add_number(struct text *t, const char *before, unsigned n)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%u", n);
	add(t, before);
	add(t, digits);
}

static void add_cpus(struct text *t, const struct cpu_config *cpu)
{
	add_number(t, " --cpus=", cpu->n);
	add_number(t, ",sockets=", cpu->sockets);
	add_number(t, ",cores=", cpu->cores);
	add_number(t, ",threads=", cpu->threads);
	for (unsigned i = 0; i < cpu->npin; i++) {
		unsigned first = i;

		while (i + 1 < cpu->npin && cpu->pin[i + 1] == cpu->pin[i] + 1)
			i++;
		add_number(t, first ? "+" : ",pin=", cpu->pin[first]);
		if (i > first)
			add_number(t, "-", cpu->pin[i]);
	}
}

int config_print_run(const struct config *cfg, char *buf, unsigned long size)
{
	static const char *const panic[] = {"exit", "hang", "reboot"};
	static const char *const reboot[] = {"exit", "again"};
	const struct run_config *run = &cfg->run;
	struct text t = {.buf = buf, .size = size};
	char timeout[32];

	if (size)
		*buf = '\0';
	add(&t, "ringlet run");
	if (run->kernel)
		add_option(&t, "kernel", run->kernel);
	if (run->initrd)
		add_option(&t, "initrd", run->initrd);
	for (unsigned i = 0; i < run->nappend; i++)
		add_option(&t, "append", run->append[i]);
	if (!run->default_append)
		add_option(&t, "no-default-append", NULL);
	add_option(&t, "unpack", run->unpack ? "on" : "off");
	add_mem(&t, &run->mem);
	add_cpus(&t, &run->cpu);
	snprintf(timeout, sizeof(timeout), "%" PRIu64 "%s",
		 run->timeout_ms % 1000 ? run->timeout_ms : run->timeout_ms / 1000,
		 run->timeout_ms % 1000 ? "ms" : "s");
	add_option(&t, "timeout", run->timeout_ms ? timeout : "0");
	add_option(&t, "panic", panic[run->panic]);
	add_option(&t, "reboot", reboot[run->reboot]);
	if (run->log)
		add_option(&t, "log", run->log);
	if (run->stats)
		add_option(&t, "stats", run->stats_path);
	if (run->dry_run)
		add_option(&t, "dry-run", NULL);
	if (cfg->verbose)
		add_option(&t, "verbose", NULL);
	if (run->argv) {
		add(&t, " --");
		for (int i = 0; i < run->argc; i++) {
			add_char(&t, ' ');
			add_quoted(&t, run->argv[i]);
		}
	}
	return (int)t.len;
}
