#include "tests/fake/datapath_conformance.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_QUEUES 4
#define NOT_RAM    (DRIVER_MEM_LOW_END + 4096)

struct side { /* a queue: the driver's ring and what the datapath is told of it */
	struct driver_ring ring;
	struct datapath_queue q;
	struct queue_stats stats;
	uint64_t added, collected;
	uint8_t seen[1024]; /* by id: how often it is out */
};

struct test {
	const struct datapath_conformance *c;
	struct driver_mem m;
	struct side side[MAX_QUEUES];
	gpa_t buf;
	char fault[256];
};

/* To be returned: the first fault stands. */
static bool wrong(struct test *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(struct test *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!t->fault[0])
		vsnprintf(t->fault, sizeof(t->fault), fmt, ap);
	va_end(ap);
	return false;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* --- start and stop --- */

struct transition {
	struct test *t;
	unsigned first, n; /* queues */
	bool start;
	int rc;
};

static void on_loop(void *arg)
{
	struct transition *x = arg;
	const struct datapath_conformance *c = x->t->c;
	struct datapath_queue q[MAX_QUEUES];
	struct datapath_setup setup = {.mem = &x->t->m.mem,
				       .features = c->features,
				       .nqueues = x->n,
				       .queue = q};

	for (unsigned i = 0; i < x->n; i++)
		q[i] = x->t->side[x->first + i].q;
	if (x->start) {
		x->rc = c->dp->ops->start(c->dp, &setup);
		memset(q, 0xa5, sizeof(q)); /* was lent for the call */
		return;
	}
	c->dp->ops->stop(c->dp, &setup);
	for (unsigned i = 0; i < x->n; i++)
		x->t->side[x->first + i].q = q[i];
}

static int start(struct test *t, unsigned first, unsigned n)
{
	struct transition x = {.t = t, .first = first, .n = n, .start = true};

	evloop_call(t->c->loop, on_loop, &x);
	if (!x.rc)
		for (unsigned i = first; i < first + n; i++) {
			eventfd_write(t->side[i].q.kick_fd, 1);
			eventfd_write(t->side[i].q.call_fd, 1);
		}
	return x.rc;
}

static void drain(int fd)
{
	eventfd_t n;

	while (!eventfd_read(fd, &n))
		;
}

static bool stop(struct test *t, unsigned first, unsigned n)
{
	struct transition x = {.t = t, .first = first, .n = n};

	evloop_call(t->c->loop, on_loop, &x);
	for (unsigned i = first; i < first + n; i++)
		if (t->side[i].q.lost)
			return wrong(t, "queue %u: its position is lost", i);
	return true;
}

/* --- traffic --- */

static int add_plain(struct test *t, struct driver_ring *r, unsigned queue)
{
	const struct driver_buf buf[] = {{t->buf + 32 * queue, 16, false},
					 {t->buf + 32 * queue + 16, 16, true}};

	return driver_ring_add(r, buf, 2);
}

/* One chain more, seen by the device and notified where it asks for it. */
static bool add(struct test *t, unsigned i)
{
	struct side *s = &t->side[i];
	int id = t->c->add ? t->c->add(t->c->opaque, &t->m, &s->ring, i) : add_plain(t, &s->ring, i);

	if (id < 0)
		return wrong(t, "queue %u: no chain could be added: %s", i, strerror(-id));
	s->seen[id]++;
	s->added++;
	if (driver_ring_kick(&s->ring))
		eventfd_write(s->q.kick_fd, 1);
	return true;
}

static bool collect(struct test *t, unsigned i)
{
	struct side *s = &t->side[i];
	uint16_t id;
	int rc;

	while ((rc = driver_ring_collect(&s->ring, &id, NULL)) > 0) {
		if (!s->seen[id])
			return wrong(t, "queue %u: chain %u came back twice", i, id);
		s->seen[id]--;
		s->collected++;
	}
	return rc ? wrong(t, "queue %u: nonsense in the used ring", i) : true;
}

/* All that was added comes back, by interrupts alone. */
static bool all_back(struct test *t, unsigned i)
{
	const uint64_t deadline = now_ms() + 10000;
	struct side *s = &t->side[i];

	while (collect(t, i) && s->collected < s->added) {
		struct pollfd p = {.fd = s->q.call_fd, .events = POLLIN};

		driver_ring_irq(&s->ring, true, 0);
		if (!collect(t, i) || s->collected == s->added)
			break;
		if (now_ms() >= deadline)
			return wrong(t, "queue %u: %llu of %llu chains came back in 10 s", i,
				     (unsigned long long)s->collected, (unsigned long long)s->added);
		if (poll(&p, 1, 1000) > 0)
			drain(s->q.call_fd);
	}
	return !t->fault[0];
}

static bool traffic(struct test *t, unsigned first, unsigned n, unsigned chains)
{
	for (unsigned i = first; i < first + n; i++) {
		for (unsigned k = 0; k < chains; k++)
			if (!add(t, i))
				return false;
		if (!all_back(t, i))
			return false;
	}
	return true;
}

/* Nobody serves it: a chain stays out, no interrupt comes.  Leaves that chain in the ring. */
static bool quiet(struct test *t, unsigned i, const char *when)
{
	struct side *s = &t->side[i];
	const uint64_t before = s->collected;
	struct pollfd p = {.fd = s->q.call_fd, .events = POLLIN};

	drain(s->q.call_fd);
	if (!add(t, i))
		return false;
	eventfd_write(s->q.kick_fd, 1);
	if (poll(&p, 1, 5) > 0)
		return wrong(t, "queue %u: an interrupt %s", i, when);
	if (!collect(t, i))
		return false;
	return s->collected == before ? true : wrong(t, "queue %u: served %s", i, when);
}

/* --- the test --- */

static bool offers(struct test *t)
{
	struct datapath *dp = t->c->dp;
	struct datapath_offer a = {0}, b = {0};

	if (dp->ops->offer(dp, &a) || dp->ops->offer(dp, &b))
		return wrong(t, "offer() fails");
	if (a.features != b.features || a.opinion != b.opinion || a.max_queues != b.max_queues ||
	    a.max_queue_size != b.max_queue_size)
		return wrong(t, "it offers this now and that then");
	if (t->c->features & a.opinion & ~a.features)
		return wrong(t, "it does not offer what the test accepts");
	return true;
}

static bool starts_and_stops(struct test *t)
{
	const unsigned n = t->c->nqueues;
	int rc = start(t, 0, n);

	if (rc)
		return wrong(t, "start() fails: %s", strerror(-rc));
	if (!traffic(t, 0, n, 3) || !stop(t, 0, n))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (t->side[i].q.next != t->side[i].ring.avail_pos)
			return wrong(t, "queue %u: stopped at %#x, not %#x", i, t->side[i].q.next,
				     t->side[i].ring.avail_pos);
		if (!quiet(t, i, "after stop()"))
			return false;
	}
	return true;
}

static bool starts_where_it_stopped(struct test *t)
{
	int rc = start(t, 0, t->c->nqueues);

	if (rc)
		return wrong(t, "the second start() fails: %s", strerror(-rc));
	for (unsigned i = 0; i < t->c->nqueues; i++)
		if (!all_back(t, i)) /* the chain that quiet() left */
			return false;
	return traffic(t, 0, t->c->nqueues, 3) && stop(t, 0, t->c->nqueues);
}

static bool fails_to_start(struct test *t)
{
	const unsigned n = t->c->nqueues;
	struct side *last = &t->side[n - 1];
	const gpa_t desc = last->q.desc;
	const unsigned before = open_fds();
	int rc;

	if (t->c->spoil)
		t->c->spoil(t->c->opaque, true);
	else
		last->q.desc = NOT_RAM;
	rc = start(t, 0, n);
	if (t->c->spoil)
		t->c->spoil(t->c->opaque, false);
	last->q.desc = desc;
	if (!rc)
		return wrong(t, "start() does not fail where it must");
	if (open_fds() != before)
		return wrong(t, "a start() that failed keeps descriptors");
	for (unsigned i = 0; i < n; i++)
		if (!quiet(t, i, "though start() failed"))
			return false;
	return starts_where_it_stopped(t);
}

static bool one_queue_alone(struct test *t)
{
	const unsigned n = t->c->nqueues, alone = n - 1;
	int rc;

	if (n < 2)
		return true;
	rc = start(t, 0, n);
	if (rc)
		return wrong(t, "start() fails: %s", strerror(-rc));
	if (!traffic(t, 0, n, 3) || !stop(t, alone, 1) || !quiet(t, alone, "after stop() of it alone") ||
	    !traffic(t, 0, n - 1, 3))
		return false;
	rc = start(t, alone, 1);
	if (rc)
		return wrong(t, "start() of one queue fails: %s", strerror(-rc));
	return traffic(t, 0, n, 3) && stop(t, 0, n);
}

/* Stops while chains are on their way: none is lost, none comes back twice. */
static bool rounds(struct test *t)
{
	const unsigned n = t->c->nqueues, total = t->c->rounds ? t->c->rounds : 1000;
	const unsigned before = open_fds();

	for (unsigned round = 0; round < total; round++) {
		int rc = start(t, 0, n);

		if (rc)
			return wrong(t, "start() number %u fails: %s", round, strerror(-rc));
		for (unsigned i = 0; i < n; i++) {
			for (unsigned k = 0; k < round % 4; k++)
				if (!add(t, i))
					return false;
			if (round % 16 == 0 && !all_back(t, i))
				return false;
		}
		if (!stop(t, 0, n))
			return false;
		for (unsigned i = 0; i < n; i++)
			if (!collect(t, i))
				return false;
	}
	if (open_fds() != before)
		return wrong(t, "descriptors are left open after %u rounds", total);
	return starts_where_it_stopped(t);
}

static void init(struct test *t, const struct datapath_conformance *c)
{
	const uint16_t pos = (uint16_t)(c->features & 1ull << VIRTIO_F_RING_PACKED ? 0x8000 : 0);

	*t = (struct test){.c = c};
	driver_mem_init(&t->m);
	t->buf = driver_mem_alloc(&t->m, 32 * MAX_QUEUES, 16);
	for (unsigned i = 0; i < c->nqueues; i++) {
		struct side *s = &t->side[i];

		driver_ring_init(&s->ring, &t->m, c->size, c->features, pos);
		driver_ring_queue(&s->ring, &s->q);
		s->q.index = i;
		s->q.stats = &s->stats;
		s->q.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		s->q.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (c->memory)
		c->memory(c->opaque, &t->m.mem);
}

static void fini(struct test *t)
{
	for (unsigned i = 0; i < t->c->nqueues; i++) {
		close(t->side[i].q.kick_fd);
		close(t->side[i].q.call_fd);
		driver_ring_fini(&t->side[i].ring);
	}
	driver_mem_fini(&t->m);
}

const char *datapath_conforms(const struct datapath_conformance *c)
{
	static struct test t;

	init(&t, c);
	if (offers(&t) && starts_and_stops(&t) && starts_where_it_stopped(&t) && fails_to_start(&t) &&
	    one_queue_alone(&t) && rounds(&t))
		fini(&t); /* else somebody may still run on it */
	return t.fault[0] ? t.fault : NULL;
}
