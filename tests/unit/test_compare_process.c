/* Programs that are started: their output, their end, and that nothing is left of them. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare/process.h"
#include "compare/process_spawn.h"
#include "lib/clock.h"
#include "tests/unit/open_fds.h"

#define LONG_MS 30000 /* what takes this long hangs */

/* "ringlet" is this program again. */
__attribute__((constructor)) static void be_ringlet(int argc, char *argv[])
{
	if (argc == 2 && !strcmp(argv[0], "ringlet") && !strcmp(argv[1], "hello")) {
		puts("this very binary");
		exit(3);
	}
}

TestSuite(compare_process, .timeout = 100);

static struct process *start(char *const argv[], int cpu)
{
	struct err e = {0};
	struct process *p;

	cr_assert_eq(process_start(&p, argv, cpu, &e), 0, "%s", e.text);
	return p;
}

static struct process *shell(const char *script)
{
	return start((char *[]){"sh", "-c", (char *)(uintptr_t)script, NULL}, -1);
}

static const char *line(struct process *p)
{
	const char *text = NULL;

	cr_assert_eq(process_line(p, LONG_MS, &text), 1);
	return text;
}

static void no_more(struct process *p)
{
	const char *text;

	cr_expect_eq(process_line(p, LONG_MS, &text), 0);
}

static unsigned ms_since(uint64_t begin)
{
	return (unsigned)((clock_ns(CLOCK_MONOTONIC) - begin) / 1000000);
}

/* How many processes have this among their arguments. */
static unsigned count(const char *mark)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(d))) {
		char path[300], text[4096];
		ssize_t len;
		int fd;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		fd = open(path, O_RDONLY);
		len = fd < 0 ? 0 : read(fd, text, sizeof(text));
		if (fd >= 0)
			close(fd);
		n += len > 0 && memmem(text, (size_t)len, mark, strlen(mark));
	}
	closedir(d);
	return n;
}

static bool becomes(const char *mark, unsigned n)
{
	for (int i = 0; i < 500; i++) {
		if (count(mark) == n)
			return true;
		usleep(10000);
	}
	return false;
}

static void mark_of(char mark[32])
{
	snprintf(mark, 32, "8999.%07d", (int)getpid()); /* seconds, for sleep */
}

static void read_proc(pid_t pid, const char *what, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s", path);
	n = read(fd, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* --- lines --- */

Test(compare_process, lines_come_whole)
{
	struct process *p =
		shell("printf 'fi'; sleep 0.2; printf 'rst\\r\\n\\nth'; sleep 0.2; printf 'i\\0rd\\nlast'");

	cr_expect_str_eq(line(p), "first");
	cr_expect_str_eq(line(p), "");
	cr_expect_str_eq(line(p), "third");
	cr_expect_str_eq(line(p), "last");
	no_more(p);
	no_more(p);
	cr_expect_eq(process_wait(p, LONG_MS), 0);
	process_stop(p, 0);
}

Test(compare_process, a_line_is_waited_for_so_long_and_no_longer)
{
	struct process *p = shell("printf half; sleep 100");
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	const char *text;

	cr_expect_eq(process_line(p, 300, &text), -ETIMEDOUT);
	cr_expect(ms_since(begin) >= 300 && ms_since(begin) < 5000, "%u", ms_since(begin));
	cr_expect_eq(process_line(p, 0, &text), -ETIMEDOUT);
	process_stop(p, 0);
}

Test(compare_process, a_line_that_is_there_takes_no_time)
{
	struct process *p = shell("echo there");
	const char *text;

	usleep(500000);
	cr_assert_eq(process_line(p, 0, &text), 1);
	cr_expect_str_eq(text, "there");
	process_stop(p, 0);
}

Test(compare_process, long_lines_are_cut)
{
	struct process *p = shell("head -c 300000 /dev/zero | tr '\\0' x; echo; echo after");
	const char *text = line(p);

	cr_expect_eq(strlen(text), (64 << 10) - 1);
	cr_expect_eq(strspn(text, "x"), strlen(text));
	cr_expect_str_eq(line(p), "after");
	no_more(p);
	process_stop(p, 0);
}

Test(compare_process, a_line_stays_while_others_are_waited_for)
{
	struct process *p = shell("seq 100000"), *q = shell("sleep 0.5; echo x");
	const char *text = line(p);

	line(q);
	cr_expect_str_eq(text, "1");
	process_stop(p, 0);
	process_stop(q, 0);
}

/* --- output that nobody takes --- */

Test(compare_process, nobody_blocks_on_what_is_not_read)
{
	struct process *floods = shell("yes out | head -n 10000000; yes err | head -n 10000000 >&2; echo last"),
		       *slow = shell("for i in 1 2 3; do sleep 0.2; echo $i; done");
	char last[16] = "";
	const char *text;
	size_t bytes = 0;

	for (char i = '1'; i <= '3'; i++)
		cr_expect_eq(line(slow)[0], i);
	cr_expect_eq(process_wait(slow, LONG_MS), 0);
	cr_expect_eq(process_wait(floods, LONG_MS), 0);
	while (process_line(floods, 0, &text) == 1) {
		cr_assert(!strcmp(text, "out") || !strcmp(text, "last"), "%s", text);
		bytes += strlen(text) + 1;
		snprintf(last, sizeof(last), "%s", text);
	}
	cr_expect(bytes <= 1 << 20 && bytes >= 1 << 19, "%zu", bytes);
	cr_expect_str_eq(last, "last");
	process_stop(slow, 0);
	process_stop(floods, 0);
}

/* One goes on only when the other has got rid of all that it writes. */
Test(compare_process, all_are_read_while_one_is_waited_for)
{
	char dir[] = "/tmp/test_compare_process.XXXXXX", writes[256], waits[256];
	struct process *p, *q;

	cr_assert(mkdtemp(dir));
	snprintf(writes, sizeof(writes), "seq 100000; seq 100000 >&2; >%s/done; exec sleep 100", dir);
	snprintf(waits, sizeof(waits), "until rm %s/done; do sleep 0.05; done 2>&-; rmdir %s; echo done", dir,
		 dir);
	p = shell(writes);
	q = shell(waits);
	cr_expect_str_eq(line(q), "done");
	process_stop(q, 0);
	process_stop(p, 1000);
}

Test(compare_process, one_that_never_ends_its_output_keeps_nobody)
{
	struct process *p = shell("exec yes"), *q = shell("sleep 0.3; echo done; exec sleep 100");
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	const char *text;

	cr_expect_str_eq(line(q), "done");
	cr_expect_eq(process_line(q, 200, &text), -ETIMEDOUT);
	cr_expect_eq(process_wait(p, 200), -ETIMEDOUT);
	process_stop(p, 5000);
	process_stop(q, 5000);
	cr_expect_lt(ms_since(begin), 10000);
}

Test(compare_process, the_end_of_stderr_is_kept)
{
	struct process *p = shell("seq 300000 >&2; echo 'the last words' >&2; echo >&2");
	const char *text;

	cr_expect_eq(process_wait(p, LONG_MS), 0);
	text = process_complaint(p);
	cr_expect(strlen(text) > 4000 && strlen(text) <= 4096, "%zu", strlen(text));
	cr_expect_str_eq(text + strlen(text) - 14, "the last words");
	cr_expect_eq(strcspn(text, "\n"), 6, "the first line is not whole: %.20s", text);
	process_stop(p, 0);
}

Test(compare_process, a_complaint_is_there_before_the_end)
{
	struct process *p = shell("echo wrong >&2; echo said; sleep 100");

	line(p);
	cr_expect_str_eq(process_complaint(p), "wrong");
	process_stop(p, 0);
}

/* --- the end --- */

Test(compare_process, how_it_ended)
{
	struct process *p = shell("exit 7"), *q = shell("kill -9 $$"), *r = shell("sleep 100");

	cr_expect_eq(process_wait(r, 0), -ETIMEDOUT);
	cr_expect_eq(process_wait(r, 200), -ETIMEDOUT);
	cr_expect_eq(process_wait(p, LONG_MS), 7);
	cr_expect_eq(process_wait(p, 0), 7);
	cr_expect_eq(process_wait(q, LONG_MS), 128 + 9);
	process_stop(p, 0);
	process_stop(q, 0);
	process_stop(r, 0);
	process_stop(NULL, 0);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_expect_eq(errno, ECHILD);
}

Test(compare_process, children_are_seen_where_their_end_was_ignored)
{
	struct process *p;

	signal(SIGCHLD, SIG_IGN);
	p = shell("exit 7");
	cr_expect_eq(process_wait(p, LONG_MS), 7);
	process_stop(p, 0);
}

Test(compare_process, one_may_close_stdout_and_live_on)
{
	struct process *p = shell("echo hi; exec >&-; exec 2>&-; sleep 100");
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	clock_t cpu = clock();

	cr_expect_str_eq(line(p), "hi");
	no_more(p);
	cr_expect_eq(process_wait(p, 500), -ETIMEDOUT);
	cr_expect_lt((unsigned)((clock() - cpu) * 1000 / CLOCKS_PER_SEC), 200, "it does not wait, it polls");
	process_stop(p, LONG_MS);
	cr_expect_lt(ms_since(begin), 5000);
}

Test(compare_process, one_has_ended_whoever_holds_its_stdout)
{
	char mark[32], script[128];
	struct process *p;

	mark_of(mark);
	snprintf(script, sizeof(script), "setsid sleep %s & echo hi", mark);
	p = shell(script);
	cr_expect_str_eq(line(p), "hi");
	no_more(p);
	cr_expect_eq(process_wait(p, LONG_MS), 0);
	process_stop(p, 0);
	cr_expect_eq(count(mark), 0, "what it had started lives on");
}

Test(compare_process, its_group_ends_with_it)
{
	char mark[32], script[128];
	struct process *p;

	mark_of(mark);
	snprintf(script, sizeof(script), "sleep %s & sleep 0.3", mark);
	p = shell(script);
	cr_expect_eq(process_wait(p, LONG_MS), 0);
	cr_expect(becomes(mark, 0));
	process_stop(p, 0);
}

Test(compare_process, stop_is_gentle_first)
{
	struct process *p = shell("trap 'echo end >&2; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);

	line(p);
	process_stop(p, LONG_MS);
	cr_expect_lt(ms_since(begin), 5000);
}

Test(compare_process, stop_is_not_gentle_for_ever)
{
	struct process *p = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
	const pid_t pid = process_pid(p);
	uint64_t begin;

	line(p);
	begin = clock_ns(CLOCK_MONOTONIC);
	process_stop(p, 400);
	cr_expect(ms_since(begin) >= 400 && ms_since(begin) < 5000, "%u", ms_since(begin));
	cr_expect_eq(kill(pid, 0), -1);
}

Test(compare_process, stop_takes_all_that_it_started)
{
	char mark[32], script[256];
	struct process *p, *other;

	mark_of(mark);
	other = shell("sleep 100");
	/* In its group, in a session of its own, and of one that has ended. */
	snprintf(script, sizeof(script),
		 "sleep %s & setsid sleep %s & (setsid sh -c 'sleep %s & setsid sleep %s & sleep %s' &); wait",
		 mark, mark, mark, mark, mark);
	p = shell(script);
	cr_assert(becomes(mark, 7), "%u", count(mark)); /* five, and two shells that name them */
	process_stop(p, 1000);
	cr_expect_eq(count(mark), 0);
	cr_expect_eq(process_wait(other, 0), -ETIMEDOUT, "that was another's");
	process_stop(other, 0);
}

Test(compare_process, stop_spares_the_children_of_others)
{
	struct process *p = shell("sleep 100");
	const pid_t child = fork();
	int status;

	if (!child)
		for (;;)
			pause();
	process_stop(p, 0);
	usleep(100000);
	cr_expect_eq(waitpid(child, &status, WNOHANG), 0);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

/* --- what a program is given --- */

Test(compare_process, ringlet_is_this_binary)
{
	struct process *p = start((char *[]){"ringlet", "hello", NULL}, -1);

	cr_expect_str_eq(process_name(p), "ringlet hello");
	cr_expect_str_eq(line(p), "this very binary");
	cr_expect_eq(process_wait(p, LONG_MS), 3);
	process_stop(p, 0);
}

Test(compare_process, has_the_default_signals)
{
	struct process *p;
	char text[8192];
	sigset_t all;

	signal(SIGUSR1, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	p = start((char *[]){"sleep", "100", NULL}, -1);
	read_proc(process_pid(p), "status", text, sizeof(text));
	cr_expect(strstr(text, "SigBlk:\t0000000000000000"), "%s", text);
	cr_assert(strstr(text, "SigIgn:"));
	cr_expect_eq(strtoull(strstr(text, "SigIgn:") + 7, NULL, 16) & INT32_MAX, 0, "%s", text);
	process_stop(p, 0);
}

Test(compare_process, has_three_descriptors_and_its_own_session)
{
	const int leaks = dup(STDERR_FILENO); /* not close-on-exec */
	struct process *p = start((char *[]){"sleep", "100", NULL}, -1);
	char path[300], link[64] = "";
	unsigned n = 0;
	struct dirent *entry;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)process_pid(p));
	d = opendir(path);
	while ((entry = readdir(d)))
		n += entry->d_name[0] != '.';
	closedir(d);
	cr_expect_eq(n, 3);
	snprintf(path, sizeof(path), "/proc/%d/fd/0", (int)process_pid(p));
	cr_expect_gt(readlink(path, link, sizeof(link) - 1), 0);
	cr_expect_str_eq(link, "/dev/null");
	cr_expect_eq(getsid(process_pid(p)), process_pid(p));
	process_stop(p, 0);
	close(leaks);
}

Test(compare_process, descriptors_are_right_where_ours_are_closed)
{
	const int saved[] = {dup(0), dup(1), dup(2)};
	char got[64] = "", complaint[64] = "";
	struct process *p = NULL;
	const char *text;
	int rc;

	for (int i = 0; i < 3; i++)
		close(i);
	rc = process_start(&p, (char *[]){"sh", "-c", "echo out; echo err >&2; cat; echo end", NULL}, -1, NULL);
	while (!rc && process_line(p, LONG_MS, &text) == 1)
		strncat(got, text, sizeof(got) - strlen(got) - 1);
	if (!rc) {
		rc = process_wait(p, LONG_MS);
		strncpy(complaint, process_complaint(p), sizeof(complaint) - 1);
	}
	process_stop(p, 0);
	for (int i = 0; i < 3; i++)
		dup2(saved[i], i);
	cr_expect_eq(rc, 0);
	cr_expect_str_eq(got, "outend");
	cr_expect_str_eq(complaint, "err");
}

Test(compare_process, runs_where_it_is_told_to)
{
	struct process *p = start((char *[]){"sleep", "100", NULL}, 0);
	char text[8192];

	read_proc(process_pid(p), "status", text, sizeof(text));
	cr_expect(strstr(text, "Cpus_allowed_list:\t0\n"), "%s", text);
	process_stop(p, 0);
}

static void refused(char *const argv[], int cpu, int code, const char *words)
{
	struct err e = {0};
	struct process *p;

	cr_expect_eq(process_start(&p, argv, cpu, &e), code, "%d", e.code);
	cr_expect_eq(e.code, code);
	cr_expect(strstr(e.text, words), "%s", e.text);
}

Test(compare_process, what_cannot_be_started_is_told)
{
	const unsigned fds = open_fds();
	char dir[] = "/tmp/test_compare_process.XXXXXX", bad[64];
	struct err e = {0};
	int fd;

	refused((char *[]){"no-such-program", NULL}, -1, -ENOENT, "no program \"no-such-program\" in PATH");
	refused((char *[]){"/no/such/program", NULL}, -1, -ENOENT, "no program \"/no/such/program\"");
	refused((char *[]){"/etc/passwd", NULL}, -1, -ENOENT, "no program");
	refused((char *[]){"/tmp", NULL}, -1, -ENOENT, "no program");
	refused((char *[]){"sleep", "1", NULL}, 1000, -EINVAL, "sleep: it cannot run on processor 1000: ");
	refused((char *[]){"sleep", "1", NULL}, 5000, -EINVAL, "sleep: it cannot run on processor 5000: ");
	cr_assert(mkdtemp(dir));
	snprintf(bad, sizeof(bad), "%s/bad", dir);
	fd = open(bad, O_WRONLY | O_CREAT, 0755);
	cr_assert_eq(write(fd, "\x7f", 1), 1);
	close(fd);
	refused((char *[]){bad, NULL}, -1, -ENOEXEC, "cannot be run: Exec format error");
	cr_expect_eq(process_run(&e, (char *[]){bad, NULL}), -EIO);
	cr_expect(strstr(e.text, "Exec format error"), "%s", e.text);
	unlink(bad);
	rmdir(dir);
	cr_expect_eq(open_fds(), fds);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1);
}

Test(compare_process, programs_of_administrators_are_found)
{
	cr_assert(process_exists("sh"));
	cr_expect_not(process_exists("no-such-program"));
	setenv("PATH", "/nonexistent::relative", 1);
	cr_expect(process_exists("sh"));
	cr_expect(process_exists("ip"));
	cr_expect_not(process_exists("no-such-program"));
	unsetenv("PATH");
	cr_expect(process_exists("ip"));
}

/* --- tools --- */

Test(compare_process, tools)
{
	struct err e = {0};

	cr_expect_eq(PROCESS_RUN(&e, "true"), 0);
	cr_expect_eq(PROCESS_RUN(&e, "sh", "-c", "echo all; echo words >&2; exit 4"), -EIO);
	cr_expect_str_eq(e.text, "sh -c echo all; echo words >&2; exit 4: it ended with status 4: all\nwords");
	cr_expect_eq(PROCESS_RUN(&e, "sh", "-c", "kill -15 $$"), -EIO);
	cr_expect(strstr(e.text, "it ended with signal 15"), "%s", e.text);
	cr_expect_eq(PROCESS_RUN(&e, "no-such-program"), -ENOENT);
	cr_expect(strstr(e.text, "no-such-program"), "%s", e.text);
	cr_expect_eq(PROCESS_RUN(NULL, "no-such-program"), -ENOENT);
	cr_expect_eq(PROCESS_RUN(NULL, "false"), -EIO);
	cr_expect_eq(PROCESS_RUN(&e, "sh", "-c", "yes | head -c 3000000"), 0);
}

Test(compare_process, descriptors_stay_as_many)
{
	struct process *p = shell("exit 0");
	unsigned fds;

	process_stop(p, 0);
	fds = open_fds();
	for (int i = 0; i < 200; i++) {
		p = start((char *[]){"sleep", "100", NULL}, -1);
		process_stop(p, 1000);
		if (i % 10 == 0)
			cr_expect_eq(PROCESS_RUN(NULL, "true"), 0);
	}
	cr_expect_eq(open_fds(), fds);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1);
}

Test(compare_process, so_many_and_no_more)
{
	struct process *p[PROCESS_MAX];

	for (int i = 0; i < PROCESS_MAX; i++)
		p[i] = start((char *[]){"sleep", "100", NULL}, -1);
	refused((char *[]){"sleep", "100", NULL}, -1, -EMFILE, "64 programs run already");
	for (int i = 0; i < PROCESS_MAX; i++)
		process_stop(p[i], 1000);
}

/* --- signals --- */

Test(compare_process, a_signal_that_came_before_ends_every_wait)
{
	const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct process *p = shell("echo there; sleep 100");
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	const char *text;

	process_catch_signals();
	for (int i = 0; i < 3; i++)
		raise(signals[i]); /* none of which ends this */
	cr_expect_eq(process_line(p, LONG_MS, &text), -ECANCELED);
	cr_expect_eq(process_wait(p, LONG_MS), -ECANCELED);
	cr_expect(process_interrupted());
	cr_expect_eq(PROCESS_RUN(NULL, "sleep", "0.2"), 0);
	process_stop(p, LONG_MS);
	cr_expect_lt(ms_since(begin), 5000);
}

static void signal_later(int signal, unsigned ms)
{
	const pid_t parent = getpid(), pid = fork();

	if (!pid) {
		usleep(ms * 1000);
		kill(parent, signal);
		_exit(0);
	}
}

Test(compare_process, a_signal_ends_a_wait)
{
	struct process *p = shell("trap '' TERM; while :; do sleep 0.05; done");
	const pid_t pid = process_pid(p);
	uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	const char *text;

	process_catch_signals();
	cr_expect_not(process_interrupted());
	signal_later(SIGINT, 300);
	cr_expect_eq(process_line(p, LONG_MS, &text), -ECANCELED);
	cr_expect(ms_since(begin) >= 250 && ms_since(begin) < 5000, "%u", ms_since(begin));
	/* One that ignores SIGTERM is given its time still. */
	begin = clock_ns(CLOCK_MONOTONIC);
	process_stop(p, 400);
	cr_expect(ms_since(begin) >= 400 && ms_since(begin) < 5000, "%u", ms_since(begin));
	cr_expect_eq(kill(pid, 0), -1);
}

Test(compare_process, nohup_is_obeyed)
{
	signal(SIGHUP, SIG_IGN);
	process_catch_signals();
	raise(SIGHUP);
	cr_expect_not(process_interrupted());
	raise(SIGTERM);
	cr_expect(process_interrupted());
}

/* --- when this process is killed --- */

/* A process that has started `script` is killed.  How many with this mark were left 5 s later. */
static unsigned left_by_killed(bool confine, const char *script, const char *mark, unsigned expected)
{
	unsigned left;
	pid_t parent;
	int status;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* so that what is left can be ended */
	parent = fork();
	if (!parent) {
		struct process *p;

		if (confine && process_confine())
			_exit(1);
		if (process_start(&p, (char *[]){"sh", "-c", (char *)(uintptr_t)script, NULL}, -1, NULL))
			_exit(2);
		sleep(60);
		_exit(3);
	}
	cr_assert(becomes(mark, expected), "%u", count(mark));
	kill(parent, SIGKILL);
	waitpid(parent, &status, 0);
	cr_assert(WIFSIGNALED(status), "%#x", status);
	becomes(mark, 0);
	left = count(mark);
	return left;
}

Test(compare_process, nothing_outlives_a_killed_process)
{
	char mark[32], script[256];

	mark_of(mark);
	snprintf(script, sizeof(script), "trap '' TERM INT HUP; exec sleep %s", mark);
	cr_expect_eq(left_by_killed(false, script, mark, 1), 0);
}

Test(compare_process, not_even_daemons_outlive_a_killed_process)
{
	char mark[32], script[256];

	if (geteuid())
		cr_skip_test("takes root");
	mark_of(mark);
	snprintf(script, sizeof(script), "setsid sleep %s & (setsid setsid sleep %s &); exec sleep %s", mark,
		 mark, mark);
	cr_expect_eq(left_by_killed(true, script, mark, 3), 0);
}

Test(compare_process, a_parent_that_has_ended_before_is_seen)
{
	const pid_t parent = fork();
	int pidfd, self, status;

	if (!parent)
		_exit(0);
	pidfd = pidfd_open(parent, 0);
	waitpid(parent, &status, 0);
	cr_expect_eq(process_die_with(pidfd), -ESRCH);
	self = pidfd_open(getpid(), 0);
	cr_expect_eq(process_die_with(self), 0);
	prctl(PR_SET_PDEATHSIG, 0);
	close(pidfd);
	close(self);
}

/* --- in a namespace --- */

Test(compare_process, all_is_the_same_in_a_namespace)
{
	char mark[32], script[256];
	struct process *p;
	unsigned fds;

	if (geteuid())
		cr_skip_test("takes root");
	cr_assert_eq(unshare(CLONE_NEWNS), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0); /* as on many hosts */
	cr_assert_eq(process_confine(), 0);
	p = shell("cat /proc/$$/comm; readlink /proc/self/exe >&2; trap 'exit 7' USR1; echo ready; "
		  "while :; do sleep 0.05; done");
	cr_expect_str_eq(line(p), "sh", "/proc is not its own");
	cr_expect_str_eq(line(p), "ready");
	cr_expect_eq(getsid(process_pid(p)), process_pid(p));
	cr_expect(strstr(process_complaint(p), "/readlink") || strstr(process_complaint(p), "/coreutils"), "%s",
		  process_complaint(p));
	kill(process_pid(p), SIGUSR1);
	cr_expect_eq(process_wait(p, LONG_MS), 7);
	process_stop(p, 0);
	cr_expect_eq(access("/proc/self/stat", F_OK), 0);
	refused((char *[]){"/no/such/program", NULL}, -1, -ENOENT, "no program");
	refused((char *[]){"sleep", "1", NULL}, 1000, -EINVAL, "processor 1000");

	/* Orphans come to the first process there. */
	mark_of(mark);
	snprintf(script, sizeof(script), "(setsid setsid sleep %s &); echo hi; setsid sleep %s", mark, mark);
	p = shell(script);
	line(p);
	cr_assert(becomes(mark, 3), "%u", count(mark));
	process_stop(p, 1000);
	cr_expect_eq(count(mark), 0);

	fds = open_fds();
	for (int i = 0; i < 50; i++)
		process_stop(start((char *[]){"sleep", "100", NULL}, -1), 1000);
	cr_expect_eq(open_fds(), fds);
}
