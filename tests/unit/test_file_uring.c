/* The tests of test_file_sync.c on the io_uring engine, and what is peculiar to rings. */
#include "backends/file_uring.h"
#define SUITE  file_uring
#define ENGINE FILE_AIO_URING
#define NAME   "io_uring"
#include "tests/unit/test_file_sync.c"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* As a container's profile does. */
static void forbid_rings(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

Test(file_uring, without_rings_the_default_is_sync)
{
	struct file_disk_config c = {.path = path};

	setup();
	make("/tmp");
	forbid_rings();
	d = file_disk_open(&c, NULL);
	cr_assert(d);
	cr_expect_str_eq(d->ops->name, "sync");
	teardown();
}

Test(file_uring, without_rings_asking_for_them_is_an_error_with_the_reason)
{
	struct file_disk_config c = {.path = path, .aio = FILE_AIO_URING};
	struct err e = {0};

	setup();
	make("/tmp");
	forbid_rings();
	cr_expect_null(file_disk_open(&c, &e));
	cr_expect_eq(e.code, -EPERM);
	cr_expect(strstr(e.text, "io_uring"));
	cr_expect(strstr(e.text, "not permitted"));
	teardown();
}

Test(file_uring, the_default_is_rings)
{
	struct file_disk_config c = {.path = path};

	setup();
	make("/tmp");
	d = file_disk_open(&c, NULL);
	cr_assert(d);
	cr_expect_str_eq(d->ops->name, "io_uring");
	teardown();
}

Test(file_uring, a_burst_of_cached_reads_costs_one_system_call)
{
	_Atomic uint64_t calls = 0;
	const struct disk_client client = {.batch = on_batch, .syscalls = &calls};
	struct evloop *loop = evloop_new();
	struct disk_lane *l;
	struct one o[32];

	setup();
	make("/tmp");
	file_put(0, want, sizeof(want));
	open_disk(false, false);
	l = d->ops->lane(d, loop, 32, &client);
	cr_assert(l);
	for (unsigned i = 0; i < 32; i++)
		submit_one(l, &o[i], DISK_READ, i * 512, buf + i * 512, 512);
	d->ops->commit(l);
	cr_expect_eq(calls, 1);
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

/* --- a tmpfs --- */

static struct disk_lane *lane_in_memory(struct evloop *loop, _Atomic uint64_t *calls, size_t filled)
{
	struct disk_client client = {.batch = on_batch, .syscalls = calls};
	static char all[SIZE];
	struct disk_lane *l;

	setup();
	make("/dev/shm");
	pattern(all, sizeof(all), 3);
	file_put(0, all, filled);
	memcpy(want, all, sizeof(want));
	open_disk(false, false);
	l = d->ops->lane(d, loop, 32, &client);
	cr_assert(l);
	return l;
}

/* By io_uring where the kernel serves it without a thread, else out of a mapping. */
Test(file_uring, a_burst_of_reads_from_memory_costs_one_system_call)
{
	struct evloop *loop = evloop_new();
	_Atomic uint64_t calls = 0;
	struct disk_lane *l = lane_in_memory(loop, &calls, SIZE);
	struct one o[32];

	for (unsigned i = 0; i < 32; i++)
		submit_one(l, &o[i], DISK_READ, i * 512, buf + i * 512, 512);
	d->ops->commit(l);
	d->ops->drain(l);
	for (unsigned i = 0; i < 32; i++)
		cr_expect_eq(o[i].err, 0);
	cr_expect_arr_eq(buf, want, 32 * 512);
	cr_expect_eq(calls, 1);
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

Test(file_uring, reads_behind_the_end_of_a_file_that_became_shorter_fail_alone)
{
	struct evloop *loop = evloop_new();
	_Atomic uint64_t calls = 0;
	struct disk_lane *l = lane_in_memory(loop, &calls, SIZE);
	struct one o[8];

	cr_assert_eq(truncate(path, 16384), 0);
	for (unsigned i = 0; i < 8; i++)
		submit_one(l, &o[i], DISK_READ, i * 4096, buf + i * 4096, 4096);
	d->ops->commit(l);
	d->ops->drain(l);
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(o[i].err, i < 4 ? 0 : -EIO, "%u: %d", i, o[i].err);
	cr_expect_arr_eq(buf, want, 16384);
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

Test(file_uring, reads_do_not_fill_the_holes_of_a_file_in_memory)
{
	struct evloop *loop = evloop_new();
	_Atomic uint64_t calls = 0;
	struct disk_lane *l = lane_in_memory(loop, &calls, 4096);
	struct stat before, after;
	struct one o[8];

	stat(path, &before);
	for (unsigned i = 0; i < 8; i++)
		submit_one(l, &o[i], DISK_READ, i * 8192, buf + i * 8192, 8192);
	d->ops->commit(l);
	d->ops->drain(l);
	stat(path, &after);
	cr_expect_eq(after.st_blocks, before.st_blocks);
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

Test(file_uring, what_was_discarded_in_memory_stays_a_hole)
{
	struct evloop *loop = evloop_new();
	_Atomic uint64_t calls = 0;
	struct disk_lane *l = lane_in_memory(loop, &calls, SIZE);
	struct stat st;
	struct one o[8];

	submit_one(l, &o[0], DISK_DISCARD, 0, NULL, 65536);
	d->ops->commit(l);
	d->ops->drain(l);
	for (unsigned i = 0; i < 8; i++)
		submit_one(l, &o[i], DISK_READ, i * 8192, buf + i * 8192, 8192);
	d->ops->commit(l);
	d->ops->drain(l);
	stat(path, &st);
	cr_expect_eq(st.st_blocks * 512, SIZE - 65536);
	memset(want, 0, sizeof(want));
	cr_expect_arr_eq(buf, want, sizeof(want));
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

struct foreign {
	struct evloop *loop;
	struct disk_lane *l;
	struct one *o;
};

static void *foreign_run(void *arg)
{
	static const struct disk_client client = {.batch = on_batch};
	struct foreign *f = arg;

	f->l = d->ops->lane(d, f->loop, 8, &client);
	cr_assert(f->l);
	for (unsigned i = 0; i < 8; i++) {
		submit_one(f->l, &f->o[i], DISK_WRITE, i * 8192, want, 8192);
		f->o[i].r.durable = true; /* that takes a while: most are still waiting when it ends */
	}
	d->ops->commit(f->l);
	return NULL;
}

/* Whoever takes a VM down may do so when the loop's thread has ended. */
Test(file_uring, drains_after_its_thread_has_ended)
{
	struct one o[8];
	struct foreign f = {.loop = evloop_new(), .o = o};
	pthread_t thread;

	setup();
	make("/tmp");
	open_disk(false, false);
	pattern(want, sizeof(want), 1);
	cr_assert_eq(pthread_create(&thread, NULL, foreign_run, &f), 0);
	pthread_join(thread, NULL);
	d->ops->drain(f.l);
	for (unsigned i = 0; i < 8; i++)
		cr_expect(o[i].done && !o[i].err);
	d->ops->lane_free(f.l);
	file_get(7 * 8192, buf, 8192);
	cr_expect_arr_eq(buf, want, 8192);
	teardown();
	evloop_free(f.loop);
}
