#include "compare/process_family.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare/process.h"
#include "compare/process_spawn.h"
#include "lib/cleanup.h"

#define END_MS 2000 /* how long a killed process may take */
#define PASSES 100

/* The first process of the namespace: it only is there, and takes what is left by those that end. */
static pid_t first;
static int first_fd = -1;

static void __attribute__((noreturn)) be_first(int parent)
{
	sigset_t all;

	/* The kernel kills it with its parent, and then everything else in its namespace. */
	if (process_die_with(parent))
		_exit(1);
	setsid();
	signal(SIGCHLD, SIG_IGN); /* nobody stays a zombie */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "compare-first");
	close_range(0, UINT_MAX, 0);
	for (;;)
		pause();
}

int process_confine(void)
{
	CLEANUP_FD int parent = pidfd_open(getpid(), 0);
	pid_t pid;

	if (parent < 0)
		return -errno;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid)
		be_first(parent);
	if (pid < 0)
		return -errno;
	first = pid;
	first_fd = pidfd_open(pid, 0);
	return first_fd < 0 ? -errno : 0;
}

int family_namespace(void)
{
	return first_fd;
}

void family_adopt(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* False: it is no more. */
static bool parent_of(pid_t pid, pid_t *parent, pid_t *session)
{
	char path[32], text[512], *p;
	CLEANUP_FD int fd = -1;
	int ppid, sid;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strrchr(text, ')'); /* its name may hold anything */
	if (!p || sscanf(p, ") %*c %d %*d %d", &ppid, &sid) != 2)
		return false;
	*parent = ppid;
	*session = sid;
	return true;
}

/* Children of ours that we have not started.  What else this process may have forked is in its own session,
 * which nobody is who was started here. */
static bool is_orphan(pid_t pid, bool (*known)(pid_t pid))
{
	pid_t parent, session;

	return parent_of(pid, &parent, &session) && pid != first && !known(pid) && session != getsid(0) &&
	       (parent == getpid() || (first && parent == first));
}

static void end_orphan(pid_t pid, bool (*known)(pid_t pid))
{
	CLEANUP_FD int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	/* The pid may be another's by now; the pidfd cannot. */
	if (fd < 0 || !is_orphan(pid, known))
		return;
	pidfd_send_signal(fd, SIGKILL, NULL, 0);
	poll(&p, 1, END_MS);
	waitpid(pid, NULL, WNOHANG); /* where it came to us */
}

static bool end_pass(bool (*known)(pid_t pid))
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	while (d && (entry = readdir(d))) {
		const pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;

		if (pid && is_orphan(pid, known)) {
			end_orphan(pid, known);
			found = true;
		}
	}
	if (d)
		closedir(d);
	return found;
}

void family_end_orphans(bool (*known)(pid_t pid))
{
	for (int i = 0; i < PASSES && end_pass(known); i++)
		; /* the children of an orphan are orphans then */
}
