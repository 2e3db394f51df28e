#include "vmm/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/guest_init.h"
#include "vmm/guest_plan.h"
#include "vmm/layout_x86.h"
#include "vmm/modules_wanted.h"

/* What guest-images/init takes. */
#define MAX_ARGS      1024
#define MAX_ARG_BYTES (1 << 20)

/* The newest by version, not by date: "6.12" is after "6.1". */
static int newest_kernel(char *path, size_t size, struct err *e)
{
	glob_t g;
	const char *best = NULL;

	if (glob("/boot/vmlinuz-*", 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			if (!access(g.gl_pathv[i], R_OK) && (!best || strverscmp(g.gl_pathv[i], best) > 0))
				best = g.gl_pathv[i];
	if (best)
		snprintf(path, size, "%s", best);
	globfree(&g);
	if (!best)
		return err_set(e, -ENOENT,
			       "no kernel given, and no readable /boot/vmlinuz-* found\n"
			       "Name one: ringlet run -k bzImage");
	return 0;
}

static int open_initrd(struct payload *p, const char *path, struct err *e)
{
	struct stat st;

	p->initrd_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (p->initrd_fd < 0)
		return err_set(e, -errno, "--initrd %s: %s", path, strerror(errno));
	if (fstat(p->initrd_fd, &st))
		return err_set(e, -errno, "--initrd %s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR,
			       "--initrd %s: a directory, but a cpio archive was expected\nMake one: "
			       "(cd %s && find . | cpio -o -H newc) > initrd.cpio",
			       path, path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "--initrd %s: not a regular file", path);
	if (!st.st_size)
		return err_set(e, -EINVAL, "--initrd %s: 0 bytes, but a cpio archive was expected", path);
	p->initrd[p->ninitrd++] =
		(struct initrd_part){.path = path, .fd = p->initrd_fd, .len = (uint64_t)st.st_size};
	return 0;
}

/* The host's busybox gives a guest without an initrd its shell. */
static void add_busybox(struct cpio *c)
{
	CLEANUP_FD int fd = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE void *data = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > 16 << 20)
		return;
	data = malloc((size_t)st.st_size);
	if (!data)
		return;
	n = read(fd, data, (size_t)st.st_size);
	if (n != st.st_size)
		return;
	if (memmem(data, (size_t)n < 4096 ? (size_t)n : 4096, "/ld-linux", 9)) {
		log_warn("/bin/busybox is not static, so the guest has no shell\nInstall one: apt install "
			 "busybox-static");
		return;
	}
	cpio_dir(c, "bin", 0755);
	cpio_file(c, "bin/busybox", 0755, data, (size_t)n);
	cpio_link(c, "bin/sh", "busybox");
}

static int add_command(struct cpio *c, const struct run_config *cfg, struct err *e)
{
	CLEANUP_FREE char *args = NULL;
	size_t len = 0, size = 1;

	for (int i = 0; i < cfg->argc; i++)
		size += strlen(cfg->argv[i]) + 1;
	if (cfg->argc > MAX_ARGS || size > MAX_ARG_BYTES)
		return err_set(e, -E2BIG,
			       "--: the command has %d arguments of %zu bytes; at most %d and %d are passed",
			       cfg->argc, size, MAX_ARGS, MAX_ARG_BYTES);
	args = malloc(size);
	if (!args)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; i < cfg->argc; i++) {
		size_t n = strlen(cfg->argv[i]) + 1;

		memcpy(args + len, cfg->argv[i], n);
		len += n;
	}
	cpio_file(c, "ringlet/command", 0600, args, len);
	return 0;
}

static int add_plan(struct cpio *c, const struct run_config *cfg, const struct root_source *root, struct err *e)
{
	struct guest_plan plan = {0};
	int rc = guest_plan_command(&plan, cfg, e);

	if (!rc)
		guest_plan_root(&plan, cfg, root);
	if (!rc && plan.error)
		rc = err_set(e, plan.error, "out of memory");
	if (!rc)
		cpio_file(c, "ringlet/plan", 0600, plan.data, plan.len);
	guest_plan_fini(&plan);
	return rc;
}

static int add_modules(struct payload *p, const struct run_config *cfg, struct err *e)
{
	struct modules m;
	int rc = modules_open(&m, &p->tree, cfg->guest.modules, e);

	rc = rc ? rc : modules_choose(&m, &p->tree, cfg, &p->root, e);
	rc = rc ? rc : modules_pack(&m, &p->extra, e);
	modules_close(&m);
	return rc;
}

static int make_extra(struct payload *p, const struct run_config *cfg, struct err *e)
{
	int rc = 0;

	cpio_dir(&p->extra, "ringlet", 0755);
	cpio_file(&p->extra, "ringlet/init", 0755, guest_init, guest_init_len);
	if (!cfg->initrd && p->root.kind == ROOT_NONE)
		add_busybox(&p->extra);
	if (cfg->argv)
		rc = add_command(&p->extra, cfg, e);
	rc = rc ? rc : add_plan(&p->extra, cfg, &p->root, e);
	rc = rc ? rc : add_modules(p, cfg, e);
	if (rc)
		return rc;
	if (cpio_end(&p->extra))
		return err_set(e, -ENOMEM, "out of memory");
	p->initrd[p->ninitrd++] = (struct initrd_part){.path = "(Ringlet's own initrd)",
						       .fd = -1,
						       .data = p->extra.data,
						       .len = p->extra.len};
	return 0;
}

static int add(struct payload *p, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int add(struct payload *p, struct err *e, const char *fmt, ...)
{
	size_t at = strlen(p->cmdline);
	va_list ap;
	int n;

	if (at && at + 1 < sizeof(p->cmdline)) {
		p->cmdline[at++] = ' ';
		p->cmdline[at] = 0;
	}
	va_start(ap, fmt);
	n = vsnprintf(p->cmdline + at, sizeof(p->cmdline) - at, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(p->cmdline) - at)
		return err_set(e, -E2BIG, "--append: the kernel's command line is longer than %zu bytes",
			       sizeof(p->cmdline) - 1);
	return 0;
}

/* As Linux sees it: up to a space that is not in quotes. */
static size_t word_len(const char *s)
{
	bool quoted = false;
	size_t n = 0;

	for (; s[n] && (quoted || !strchr(" \t\n", s[n])); n++)
		quoted ^= s[n] == '"';
	return n;
}

static bool is_loudness(const char *word, size_t n)
{
	static const char *const words[] = {"quiet", "debug", "ignore_loglevel"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (n == strlen(words[i]) && !memcmp(word, words[i], n))
			return true;
	return n > 9 && !memcmp(word, "loglevel=", 9);
}

/* How much the console shows is known to Linux from the words that it has read so far, and at console= it
 * prints all that was logged until then. */
static int add_loudness(struct payload *p, const struct run_config *cfg, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < cfg->nappend; i++) {
		const char *word = cfg->append[i];

		for (size_t n; !rc && *(word += strspn(word, " \t\n")); word += n) {
			n = word_len(word);
			if (n == 2 && !memcmp(word, "--", 2))
				return rc; /* the rest is init's */
			if (is_loudness(word, n))
				rc = add(p, e, "%.*s", (int)n, word);
		}
	}
	return rc;
}

static int make_cmdline(struct payload *p, const struct run_config *cfg, bool our_init, struct err *e)
{
	int rc = 0;

	if (cfg->default_append) {
		rc = add_loudness(p, cfg, e);
		if (!rc && cfg->dev.console.on)
			rc = add(p, e, "console=hvc0");
		else if (!rc) /* from the first message on, and handed over to ttyS0, which ACPI places here */
			rc = add(p, e, "console=uart8250,mmio,%#llx", LAYOUT_UART_MMIO);
		/* A panic that hangs would never end a CI job. */
		if (!rc && cfg->panic != PANIC_HANG)
			rc = add(p, e, "panic=-1");
		if (!rc && our_init)
			rc = add(p, e, "rdinit=/ringlet/init");
	}
	for (unsigned i = 0; !rc && i < cfg->nappend; i++)
		rc = add(p, e, "%s", cfg->append[i]);
	return rc;
}

static int find_kernel(struct payload *p, const char *asked, struct err *e)
{
	char newest[PATH_MAX];
	int rc = asked ? 0 : newest_kernel(newest, sizeof(newest), e);

	rc = rc ? rc : kernel_tree_find(&p->tree, asked ? asked : newest, e);
	if (rc)
		return rc;
	p->kernel_path = p->tree.image;
	rc = kernel_image_open(&p->kernel, p->tree.image, e);
	if (!rc)
		kernel_tree_set_release(&p->tree, p->kernel.version);
	return rc;
}

int payload_open(struct payload *p, const struct run_config *cfg, struct err *e)
{
	const bool furnished = cfg->guest.root.source || cfg->guest.nshare;
	/* A command needs our init, as do a root and shares, and a guest with nothing else to boot. */
	const bool our_init = cfg->argv || furnished || (!cfg->initrd && !cfg->kernel);
	int rc;

	memset(p, 0, sizeof(*p));
	p->kernel.fd = p->initrd_fd = -1;
	p->kernel_path = "";
	rc = find_kernel(p, cfg->kernel, e);
	if (!rc && cfg->initrd)
		rc = open_initrd(p, cfg->initrd, e);
	rc = rc ? rc : root_source_look(&p->root, cfg, e);
	if (!rc && our_init)
		rc = make_extra(p, cfg, e);
	if (!rc)
		rc = make_cmdline(p, cfg, our_init, e);
	return rc;
}

void payload_close(struct payload *p)
{
	if (p->kernel.fd >= 0)
		kernel_image_close(&p->kernel);
	p->kernel.fd = -1;
	if (p->initrd_fd >= 0)
		close(p->initrd_fd);
	p->initrd_fd = -1;
	cpio_fini(&p->extra);
	kernel_tree_free(&p->tree);
}
