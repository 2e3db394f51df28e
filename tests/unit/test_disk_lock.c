/* Image locks: between ourselves, and with QEMU, whose marks are made here by hand. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "lib/log.h"

static char path[] = "/tmp/ringlet-lock-XXXXXX";
static struct disk *d[2];
static struct err e;

static void setup(void)
{
	int fd = mkstemp(path);

	log_set_level(LOG_ERROR);
	cr_assert_eq(ftruncate(fd, 1 << 20), 0);
	close(fd);
}

static void teardown(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (d[i])
			d[i]->ops->destroy(d[i]);
	unlink(path);
}

TestSuite(disk_lock, .init = setup, .fini = teardown, .timeout = 60);

static struct disk *open_disk(unsigned i, bool read_only)
{
	struct file_disk_config c = {.path = path, .read_only = read_only};

	d[i] = file_disk_open(&c, &e);
	return d[i];
}

Test(disk_lock, two_writers_are_refused)
{
	cr_assert(open_disk(0, false));
	cr_expect_null(open_disk(1, false));
	cr_expect_eq(e.code, -EAGAIN);
	cr_expect(strstr(e.text, path));
	cr_expect(strstr(e.text, "twice"), "%s", e.text);
}

Test(disk_lock, readers_share)
{
	cr_assert(open_disk(0, true));
	cr_expect(open_disk(1, true), "%s", e.text);
}

Test(disk_lock, a_reader_beside_a_writer_is_refused)
{
	cr_assert(open_disk(0, false));
	cr_expect_null(open_disk(1, true));
}

Test(disk_lock, a_writer_beside_a_reader_is_refused)
{
	cr_assert(open_disk(0, true));
	cr_expect_null(open_disk(1, false));
}

Test(disk_lock, ends_with_the_disk)
{
	cr_assert(open_disk(0, false));
	d[0]->ops->destroy(d[0]);
	cr_expect(open_disk(0, false), "%s", e.text);
}

Test(disk_lock, may_be_let_go_and_taken_again)
{
	cr_assert(open_disk(0, false));
	cr_expect_eq(d[0]->ops->lock(d[0], false), 0);
	cr_assert(open_disk(1, false), "%s", e.text);
	cr_expect_eq(d[0]->ops->lock(d[0], true), -EAGAIN);
	d[1]->ops->destroy(d[1]);
	cr_assert(open_disk(1, false), "%s", e.text); /* the failure left no marks */
	d[1]->ops->destroy(d[1]);
	d[1] = NULL;
	cr_expect_eq(d[0]->ops->lock(d[0], true), 0);
	cr_expect_null(open_disk(1, false));
}

Test(disk_lock, a_refused_one_leaves_no_marks)
{
	cr_assert(open_disk(0, true));
	cr_expect_null(open_disk(1, false));
	cr_expect(open_disk(1, true), "%s", e.text);
}

/* A process that opens the file so and waits to be killed; its pid. */
static pid_t other(void (*fn)(int fd), int flags)
{
	int up[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe(up), 0);
	pid = fork();
	if (!pid) {
		fn(open(path, flags | O_CLOEXEC));
		if (write(up[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(up[1]);
	cr_assert_eq(read(up[0], &c, 1), 1);
	close(up[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void mark(int fd, off_t at)
{
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(fd, F_OFD_SETLK, &l))
		_exit(2);
}

/* BLK_PERM_CONSISTENT_READ is 0, _WRITE 1, _RESIZE 3. */
static void as_qemu_writer(int fd)
{
	mark(fd, 100);
	mark(fd, 101);
	mark(fd, 201);
	mark(fd, 203);
}

static void as_qemu_reader(int fd)
{
	mark(fd, 100);
	mark(fd, 201);
}

static void as_old_qemu(int fd) /* before open file descriptions had locks of their own */
{
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 2};

	if (fcntl(fd, F_SETLK, &l))
		_exit(2);
	l.l_start = 201;
	l.l_len = 1;
	if (fcntl(fd, F_SETLK, &l))
		_exit(2);
}

static void names(pid_t pid)
{
	char number[32];

	snprintf(number, sizeof(number), "process %d ", (int)pid);
	cr_expect(strstr(e.text, number), "%s", e.text);
}

Test(disk_lock, a_running_qemu_is_noticed_and_named)
{
	pid_t pid = other(as_qemu_writer, O_RDWR);

	cr_expect_null(open_disk(0, false));
	names(pid);
	cr_expect_null(open_disk(0, true));
	names(pid);
	end(pid);
	cr_expect(open_disk(0, false), "%s", e.text);
}

Test(disk_lock, a_reading_qemu_shares_with_readers_only)
{
	pid_t pid = other(as_qemu_reader, O_RDONLY);

	cr_expect(open_disk(0, true), "%s", e.text);
	cr_expect_null(open_disk(1, false));
	end(pid);
}

Test(disk_lock, locks_that_belong_to_a_process_are_noticed)
{
	pid_t pid = other(as_old_qemu, O_RDWR);

	cr_expect_null(open_disk(0, false));
	names(pid);
	end(pid);
}

static bool would_lock(off_t at)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
	int fd = open(path, O_RDWR | O_CLOEXEC);

	cr_assert_eq(fcntl(fd, F_OFD_GETLK, &l), 0);
	close(fd);
	return l.l_type == F_UNLCK;
}

/* What QEMU looks at before it uses an image: 200 + what it wants, 100 + what it cannot bear. */
Test(disk_lock, qemu_notices_a_writer)
{
	cr_assert(open_disk(0, false));
	cr_expect_not(would_lock(201)); /* it may not write */
	cr_expect_not(would_lock(101)); /* and whoever bears no writer stays out */
	cr_expect(would_lock(200));     /* with shared=on it may read */
}

Test(disk_lock, qemu_notices_a_reader)
{
	cr_assert(open_disk(0, true));
	cr_expect_not(would_lock(201));
	cr_expect(would_lock(101));
	cr_expect(would_lock(200));
}
