#include "compare/counters_tasks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"

#define KTHREADD 2 /* the parent of all threads of the kernel's own */

/* A small file of /proc as text.  0 or -errno. */
static int read_proc(const char *path, char *text, size_t size)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

static int add(struct tasks *t, pid_t tid, enum task_kind kind, uint64_t cpu_ns)
{
	struct task *more = t->task;

	if (!(t->n & (t->n - 1))) /* it is full: 0, 1, 2, 4, ... */
		more = realloc(t->task, (t->n ? 2 * t->n : 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	t->task = more;
	t->task[t->n++] = (struct task){tid, kind, cpu_ns};
	return 0;
}

void tasks_free(struct tasks *t)
{
	free(t->task);
	*t = (struct tasks){0};
}

const struct task *tasks_find(const struct tasks *t, pid_t tid)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->task[i].tid == tid)
			return &t->task[i];
	return NULL;
}

/* The number that follows word and is all that does; 0: it is none. */
static long numbered(const char *name, const char *word)
{
	const size_t len = strlen(word);
	char *end;
	long n;

	if (strncmp(name, word, len) || !isdigit((unsigned char)name[len]))
		return -1;
	n = strtol(name + len, &end, 10);
	return *end ? -1 : n;
}

static enum task_kind kind_of(const char *name)
{
	return numbered(name, "vcpu") >= 0     ? TASK_VCPU
	       : numbered(name, "vhost-") >= 0 ? TASK_VHOST
					       : TASK_OTHER;
}

/* Of a thread whose directory this is. */
static int cpu_of(const char *dir, uint64_t *ns)
{
	char path[64], text[96];
	int rc;

	snprintf(path, sizeof(path), "%s/schedstat", dir);
	rc = read_proc(path, text, sizeof(text));
	if (!rc && sscanf(text, "%" SCNu64, ns) != 1)
		rc = -EIO;
	return rc;
}

static int add_thread(struct tasks *t, pid_t pid, pid_t tid)
{
	char dir[48], path[64], name[64];
	uint64_t ns;
	int rc;

	snprintf(dir, sizeof(dir), "/proc/%d/task/%d", (int)pid, (int)tid);
	snprintf(path, sizeof(path), "%s/comm", dir);
	rc = read_proc(path, name, sizeof(name));
	if (rc == -ENOENT || rc == -ESRCH)
		return 0; /* it has ended meanwhile */
	rc = rc ? rc : cpu_of(dir, &ns);
	if (rc == -ESRCH || (rc == -ENOENT && access(path, F_OK)))
		return 0;
	return rc ? rc : add(t, tid, kind_of(name), ns);
}

int tasks_of(pid_t pid, struct tasks *out)
{
	char path[48];
	const struct dirent *entry;
	DIR *dir;
	int rc = 0;

	*out = (struct tasks){0};
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!rc && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			rc = add_thread(out, pid, (pid_t)atoi(entry->d_name));
	closedir(dir);
	if (!rc && !out->n)
		rc = -ESRCH;
	if (rc)
		tasks_free(out);
	return rc;
}

/* --- beside it --- */

/* Its parent and its name, which may hold anything. */
static int stat_of(pid_t pid, pid_t *parent, char *name, size_t size)
{
	char path[32], text[512];
	char *begin, *end;
	int number, rc;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	rc = read_proc(path, text, sizeof(text));
	begin = rc ? NULL : strchr(text, '(');
	end = begin ? strrchr(text, ')') : NULL;
	if (!end || sscanf(end + 1, " %*c %d", &number) != 1)
		return rc ? rc : -EIO;
	*parent = number;
	snprintf(name, size, "%.*s", (int)(end - begin - 1), begin + 1);
	return 0;
}

static int add_process(pid_t pid, pid_t vmm, const struct tasks *of, struct tasks *helpers, struct tasks *vhost)
{
	char name[64], dir[32];
	uint64_t ns;
	pid_t parent;
	long owner;

	if (stat_of(pid, &parent, name, sizeof(name)))
		return 0;
	if (parent == vmm)
		return process_cpu_ns(pid, &ns) ? 0 : add(helpers, pid, TASK_OTHER, ns);
	/* It has the number of the thread that became the owner, which need not be the first. */
	owner = parent == KTHREADD ? numbered(name, "vhost-") : -1;
	if (owner < 0 || !tasks_find(of, (pid_t)owner))
		return 0;
	snprintf(dir, sizeof(dir), "/proc/%d", (int)pid);
	return cpu_of(dir, &ns) ? 0 : add(vhost, pid, TASK_VHOST, ns);
}

int tasks_beside(pid_t vmm, const struct tasks *of, struct tasks *helpers, struct tasks *vhost)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int rc = 0;

	*helpers = *vhost = (struct tasks){0};
	while (dir && !rc && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			rc = add_process((pid_t)atoi(entry->d_name), vmm, of, helpers, vhost);
	if (dir)
		closedir(dir);
	if (rc) {
		tasks_free(helpers);
		tasks_free(vhost);
	}
	return rc;
}

int process_cpu_ns(pid_t pid, uint64_t *out)
{
	clockid_t clock;
	int rc = clock_getcpuclockid(pid, &clock);

	if (rc)
		return -rc;
	*out = clock_ns(clock);
	return 0;
}
