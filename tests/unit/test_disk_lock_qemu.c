/* Image locks against QEMU's own tools; test_disk_lock.c has those that need none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "lib/log.h"

static char path[] = "/tmp/ringlet-lock-XXXXXX";
static struct disk *d;
static struct err e;
static char said[4096];

/* The status of a tool that works on the image; what it says is in said. */
static int tool(const char *command)
{
	char line[256];
	FILE *f;

	snprintf(line, sizeof(line), "exec %s %s 2>&1 </dev/null", command, path);
	f = popen(line, "re");
	cr_assert(f);
	said[fread(said, 1, sizeof(said) - 1, f)] = '\0';
	return pclose(f);
}

static void setup(void)
{
	int fd;

	log_set_level(LOG_ERROR);
	setenv("LC_ALL", "C", 1);
	if (system("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null"))
		cr_skip_test("qemu-utils is not installed");
	fd = mkstemp(path);
	cr_assert_eq(ftruncate(fd, 1 << 20), 0);
	close(fd);
}

static void teardown(void)
{
	if (d)
		d->ops->destroy(d);
	unlink(path);
}

TestSuite(disk_lock_qemu, .init = setup, .fini = teardown, .timeout = 60);

static struct disk *open_disk(bool read_only)
{
	struct file_disk_config c = {.path = path, .read_only = read_only};

	d = file_disk_open(&c, &e);
	return d;
}

/* qemu-io with the image open, until its input ends. */
static struct {
	pid_t pid;
	int in;
} io;

static void start_io(const char *options)
{
	static const char command[] = "read 0 512\n";
	int in[2], out[2];
	char line[256];
	size_t got = 0;
	ssize_t n = 1;

	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	snprintf(line, sizeof(line), "exec qemu-io -f raw %s %s 2>&1", options, path);
	io.pid = fork();
	if (!io.pid) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		close(in[1]); /* or it would never end */
		execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	io.in = in[1];
	cr_assert_eq(write(io.in, command, sizeof(command) - 1), (ssize_t)sizeof(command) - 1);
	while (n > 0 && !strstr(said, "512 bytes")) {
		n = read(out[0], said + got, sizeof(said) - 1 - got);
		got += n > 0 ? (size_t)n : 0;
		said[got] = '\0';
	}
	close(out[0]);
	cr_assert_gt(n, 0, "qemu-io: %s", said);
}

static void end_io(void)
{
	kill(io.pid, SIGKILL);
	waitpid(io.pid, NULL, 0);
	close(io.in);
}

static void expect_refused(bool read_only)
{
	char number[64];

	snprintf(number, sizeof(number), "process %d (qemu-io)", (int)io.pid);
	cr_expect_null(open_disk(read_only));
	cr_expect_eq(e.code, -EAGAIN);
	cr_expect(strstr(e.text, number), "%s", e.text);
}

/* Somebody who only reads a raw image may do so beside a writer, of QEMU's as well. */
Test(disk_lock_qemu, qemu_does_not_write_what_is_written_here)
{
	cr_assert(open_disk(false), "%s", e.text);
	cr_expect_neq(tool("qemu-io -f raw -c 'write 0 512'"), 0);
	cr_expect(strstr(said, "\"write\" lock"), "%s", said);
	cr_expect_eq(tool("qemu-img info -f raw"), 0, "%s", said);
	d->ops->destroy(d);
	d = NULL;
	cr_expect_eq(tool("qemu-io -f raw -c 'write 0 512'"), 0, "%s", said);
}

Test(disk_lock_qemu, qemu_reads_what_is_read_here)
{
	cr_assert(open_disk(true), "%s", e.text);
	cr_expect_eq(tool("qemu-img info -f raw"), 0, "%s", said);
	cr_expect_eq(tool("qemu-io -f raw -r -c 'read 0 512'"), 0, "%s", said);
}

Test(disk_lock_qemu, qemu_does_not_write_what_is_read_here)
{
	cr_assert(open_disk(true), "%s", e.text);
	cr_expect_neq(tool("qemu-io -f raw -c 'write 0 512'"), 0);
	cr_expect(strstr(said, "lock"), "%s", said);
}

Test(disk_lock_qemu, what_qemu_writes_is_not_opened_here)
{
	start_io("");
	expect_refused(false);
	expect_refused(true);
	end_io();
	cr_expect(open_disk(false), "%s", e.text);
}

Test(disk_lock_qemu, what_qemu_reads_is_read_here)
{
	start_io("-r");
	cr_expect(open_disk(true), "%s", e.text);
	end_io();
}
