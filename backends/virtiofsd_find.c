/* #syscalls[setup]: clone wait4 kill pipe2 poll execve */
/* Which virtiofsd there is. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/virtiofsd_parts.h"
#include "lib/cleanup.h"
#include "lib/clock.h"

#define HELP_MS   5000
#define HELP_SIZE (64u << 10)

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

static bool in_path(char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");

	for (const char *at = dirs ? dirs : ""; *at;) {
		size_t n = strcspn(at, ":");

		if (n && *at == '/' && snprintf(path, PATH_MAX, "%.*s/virtiofsd", (int)n, at) < PATH_MAX &&
		    is_program(path))
			return true;
		at += n + (at[n] == ':');
	}
	return false;
}

static int look(char path[PATH_MAX], struct err *e)
{
	static const char *const places[] = {"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd",
					     "/usr/lib/qemu/virtiofsd"};
	const char *named = getenv("RINGLET_VIRTIOFSD");

	if (named && *named) {
		if (snprintf(path, PATH_MAX, "%s", named) < PATH_MAX && is_program(path))
			return 0;
		return err_set(e, -ENOENT,
			       "RINGLET_VIRTIOFSD=%s is no program that can be run\nUnset it, or name one",
			       named);
	}
	if (in_path(path))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (is_program(places[i])) {
			snprintf(path, PATH_MAX, "%s", places[i]);
			return 0;
		}
	return err_set(e, -ENOENT,
		       "a directory is served to the guest by virtiofsd, and there is none in PATH, "
		       "/usr/libexec, /usr/lib "
		       "or /usr/lib/qemu\n"
		       "Install it: apt install virtiofsd (Debian 13, Ubuntu 24.04) or qemu-system-common "
		       "(Debian 12); or "
		       "name it with RINGLET_VIRTIOFSD=FILE");
}

static int say_help(const void *path)
{
	char *argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t) "--help", NULL};

	execv(argv[0], argv);
	fprintf(stderr, "%s", strerror(errno));
	return 127;
}

static void read_all(int fd, char *buf, size_t size)
{
	const uint64_t until = clock_ns(CLOCK_MONOTONIC) + HELP_MS * UINT64_C(1000000);
	size_t used = 0;

	while (used < size - 1) {
		const uint64_t now = clock_ns(CLOCK_MONOTONIC);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n = now < until ? poll(&p, 1, (int)((until - now) / 1000000) + 1) : 0;

		if (n > 0)
			n = read(fd, buf + used, size - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
}

int virtiofsd_find(struct virtiofsd_program *p, struct err *e)
{
	CLEANUP_FREE char *help = malloc(HELP_SIZE);
	CLEANUP_FD int out = -1;
	int rc = look(p->path, e), status = 0;
	pid_t pid;

	if (rc)
		return rc;
	if (!help)
		return err_set(e, -ENOMEM, "out of memory");
	pid = virtiofsd_fork(-1, &out, say_help, p->path);
	if (pid < 0)
		return err_set(e, (int)pid, "%s cannot be started: %s", p->path, strerror((int)-pid));
	read_all(out, help, HELP_SIZE);
	kill(-pid, SIGKILL); /* one that does not end by itself */
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	p->can_read_only = strstr(help, "--readonly") != NULL;
	p->tells_submounts = strstr(help, "--no-announce-submounts") != NULL;
	if (strstr(help, "--shared-dir") && strstr(help, "--fd")) {
		p->kind = VIRTIOFSD_RUST;
		return 0;
	}
	p->kind = VIRTIOFSD_C;
	if (strstr(help, "-o source=") && strstr(help, "--fd="))
		return geteuid() ? err_set(e, -EPERM,
					   "%s, the one in C, serves a directory for root only\n"
					   "Run ringlet with sudo, or install the one in Rust: apt install "
					   "virtiofsd "
					   "(Debian 13, Ubuntu 24.04)",
					   p->path)
				 : 0;
	help[strcspn(help, "\n")] = '\0';
	return err_set(
		e, -ENOEXEC,
		"%s is no virtiofsd known here: its --help has neither --shared-dir nor -o source= (it says: "
		"%.200s)\nName another with RINGLET_VIRTIOFSD=FILE",
		p->path, help);
}
