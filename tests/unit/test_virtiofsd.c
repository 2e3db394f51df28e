/* virtiofsd by stand-ins: found, told apart, started with what it needs, ended with all it has started. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/virtiofsd.h"
#include "tests/unit/module_rig.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"
#include "vmm/evloop.h"

#define RUST_HELP                                                                                              \
	"case $1 in --help) echo '--shared-dir X --fd N --readonly --no-announce-submounts'; exit;; esac\n"
#define C_HELP "case $1 in --help) echo '-o source=PATH --fd=FDNUM'; exit;; esac\n"

static struct virtiofsd_program program;
static struct virtiofsd *v;
static struct err e;

static void setup(void)
{
	rig_make();
	rig_file("dir/file", "x");
	e = (struct err){0};
}

static void teardown(void)
{
	virtiofsd_stop(v);
	v = NULL;
	rig_remove();
}

TestSuite(virtiofsd, .init = setup, .fini = teardown_once, .timeout = 120);

/* A shell script by that name. */
static const char *script(const char *name, const char *body)
{
	static char text[2048];

	snprintf(text, sizeof(text), "#!/bin/sh\ncd '%s'\n%s", rig_dir, body);
	rig_file(name, text);
	cr_assert_eq(chmod(rig_path(name), 0755), 0);
	return rig_path(name);
}

static void use(const char *body)
{
	setenv("RINGLET_VIRTIOFSD", script("daemon", body), 1);
	cr_assert_eq(virtiofsd_find(&program, &e), 0, "%s", e.text);
}

static int start(bool writable)
{
	static char dir[256];
	const struct virtiofsd_config c = {
		.program = &program, .option = "--root", .source = dir, .writable = writable, .covered = true};

	snprintf(dir, sizeof(dir), "%s", rig_path("dir"));
	return virtiofsd_start(&v, &c, &e);
}

static void sleep_ms(unsigned ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* Its text once the stand-in has written it whole. */
static const char *wait_for(const char *name)
{
	static char text[4096];

	for (unsigned i = 0; i < 500; i++) {
		FILE *f = fopen(rig_path(name), "r");
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

		if (f)
			fclose(f);
		text[n] = '\0';
		if (n && text[n - 1] == '\n')
			return text;
		sleep_ms(10);
	}
	cr_assert(false, "%s was not written", name);
	return NULL;
}

/* --- which one --- */

WholeTest(virtiofsd, the_one_in_rust)
{
	use(RUST_HELP);
	cr_expect_eq(program.kind, VIRTIOFSD_RUST);
	cr_expect(program.can_read_only);
	cr_expect(program.tells_submounts);
}

WholeTest(virtiofsd, an_older_one_in_rust)
{
	use("echo '--shared-dir X --fd N'\n");
	cr_expect_eq(program.kind, VIRTIOFSD_RUST);
	cr_expect_not(program.can_read_only);
	cr_expect_not(program.tells_submounts);
}

WholeTest(virtiofsd, the_one_in_c)
{
	setenv("RINGLET_VIRTIOFSD", script("daemon", C_HELP), 1);
	if (geteuid()) {
		cr_expect_eq(virtiofsd_find(&program, &e), -EPERM);
		cr_expect(strstr(e.text, "sudo") && strstr(e.text, "apt install virtiofsd"), "%s", e.text);
		return;
	}
	cr_expect_eq(virtiofsd_find(&program, &e), 0, "%s", e.text);
	cr_expect_eq(program.kind, VIRTIOFSD_C);
}

WholeTest(virtiofsd, of_the_path)
{
	unsetenv("RINGLET_VIRTIOFSD");
	script("bin/virtiofsd", RUST_HELP);
	setenv("PATH", rig_path("bin"), 1);
	cr_expect_eq(virtiofsd_find(&program, &e), 0, "%s", e.text);
	cr_expect_str_eq(program.path, rig_path("bin/virtiofsd"));
	setenv("PATH", "/usr/bin:/bin", 1);
}

WholeTest(virtiofsd, none)
{
	setenv("RINGLET_VIRTIOFSD", "/nowhere/virtiofsd", 1);
	cr_expect_eq(virtiofsd_find(&program, &e), -ENOENT);
	cr_expect(strstr(e.text, "RINGLET_VIRTIOFSD=/nowhere/virtiofsd"), "%s", e.text);
}

WholeTest(virtiofsd, something_else)
{
	setenv("RINGLET_VIRTIOFSD", script("daemon", "echo 'usage: frobnicate'\n"), 1);
	cr_expect_eq(virtiofsd_find(&program, &e), -ENOEXEC);
	cr_expect(strstr(e.text, "frobnicate"), "%s", e.text);
}

/* --- started --- */

WholeTest(virtiofsd, what_it_is_told)
{
	use(RUST_HELP "echo \"$*\" >told\nsleep 1000\n");
	cr_assert_eq(start(false), 0, "%s", e.text);
	const char *told = wait_for("told");

	cr_expect(strstr(told, "--fd=3 --shared-dir=/"), "%s", told);
	cr_expect(strstr(told, " --readonly"), "%s", told);
	cr_expect(strstr(told, "--no-announce-submounts"), "%s", told);
	cr_expect(strstr(told, geteuid() ? "--sandbox=" : "--sandbox=namespace"), "%s", told);
}

WholeTest(virtiofsd, read_only_is_the_kernels_word)
{
	if (geteuid())
		cr_skip_test("a mount namespace wants root");
	use(RUST_HELP
	    "for a; do case $a in --shared-dir=*) d=${a#*=};; esac; done\n"
	    "(echo x >\"$d/written\") 2>/dev/null && echo wrote >told || echo refused >told\nsleep 1000\n");
	cr_assert_eq(start(false), 0, "%s", e.text);
	/* Beside the directory it may write: only that is the namespace's. */
	cr_expect_str_eq(wait_for("told"), "refused\n");
	virtiofsd_stop(v);
	rig_run("rm told");
	cr_assert_eq(start(true), 0, "%s", e.text);
	cr_expect_str_eq(wait_for("told"), "wrote\n");
	cr_expect_eq(access(rig_path("dir/written"), F_OK), 0);
}

/* The end of a socket that listens, and nothing else of ours. */
WholeTest(virtiofsd, its_descriptors)
{
	int secret = open("/dev/zero", O_RDONLY); /* without O_CLOEXEC */

	use(RUST_HELP
	    "for f in /proc/$$/fd/*; do echo \"${f##*/} $(readlink $f)\"; done >f; mv f fds\nsleep 1000\n");
	cr_assert_eq(start(false), 0, "%s", e.text);
	const char *fds = wait_for("fds");

	cr_expect(strstr(fds, "3 socket:"), "%s", fds);
	cr_expect_not(strstr(fds, "/dev/zero"), "%s", fds);
	close(secret);
}

WholeTest(virtiofsd, it_cannot_start)
{
	use(RUST_HELP "echo 'the disk is full' >&2\nexit 3\n");
	cr_assert_eq(start(false), 0);
	e = (struct err){.code = -ECONNRESET};
	cr_expect_eq(virtiofsd_explain(v, &e), -ECONNRESET);
	cr_expect(strstr(e.text, "ended with status 3") && strstr(e.text, "the disk is full") &&
			  strstr(e.text, "--root"),
		  "%s", e.text);
}

WholeTest(virtiofsd, a_long_story_is_cut)
{
	use(RUST_HELP
	    "i=0; while [ $i -lt 2000 ]; do echo \"line $i of many\"; i=$((i+1)); done >&2\nexit 1\n");
	cr_assert_eq(start(false), 0);
	virtiofsd_explain(v, &e);
	cr_expect(strstr(e.text, "line 1999 of many"), "%s", e.text);
	cr_expect_not(strstr(e.text, "line 10 of many"));
}

/* --- its end --- */

static char death[1500];

static void on_died(void *opaque, const char *text)
{
	snprintf(death, sizeof(death), "%s", text);
	evloop_quit(opaque, 0);
}

WholeTest(virtiofsd, it_dies_while_the_guest_runs)
{
	struct evloop *loop = evloop_new();

	use(RUST_HELP "echo 'last words' >&2\nkill -SEGV $$\n");
	cr_assert_eq(start(false), 0);
	cr_assert_eq(virtiofsd_watch(v, loop, on_died, loop), 0);
	evloop_run(loop);
	cr_expect(strstr(death, "was ended by signal 11") && strstr(death, "last words"), "%s", death);
	virtiofsd_stop(v);
	v = NULL;
	evloop_free(loop);
}

static bool is_there(int pid)
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'X';
	fclose(f);
	return state != 'X' && state != 'Z';
}

WholeTest(virtiofsd, nothing_is_left_of_it)
{
	int self, child;
	unsigned fds;

	use(RUST_HELP "trap '' TERM\n(trap '' TERM; while :; do sleep 1; done) &\necho $$ $! >pids\nwhile :; "
		      "do sleep 1; done\n");
	fds = open_fds();
	cr_assert_eq(start(false), 0);
	cr_assert_eq(sscanf(wait_for("pids"), "%d %d", &self, &child), 2);
	cr_expect(is_there(self) && is_there(child));
	virtiofsd_stop(v);
	v = NULL;
	cr_expect_not(is_there(self));
	for (unsigned i = 0; i < 200 && is_there(child); i++) /* killed, but nobody of ours waits for it */
		sleep_ms(10);
	cr_expect_not(is_there(child));
	cr_expect_eq(open_fds(), fds);
}

/* Whoever kills us leaves no time to tidy up. */
WholeTest(virtiofsd, it_dies_with_us)
{
	int self;
	pid_t us;

	use(RUST_HELP "echo $$ >pid\nwhile :; do sleep 1; done\n");
	us = fork();
	if (us == 0) {
		start(false);
		pause();
	}
	cr_assert_eq(sscanf(wait_for("pid"), "%d", &self), 1);
	cr_expect(is_there(self));
	kill(us, SIGKILL);
	waitpid(us, NULL, 0);
	for (unsigned i = 0; i < 200 && is_there(self); i++)
		sleep_ms(10);
	cr_expect_not(is_there(self));
}

WholeTest(virtiofsd, the_socket_has_no_name)
{
	char c;
	int fd;

	use(RUST_HELP "exec sleep 1000\n");
	cr_assert_eq(start(false), 0);
	fd = virtiofsd_take_socket(v);
	cr_expect_geq(fd, 0);
	cr_expect_eq(system("ls -d /tmp/ringlet-fs-* 2>/dev/null | grep ."), 1 << 8);
	/* Nobody has accepted, nobody has refused. */
	cr_expect_eq(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	cr_expect_eq(errno, EAGAIN);
	close(fd);
}
