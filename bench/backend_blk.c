/* A front end that has a back end read or write a disk, at random, as fast as it can, for bench/backend_blk.py.
 *
 * usage: backend_blk SOCKET [key=value...]
 *
 * depth=32, size=4096, write=1, packed=1, indirect=0, inflight=0; irq=1: a driver that sleeps until it is
 * called, not one that polls; ms=1000 after warm=200.
 *
 * First all of the disk is written and read, front to back, so that there is nothing left to be done for the
 * first time.  Prints, on one line, how many requests that were, in how many ns, with how many kicks, the
 * features that were agreed on, and how many requests a second at the best tenth of moments: at depth 32 both
 * sides have to run at a time, and where others want the processors too it is then that they do. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "tests/fake/vhost_user_frontend.h"

#define BIT(n)    (1ull << (n))
#define P(f)      BIT(VHOST_USER_PROTOCOL_F_##f)
#define RING      256u
#define MAX_DEPTH 64u
#define MOMENT    1000000u /* ns */
#define MOMENTS   100000u

static struct frontend f;
static struct slot {
	gpa_t hdr, data, status, table;
} slot[MAX_DEPTH];
static unsigned slot_of[RING];
static unsigned size, depth;
static bool indirect, is_write, in_turn;
static uint64_t blocks, turn, done, kicks, seed = 1;
static uint64_t moment[MOMENTS], nmoments; /* requests a second */
static char *const *options;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "backend_blk: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t option(const char *name, uint64_t otherwise)
{
	const size_t n = strlen(name);

	for (char *const *o = options; *o; o++)
		if (!strncmp(*o, name, n) && (*o)[n] == '=')
			return strtoull(*o + n + 1, NULL, 0);
	return otherwise;
}

static uint64_t next_random(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 33;
}

static void submit(unsigned i)
{
	struct slot *s = &slot[i];
	const struct driver_buf b[] = {{s->hdr, 16, false}, {s->data, size, !is_write}, {s->status, 1, true}};
	struct driver_ring *r = &f.q[0].ring;
	struct virtio_blk_outhdr *h = driver_mem_ptr(&f.m, s->hdr, sizeof(*h));
	int id;

	h->type = is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	h->sector = (in_turn ? turn++ : next_random()) % blocks * (size / 512);
	*(uint8_t *)driver_mem_ptr(&f.m, s->status, 1) = 0xee;
	id = indirect ? driver_ring_add_indirect(r, s->table, b, 3) : driver_ring_add(r, b, 3);
	must(id >= 0, "the ring is full");
	slot_of[id] = i;
}

static void kick(void)
{
	if (!driver_ring_kick(&f.q[0].ring))
		return;
	kicks++;
	eventfd_write(f.q[0].kick, 1);
}

static bool collect(void)
{
	bool any = false;
	uint16_t id;
	int rc;

	while ((rc = driver_ring_collect(&f.q[0].ring, &id, NULL))) {
		const unsigned i = slot_of[id % RING];

		must(rc > 0, "nonsense in the ring");
		must(!*(uint8_t *)driver_mem_ptr(&f.m, slot[i].status, 1), "a request failed");
		submit(i);
		done++;
		any = true;
	}
	return any;
}

static void sleep_for_call(void)
{
	struct pollfd p = {.fd = f.q[0].call, .events = POLLIN};
	eventfd_t n;

	driver_ring_irq(&f.q[0].ring, true, 0);
	if (f.q[0].ring.packed ||
	    f.q[0].ring.used_pos == __atomic_load_n(&f.q[0].ring.used->idx, __ATOMIC_SEQ_CST))
		poll(&p, 1, 100);
	eventfd_read(f.q[0].call, &n);
}

static int by_rate(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t undisturbed(void)
{
	qsort(moment, nmoments, sizeof(moment[0]), by_rate);
	return nmoments ? moment[nmoments * 9 / 10] : 0;
}

/* Until so many ns have passed and so many requests are done.  How long that took, in ns. */
static uint64_t run(uint64_t ns, uint64_t requests, bool irq)
{
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	uint64_t now, last = begin, before = 0;

	done = kicks = nmoments = 0;
	do {
		for (unsigned i = 0; i < 4; i++) {
			if (collect())
				kick();
			else if (irq)
				sleep_for_call();
			else
				__builtin_ia32_pause();
		}
		now = clock_ns(CLOCK_MONOTONIC);
		if (now - last < MOMENT)
			continue;
		if (nmoments < MOMENTS)
			moment[nmoments++] = (done - before) * 1000000000u / (now - last);
		last = now;
		before = done;
	} while (now - begin < ns || done < requests);
	return now - begin;
}

static void track(void)
{
	struct vhost_user_msg m = {.size = sizeof(m.inflight),
				   .inflight = {.num_queues = 1, .queue_size = RING}};
	int fd = -1;

	if (!(f.protocol & P(INFLIGHT_SHMFD)) || !option("inflight", 1))
		return;
	must(!frontend_ask(&f, VHOST_USER_GET_INFLIGHT_FD, &m, &fd), "GET_INFLIGHT_FD");
	m.size = sizeof(m.inflight);
	must(!frontend_set(&f, VHOST_USER_SET_INFLIGHT_FD, &m, &fd, 1), "SET_INFLIGHT_FD");
	close(fd);
}

static void begin(const char *path)
{
	const uint64_t wanted = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |
				BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_BLK_F_FLUSH) |
				(option("packed", 0) ? BIT(VIRTIO_F_RING_PACKED) : 0);
	struct vhost_user_msg m = {.size = VHOST_USER_CONFIG_HDR + 8, .config.size = 8};
	uint64_t capacity;

	frontend_connect(&f, path);
	must(!frontend_greet(&f, wanted, P(REPLY_ACK) | P(MQ) | P(CONFIG) | P(INFLIGHT_SHMFD)), "greeting");
	must(!frontend_ask(&f, VHOST_USER_GET_CONFIG, &m, NULL) && m.size > VHOST_USER_CONFIG_HDR,
	     "GET_CONFIG");
	memcpy(&capacity, m.config.region, sizeof(capacity));
	blocks = capacity * 512 / size;
	track();
	must(!frontend_share(&f), "memory");
	must(!frontend_start(&f, 0, RING, (uint16_t)(f.features & BIT(VIRTIO_F_RING_PACKED) ? 0x8000 : 0)),
	     "queue");
	indirect = option("indirect", 1) && f.features & BIT(VIRTIO_RING_F_INDIRECT_DESC);
}

int main(int argc, char **argv)
{
	uint64_t took;
	bool irq;

	must(argc > 1, "usage: backend_blk SOCKET [key=value...]");
	options = argv + 2;
	depth = (unsigned)option("depth", 32);
	size = (unsigned)option("size", 4096);
	is_write = in_turn = true;
	irq = option("irq", 0);
	must(depth && depth <= MAX_DEPTH && size >= 512 && size <= 32768, "depth or size");
	begin(argv[1]);
	for (unsigned i = 0; i < depth; i++) {
		slot[i] = (struct slot){
			.hdr = driver_mem_alloc(&f.m, 16, 64),
			.status = driver_mem_alloc(&f.m, 1, 64),
			.table = driver_mem_alloc(&f.m, 48, 64),
			.data = driver_mem_alloc(&f.m, size, 4096),
		};
		memset(driver_mem_ptr(&f.m, slot[i].data, size), (int)i + 1, size);
		submit(i);
	}
	if (!irq)
		driver_ring_irq(&f.q[0].ring, false, 0);
	kick();
	run(0, blocks, irq);
	is_write = false;
	run(0, blocks, irq);
	is_write = option("write", 0);
	in_turn = false;
	run(option("warm", 200) * 1000000, 0, irq);
	printf("begin\n");
	fflush(stdout);
	took = run(option("ms", 1000) * 1000000, 0, irq);
	printf("done %lu ns %lu kicks %lu features %lx best %lu\n", done, took, kicks, f.features,
	       undisturbed());
	return 0;
}
