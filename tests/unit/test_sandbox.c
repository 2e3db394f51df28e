/* What a confined thread may do and may not, by its kind; and that the filters hold what the comments say. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/file_uring.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/thread.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NEEDS_FILTER() cr_skip_test("no filter is loaded beside a sanitizer")
#else
#define NEEDS_FILTER()
#endif

#define BIT(kind) (1u << THREAD_##kind)

/* --- calls that nobody needs, or few --- */

static void do_open(void)
{
	syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDWR);
}

static void do_open_old(void)
{
	syscall(SYS_open, "/etc/passwd", O_RDONLY);
}

static void do_socket(void)
{
	syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void do_unix_socket(void)
{
	syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}

static void do_packet_socket(void)
{
	syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0);
}

static void do_connect(void)
{
	const struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};

	syscall(SYS_connect, 0, &a, sizeof(a));
}

static void do_ring(void)
{
	struct io_uring_params p = {0};

	syscall(SYS_io_uring_setup, 1, &p);
}

static void do_exec(void)
{
	char *argv[] = {"true", NULL};

	syscall(SYS_execve, "/bin/true", argv, NULL);
}

static void do_ptrace(void)
{
	syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static void do_fork(void)
{
	syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void do_exec_memory(void)
{
	syscall(SYS_mmap, 0, 4096, 7 /* PROT_EXEC and more */, 0x22, -1, 0);
}

static void do_kill_others(void)
{
	syscall(SYS_tgkill, 1, 1, 0);
}

static void do_read_others(void)
{
	syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
}

static void do_ioctl(void)
{
	syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x");
}

static void do_bpf(void)
{
	syscall(SYS_bpf, 0, NULL, 0);
}

static void do_mount(void)
{
	syscall(SYS_mount, "none", "/", NULL, 0, NULL);
}

static const struct forbidden {
	void (*fn)(void);
	const char *name;
	unsigned but; /* kinds that may */
} forbidden[] = {
	{do_open, "openat", 0},
	{do_open_old, "open", 0},
	{do_socket, "socket", BIT(SLIRP)},
	{do_unix_socket, "socket", BIT(SLIRP) | BIT(CONNECT)},
	{do_packet_socket, "socket", 0},
	{do_connect, "connect", BIT(SLIRP) | BIT(CONNECT)},
	{do_ring, "io_uring_setup", 0},
	{do_exec, "execve", 0},
	{do_ptrace, "ptrace", 0},
	{do_fork, "clone", 0},
	{do_exec_memory, "mmap", 0},
	{do_kill_others, "tgkill", 0},
	{do_read_others, "process_vm_readv", 0},
	{do_ioctl, "ioctl", 0},
	{do_bpf, "bpf", 0},
	{do_mount, "mount", 0},
};

static void *offend(void *arg)
{
	((const struct forbidden *)arg)->fn();
	return NULL;
}

/* A process with one thread of this kind, which does that.  Its status; what it said on stderr. */
static int run(enum thread_kind kind, void *(*fn)(void *), const void *arg, char *said, size_t size)
{
	int out[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(out), 0);
	pid = fork();
	if (!pid) {
		struct err e = {0};
		pthread_t t;

		dup2(out[1], STDERR_FILENO);
		if (confine_begin(NULL, &e) || thread_start(&t, NULL, kind, fn, (void *)(uintptr_t)arg))
			_exit(99);
		pthread_join(t, NULL);
		_exit(0);
	}
	close(out[1]);
	while (len < size - 1 && (n = read(out[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(out[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

Test(sandbox, what_no_kind_needs_ends_each_with_a_sentence)
{
	char said[1024], want[64];

	NEEDS_FILTER();
	for (enum thread_kind k = THREAD_MAIN; k < THREAD_KINDS; k++)
		for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
			const struct forbidden *f = &forbidden[i];
			int status = run(k, offend, f, said, sizeof(said));

			if (f->but & (1u << k)) {
				cr_expect(WIFEXITED(status) && !WEXITSTATUS(status), "%s in %s: %#x, \"%s\"",
					  f->name, thread_kind_name(k), (unsigned)status, said);
				continue;
			}
			cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 125, "%s in %s: %#x", f->name,
				  thread_kind_name(k), (unsigned)status);
			snprintf(want, sizeof(want), "(%s)", f->name);
			cr_expect(strstr(said, want), "%s in %s: \"%s\"", f->name, thread_kind_name(k), said);
			snprintf(want, sizeof(want), "\"%s\"", thread_kind_name(k));
			cr_expect(strstr(said, want), "%s in %s: \"%s\"", f->name, thread_kind_name(k), said);
			cr_expect(strstr(said, "--sandbox off"), "\"%s\"", said);
		}
}

Test(sandbox, an_ioctl_is_told_by_its_number)
{
	const struct forbidden f = {do_ioctl, NULL, 0};
	char said[1024];

	NEEDS_FILTER();
	run(THREAD_VCPU, offend, &f, said, sizeof(said));
	cr_expect(strstr(said, "0x5412"), "\"%s\"", said);
}

/* --- what goes besides --- */

static void show(FILE *status)
{
	char line[128];

	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10) ||
		    !strncmp(line, "Seccomp:", 8))
			fprintf(stderr, "%s", line);
}

Test(sandbox, no_capability_and_no_new_privileges_are_left)
{
	char said[2048];
	int out[2], status;
	ssize_t n;
	pid_t pid;

	NEEDS_FILTER();
	cr_assert_eq(pipe(out), 0);
	pid = fork();
	if (!pid) {
		struct err e = {0};
		FILE *f = fopen("/proc/self/status", "r");

		dup2(out[1], STDERR_FILENO);
		if (!f || confine_begin(NULL, &e) || confine_thread(THREAD_MAIN, &e))
			_exit(99);
		show(f);
		_exit(0);
	}
	close(out[1]);
	n = read(out[0], said, sizeof(said) - 1);
	for (ssize_t more; n > 0 && (more = read(out[0], said + n, sizeof(said) - 1 - (size_t)n)) > 0;)
		n += more;
	said[n > 0 ? n : 0] = '\0';
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_expect(strstr(said, "CapPrm:\t0000000000000000"), "%s", said);
	cr_expect(strstr(said, "CapEff:\t0000000000000000"), "%s", said);
	cr_expect(strstr(said, "CapAmb:\t0000000000000000"), "%s", said);
	if (!geteuid())
		cr_expect(strstr(said, "CapBnd:\t0000000000000000"), "%s", said);
	cr_expect(strstr(said, "NoNewPrivs:\t1"), "%s", said);
	cr_expect(strstr(said, "Seccomp:\t2"), "%s", said);
	close(out[0]);
}

/* A vCPU's thread of a guest's second life. */
static void *start_another(void *arg)
{
	pthread_t t;

	if (thread_start(&t, NULL, THREAD_VCPU, offend, arg))
		_exit(98);
	pthread_join(t, NULL);
	return NULL;
}

Test(sandbox, who_is_confined_starts_threads_that_are)
{
	const struct forbidden f = {do_exec, NULL, 0};
	char said[1024];
	int status = run(THREAD_MAIN, start_another, &f, said, sizeof(said));

	NEEDS_FILTER();
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 125, "%#x", (unsigned)status);
	cr_expect(strstr(said, "\"vcpu\""), "\"%s\"", said);
}

Test(sandbox, off_is_off)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct err e = {0};

		confine_off();
		if (confine_begin(NULL, &e) || confine_thread(THREAD_CONSOLE, &e))
			_exit(99);
		_exit(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) || prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
}

/* --- rings --- */

static int find_ring(void)
{
	char path[64], is[64];

	for (int fd = 3; fd < 256; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, is, sizeof(is) - 1);
		if (n > 0 && (is[n] = '\0', strstr(is, "[io_uring]")))
			return fd;
	}
	return -1;
}

Test(sandbox, a_ring_made_beforehand_takes_no_other_orders)
{
	int status;
	pid_t pid;

	if (file_uring_allowed())
		cr_skip_test("no io_uring here");
	pid = fork();
	if (!pid) {
		struct err e = {0};
		char probe[4096] = {0};
		int fd;

		if (file_uring_reserve(1, 8) || find_ring() >= 0)
			_exit(97); /* nothing is to be confined yet */
		if (confine_begin(NULL, &e) || file_uring_reserve(1, 8) || (fd = find_ring()) < 0)
			_exit(99);
		if (!syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, probe, 256) || errno != EACCES)
			_exit(98);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "%#x", (unsigned)status);
}

/* --- the comments --- */

struct names {
	size_t n;
	char *name[4096];
};

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add(struct names *out, const char *kind, const char *word, const char *file)
{
	char line[512], shown[128];

	/* As scripts/syscalls.c shows a condition: the call and its argument. */
	snprintf(shown, sizeof(shown), "%s", word);
	if (strchr(shown, ':'))
		strchr(shown, ':')[2] = '\0';
	snprintf(line, sizeof(line), "%s %s %s", kind, shown, file);
	cr_assert_lt(out->n, ARRAY_SIZE(out->name));
	out->name[out->n++] = strdup(line);
}

/* Words of comments from a "#syscalls[...]:" on, until the comment's end, an empty line of it, or "--". */
static void read_comments(struct names *out, const char *file)
{
	static char text[1 << 18];
	FILE *f = fopen(file, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	cr_assert(f);
	fclose(f);
	text[n] = '\0';
	for (char *at = text; (at = strstr(at, "/*"));) {
		char *end = strstr(at, "*/"), *line, *rest = at + 2, kinds[128] = "";

		if (!end)
			break;
		*end = '\0';
		while ((line = strsep(&rest, "\n"))) {
			bool any = false;
			char *word;

			line += strspn(line, " \t");
			line += *line == '*';
			while ((word = strsep(&line, " \t"))) {
				if (!*word)
					continue;
				any = true;
				if (!strncmp(word, "#syscalls[", 10) || !strncmp(word, "#ioctls[", 8)) {
					snprintf(kinds, sizeof(kinds), "%s", strchr(word, '[') + 1);
					kinds[strcspn(kinds, "]")] = '\0';
				} else if (!strcmp(word, "--")) {
					kinds[0] = '\0';
				} else if (kinds[0]) {
					char copy[128], *k = copy, *kind;

					snprintf(copy, sizeof(copy), "%s", kinds);
					while ((kind = strsep(&k, ",")))
						add(out, kind, word, file);
				}
			}
			if (!any)
				kinds[0] = '\0';
		}
		at = end + 2;
	}
}

static void sort_once(struct names *names)
{
	size_t n = 0;

	qsort(names->name, names->n, sizeof(names->name[0]), compare);
	for (size_t i = 0; i < names->n; i++)
		if (!n || strcmp(names->name[n - 1], names->name[i]))
			names->name[n++] = names->name[i];
	names->n = n;
}

Test(sandbox, the_filters_are_what_the_comments_say)
{
	static const char *const dirs[] = {"lib", "vmm", "vmm/kvm", "devices/*", "backends", "servers"};
	static struct names said, made;
	size_t n;
	const struct confine_rule *r = confine_rules(&n);

	if (access("lib/confine.c", R_OK))
		cr_skip_test("not run from the sources' root");
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char command[128], file[PATH_MAX];
		FILE *list;

		snprintf(command, sizeof(command), "ls %s/*.c %s/*.h", dirs[i], dirs[i]);
		list = popen(command, "r");
		while (fgets(file, sizeof(file), list)) {
			file[strcspn(file, "\n")] = '\0';
			read_comments(&said, file);
		}
		pclose(list);
	}
	for (size_t i = 0; i < n; i++)
		add(&made, r[i].kind, r[i].name, r[i].file);
	sort_once(&said);
	sort_once(&made);
	cr_expect_gt(made.n, 100);
	for (size_t i = 0; i < said.n && i < made.n; i++)
		cr_assert_str_eq(said.name[i], made.name[i]);
	cr_expect_eq(said.n, made.n);
}
