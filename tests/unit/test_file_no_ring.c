/* The tests of test_file_sync.c on the io_uring engine when it gets no rings, although it might have some. */
static void no_memory_for_rings(void);
#define SUITE     file_no_ring
#define ENGINE    FILE_AIO_URING
#define NAME      "io_uring"
#define PREPARE() no_memory_for_rings()
#include "tests/unit/test_file_sync.c"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static long denied = __NR_io_uring_setup;

/* From now on, and in the threads to come, that call fails if its first argument is not 0 (the probe's is). */
static void no_memory_for_rings(void)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = (struct sock_filter *)code,
	};
	static bool done;

	if (done)
		return;
	done = true;
	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* What is said on stderr while two lanes are made and used. */
static void use_two_lanes(char *said, size_t size)
{
	static const struct disk_client client = {.batch = on_batch};
	struct evloop *loop = evloop_new();
	struct disk_lane *l[2];
	FILE *f = tmpfile();
	int err = dup(STDERR_FILENO);

	setup();
	make("/tmp");
	file_put(0, memset(want, 7, sizeof(want)), sizeof(want));
	open_disk(false, false);
	log_set_level(LOG_WARN);
	dup2(fileno(f), STDERR_FILENO);
	for (unsigned i = 0; i < 2; i++) {
		struct one o;

		l[i] = d->ops->lane(d, loop, 32, &client);
		if (!l[i])
			break;
		submit_one(l[i], &o, DISK_READ, 0, buf, 4096);
		d->ops->commit(l[i]);
		d->ops->drain(l[i]);
		cr_expect(o.done && !o.err);
	}
	dup2(err, STDERR_FILENO);
	close(err);
	cr_assert(l[0] && l[1], "a lane is not to be had");
	cr_expect_arr_eq(buf, want, 4096);
	d->ops->lane_free(l[0]);
	d->ops->lane_free(l[1]);
	teardown();
	evloop_free(loop);
	rewind(f);
	said[fread(said, 1, size - 1, f)] = '\0';
	fclose(f);
}

Test(file_no_ring, is_told_once_a_disk)
{
	char said[1024], *line;

	use_two_lanes(said, sizeof(said));
	line = strstr(said, "aio=sync");
	cr_assert(line, "%s", said);
	cr_expect(strstr(said, path), "%s", said);
	cr_expect(strstr(said, "annot allocate memory"), "%s", said);
	cr_expect_null(strstr(line + 1, "aio=sync"), "%s", said);
}

Test(file_no_ring, a_ring_that_does_not_take_the_file_is_none)
{
	char said[1024];

	denied = __NR_io_uring_register; /* its first argument is the ring's */
	use_two_lanes(said, sizeof(said));
	cr_expect(strstr(said, "aio=sync"), "%s", said);
}
