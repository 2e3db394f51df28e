/* #syscalls[setup]: close_range getdents64 setrlimit prlimit64 seccomp capset prctl */
#include "vmm/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/thread.h"
#include "vmm/errand.h"
#include "vmm/terminal.h"

/* Descriptors beside those that are open: what clients of the control socket and of console ports take, what a
 * live change brings and holds at a time, and for each vCPU of a new life and each queue. */
#define SPARE_FILES   (64 + 2 * ERRAND_FDS_MAX)
#define FILES_A_VCPU  2
#define FILES_A_QUEUE 8

/* --- descriptors --- */

static bool is_named(const struct run_config *cfg, int fd)
{
	for (unsigned i = 0; i < cfg->dev.nnet; i++)
		if (cfg->dev.net[i].fd == fd)
			return true;
	return false;
}

/* Closed later: until then /dev/fd/N may be somebody's kernel or initrd. */
static void note_inherited(struct sandbox *s)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;

	while (d && (entry = readdir(d)) && s->ninherited < SANDBOX_INHERITED) {
		const int fd = (int)strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && fd > STDERR_FILENO && fd != dirfd(d) && !is_named(s->cfg, fd))
			s->inherited[s->ninherited++] = fd;
	}
	if (d)
		closedir(d);
}

static void close_inherited(struct sandbox *s)
{
	while (s->ninherited)
		close(s->inherited[--s->ninherited]);
}

/* The next number that open() would take is where the holes are; the highest is what counts. */
static rlim_t files_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;
	rlim_t most = 0;

	while (d && (entry = readdir(d))) {
		const rlim_t fd = strtoul(entry->d_name, NULL, 10);

		most = fd > most ? fd : most;
	}
	if (d)
		closedir(d);
	return most + 1;
}

/* --- limits --- */

static int limit(__rlimit_resource_t what, rlim_t most, const char *name, struct err *e)
{
	struct rlimit r;

	if (getrlimit(what, &r))
		return err_set(e, -errno, "sandbox: %s: %s", name, strerror(errno));
	if (r.rlim_max == RLIM_INFINITY || r.rlim_max > most)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(what, &r))
		return err_set(e, -errno, "sandbox: %s: %s", name, strerror(errno));
	return 0;
}

static unsigned count_queues(const struct devices_config *dev)
{
	unsigned n = 8; /* the console's, the balloon's, rng's */

	for (unsigned i = 0; i < dev->nnet; i++)
		n += 2 * dev->net[i].queues + 1;
	for (unsigned i = 0; i < dev->ndisk; i++)
		n += dev->disk[i].queues;
	for (unsigned i = 0; i < dev->ngeneric; i++)
		n += dev->generic[i].queues + 3;
	return n;
}

static bool is_file(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

/* Does anything that we write to get longer? */
static bool files_grow(const struct run_config *cfg)
{
	return cfg->dev.ndisk || cfg->guest.root.source || cfg->log || cfg->stats_path || cfg->result ||
	       cfg->junit || cfg->mem.path || is_file(STDOUT_FILENO) || is_file(STDERR_FILENO);
}

static int set_limits(const struct run_config *cfg, struct err *e)
{
	const rlim_t files = files_open() + SPARE_FILES + FILES_A_VCPU * cfg->cpu.n +
			     FILES_A_QUEUE * count_queues(&cfg->dev);
	int rc = limit(RLIMIT_NOFILE, files, "RLIMIT_NOFILE", e);

	if (!rc && !files_grow(cfg))
		rc = limit(RLIMIT_FSIZE, 0, "RLIMIT_FSIZE", e);
	return rc ? rc : limit(RLIMIT_MSGQUEUE, 0, "RLIMIT_MSGQUEUE", e);
}

/* --- all of it --- */

int sandbox_begin(struct sandbox *s, const struct run_config *cfg, struct err *e)
{
	*s = (struct sandbox){0};
	if (!cfg->sandbox) {
		confine_off();
		return 0;
	}
	s->cfg = cfg;
	mallopt(M_ARENA_MAX, 1); /* other arenas read /proc/sys/vm/overcommit_memory when they shrink */
	note_inherited(s);
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	return confine_begin(terminal_restore, e);
}

int sandbox_enter(struct sandbox *s, struct err *e)
{
	int rc;

	if (!s->cfg || s->entered)
		return 0;
	s->entered = true;
	close_inherited(s);
	rc = set_limits(s->cfg, e);
	return rc ? rc : confine_thread(THREAD_MAIN, e);
}
