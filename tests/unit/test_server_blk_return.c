/* The disk server is killed and comes back: nothing that a driver gave is lost, and nothing that it was told of
 * is done again.  The server is a process of its own, its disk in memory that stays. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/unit/test_server_blk_rig.h"
#include "vmm/evloop.h"

#define BLOCKS 64u
#define BLOCK  4096u
#define PER    (BLOCK / 512)
#define DEPTH  20u

/* --- a disk that counts, and keeps what it is told to --- */

static struct shared {
	_Atomic unsigned done[BLOCKS]; /* requests */
	_Atomic unsigned kept;
	_Atomic bool keep[BLOCKS];
	_Atomic unsigned slow; /* us that a request takes */
	char data[BLOCKS * BLOCK];
} * shared;

struct disk_lane {
	struct disk_client client;
	struct disk_req *first;
};

static void copy(const struct disk_req *r)
{
	char *at = shared->data + r->offset;

	for (int i = 0; i < r->iovcnt; at += r->iov[i++].iov_len) {
		if (r->op == DISK_READ)
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
		else
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
	}
}

/* In any order, so that what is given back is not what was taken first, nor last. */
static void lane_submit(struct disk_lane *l, struct disk_req *r)
{
	struct disk_req **at = &l->first;

	while (*at && rand() & 1)
		at = &(*at)->next;
	r->next = *at;
	*at = r;
}

static void lane_commit(struct disk_lane *l)
{
	bool any = false;

	while (l->first) {
		struct disk_req *r = l->first;

		l->first = r->next;
		if (shared->keep[r->offset / BLOCK]) { /* for good: it is there only to be killed */
			shared->kept++;
			continue;
		}
		if (shared->slow)
			usleep(shared->slow);
		copy(r);
		shared->done[r->offset / BLOCK]++;
		r->done(r, 0);
		any = true;
	}
	if (any)
		l->client.batch(l->client.opaque);
}

static struct disk_lane *lane(struct disk *d, struct evloop *loop, unsigned nreqs,
			      const struct disk_client *client)
{
	struct disk_lane *l = calloc(1, sizeof(*l));

	(void)d, (void)loop, (void)nreqs;
	l->client = *client;
	return l;
}

static void lane_free(struct disk_lane *l)
{
	free(l);
}

static const struct disk_ops counting = {
	.name = "counting",
	.lane = lane,
	.lane_free = lane_free,
	.submit = lane_submit,
	.commit = lane_commit,
	.drain = lane_commit,
};
static struct disk disk = {.ops = &counting, .size = BLOCKS * BLOCK, .block_size = 512};

/* --- its process --- */

static pid_t pid;
static int inflight = -1;
static struct vhost_user_inflight_desc desc;
static bool polled;

static void be_the_server(void)
{
	const struct blk_server_config c = {.path = rig.path, .disk = &disk, .nqueues = 1, .poll = polled};
	struct blk_server *s;
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = 3; fd < 1024; fd++) /* above all the connection of before, which has to end */
		close(fd);
	if (blk_server_new(&s, &c, &e))
		_exit(1);
	for (;;)
		pause();
}

static void server_start(void)
{
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid)
		be_the_server();
}

static void server_kill(void)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(rig.path);
}

static void init(void)
{
	log_set_level(LOG_ERROR);
	snprintf(rig.path, sizeof(rig.path), "/tmp/test-server-blk-%d.sock", getpid());
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
}

static void fini(void)
{
	if (pid > 0)
		server_kill();
}

TestSuite(server_blk_return, .init = init, .fini = fini, .timeout = 100);

static int64_t give_inflight(void)
{
	struct vhost_user_msg m = {.size = sizeof(m.inflight), .inflight = desc};

	return frontend_set(&rig.f, VHOST_USER_SET_INFLIGHT_FD, &m, &inflight, 1);
}

static void first_time(void)
{
	struct vhost_user_msg m = {.size = sizeof(m.inflight), .inflight = {.num_queues = 1, .queue_size = 64}};

	frontend_connect(&rig.f, rig.path);
	cr_assert_eq(frontend_greet(&rig.f, V1 | EVENT, P(REPLY_ACK) | P(INFLIGHT_SHMFD)), 0);
	cr_assert_eq(frontend_ask(&rig.f, VHOST_USER_GET_INFLIGHT_FD, &m, &inflight), 0);
	desc = m.inflight;
	cr_assert_eq(frontend_share(&rig.f), 0);
	cr_assert_eq(give_inflight(), 0);
	cr_assert_eq(frontend_start(&rig.f, 0, 64, 0), 0);
}

/* The same memory, ring and buffer, to the server that is there now. */
static void another_time(void)
{
	struct frontend other;

	frontend_connect(&other, rig.path);
	cr_assert_geq(dup3(other.sock, rig.f.sock, O_CLOEXEC), 0);
	frontend_close(&other);
	rig.f.protocol = 0; /* nothing is agreed on */
	cr_assert_eq(frontend_greet(&rig.f, V1 | EVENT, P(REPLY_ACK) | P(INFLIGHT_SHMFD)), 0);
	cr_assert_eq(frontend_share(&rig.f), 0);
	cr_assert_eq(give_inflight(), 0);
	cr_assert_eq(frontend_resume(&rig.f, 0), 0);
}

/* --- what was taken when it died --- */

static void dies_with_some(void)
{
	struct req r[16];
	int id_of[16];
	unsigned answered[16] = {0};
	uint16_t id;
	uint32_t used;

	server_start();
	first_time();
	for (unsigned i = 0; i < 16; i++) {
		r[i] = req_new(BLOCK);
		fill(data_of(&r[i]), BLOCK, i + 1);
		shared->keep[i] = i % 3 == 1;
	}
	for (unsigned i = 0; i < 12; i++)
		id_of[i] = add(0, &r[i], VIRTIO_BLK_T_OUT, i * PER);
	frontend_kick(&rig.f, 0);
	for (unsigned n = 0; n < 8; n++) {
		cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 5000), 1);
		for (unsigned i = 0; i < 12; i++)
			if (id_of[i] == id)
				answered[i]++;
	}
	while (shared->kept < 4)
		usleep(1000);
	server_kill();
	/* Of what is free the driver makes new ones meanwhile. */
	for (unsigned i = 12; i < 16; i++)
		id_of[i] = add(0, &r[i], VIRTIO_BLK_T_OUT, i * PER);
	driver_ring_kick(&rig.f.q[0].ring);
	for (unsigned i = 0; i < 16; i++)
		shared->keep[i] = false;
	server_start();
	another_time();
	for (unsigned n = 0; n < 8; n++) {
		cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 5000), 1, "of 8 only %u", n);
		for (unsigned i = 0; i < 16; i++)
			if (id_of[i] == id && !answered[i]) {
				answered[i]++;
				break;
			}
	}
	cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 50), 0, "nothing comes twice");
	for (unsigned i = 0; i < 16; i++) {
		cr_expect_eq(answered[i], 1, "request %u", i);
		cr_expect_eq(status_of(&r[i]), VIRTIO_BLK_S_OK);
		cr_expect_eq(shared->done[i], 1, "request %u was done %u times", i, shared->done[i]);
		cr_expect(holds(shared->data + i * BLOCK, BLOCK, i + 1));
	}
	frontend_close(&rig.f);
}

Test(server_blk_return, what_it_had_is_done_and_what_it_had_done_is_not)
{
	dies_with_some();
}

Test(server_blk_return, one_that_polls_likewise)
{
	polled = true;
	dies_with_some();
}

Test(server_blk_return, twice_in_a_row)
{
	struct req r[8];
	uint16_t id;
	uint32_t used;

	server_start();
	first_time();
	for (unsigned i = 0; i < 8; i++) {
		r[i] = req_new(BLOCK);
		fill(data_of(&r[i]), BLOCK, i + 1);
		shared->keep[i] = true;
		add(0, &r[i], VIRTIO_BLK_T_OUT, i * PER);
	}
	frontend_kick(&rig.f, 0);
	for (unsigned round = 1; round <= 3; round++) {
		while (shared->kept < round * 8)
			usleep(1000);
		server_kill();
		server_start();
		another_time();
	}
	while (shared->kept < 32)
		usleep(1000);
	server_kill();
	for (unsigned i = 0; i < 8; i++)
		shared->keep[i] = false;
	server_start();
	another_time();
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 5000), 1);
	for (unsigned i = 0; i < 8; i++) {
		cr_expect_eq(shared->done[i], 1);
		cr_expect(holds(shared->data + i * BLOCK, BLOCK, i + 1));
	}
	frontend_close(&rig.f);
}

/* --- at any moment --- */

static void under_load(unsigned rounds)
{
	static struct req r[DEPTH];
	static uint32_t seed[DEPTH], told[DEPTH], is_write[DEPTH];
	static int slot_of[64];
	unsigned next = 1, answers = 0;
	uint64_t total = 0;

	shared->slow = 20;
	server_start();
	first_time();
	for (unsigned i = 0; i < DEPTH; i++) {
		r[i] = req_new(BLOCK);
		fill(data_of(&r[i]), BLOCK, seed[i] = next++);
		is_write[i] = true;
		slot_of[add(0, &r[i], VIRTIO_BLK_T_OUT, i * PER)] = (int)i;
	}
	frontend_kick(&rig.f, 0);
	for (unsigned round = 0; round <= rounds; round++) {
		const unsigned until = 200 + (unsigned)rand() % 300;

		for (answers = 0; answers < until || round == rounds; answers++) {
			uint16_t id;
			uint32_t used;
			unsigned i;

			if (round == rounds && answers == DEPTH)
				break;
			cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 10000), 1,
				     "round %u: a request is lost", round);
			total++;
			i = (unsigned)slot_of[id];
			cr_assert_eq(status_of(&r[i]), VIRTIO_BLK_S_OK);
			if (is_write[i])
				told[i] = seed[i];
			else
				cr_assert(holds(data_of(&r[i]), BLOCK, told[i]), "round %u: block %u is old",
					  round, i);
			if (round == rounds)
				continue;
			is_write[i] = rand() & 1 ? 1 : 0;
			if (is_write[i])
				fill(data_of(&r[i]), BLOCK, seed[i] = next++);
			else
				memset(data_of(&r[i]), 0, BLOCK);
			slot_of[add(0, &r[i], is_write[i] ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * PER)] =
				(int)i;
			frontend_kick(&rig.f, 0);
		}
		if (round == rounds)
			break;
		server_kill();
		server_start();
		another_time();
	}
	for (unsigned i = 0; i < DEPTH; i++)
		cr_expect(holds(shared->data + i * BLOCK, BLOCK, told[i]), "block %u", i);
	cr_expect_gt(total, rounds * 200);
	frontend_close(&rig.f);
}

Test(server_blk_return, killed_at_any_moment)
{
	under_load(40);
}

Test(server_blk_return, killed_at_any_moment_polled)
{
	polled = true;
	under_load(20);
}
