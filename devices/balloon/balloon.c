/* Theory of operation.
 *
 * Inflate: page numbers, always of 4 KiB.  They are copied, sorted and joined to runs, so that a thousand
 * neighbours cost one hole, and so that pages of a host with larger ones are whole where the guest gave all
 * of them at once.  Where that is not so, or pages must stay (huge, populated, pinned), nothing is
 * discarded; the driver gets its answer all the same.
 *
 * Deflate: nothing to do, a page comes back when it is touched.  MUST_TELL_HOST is therefore not offered.
 *
 * Statistics: the driver gives a buffer of them and waits; giving it back asks for new ones. */
#include "devices/balloon/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "devices/virtio/inproc.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define QUEUE_SIZE  128
#define PIECES_MAX  (2 * QUEUE_SIZE) /* a descriptor may reach over a seam of RAM */
#define PFN_SIZE    (UINT64_C(1) << VIRTIO_BALLOON_PFN_SHIFT)
#define PFNS_MAX    4096 /* looked at in one chain; Linux sends 256, others a page full (1024) */
#define STATS_MAX   64   /* entries looked at in one buffer of statistics */
#define HOLES_BURST 1024 /* made before others on the loop have their turn */

enum role { INFLATE, DEFLATE, STATS, REPORTING, NOTHING };
#define NQUEUES 5

struct balloon {
	struct virtio_device dev;
	_Atomic uint32_t target, actual; /* pages of 4 KiB */
	_Atomic uint32_t poison;
	_Atomic uint64_t discarded;
	bool deflate_on_oom, reporting;

	struct ev_watch wake; /* eventfd: statistics are asked for */
	struct ev_timer timer;
	uint64_t period;
	pthread_mutex_t lock; /* stats */
	struct balloon_stats stats;

	/* the loop's: */
	struct virtqueue *stats_vq; /* NULL: does not run */
	bool holding;               /* the driver waits for this chain of it */
	uint16_t held;
	bool said; /* that nothing can be given back */
	struct iovec iov[PIECES_MAX];
	uint32_t pfn[PFNS_MAX];
};

static struct balloon *balloon_of(struct virtio_device *dev)
{
	return container_of(dev, struct balloon, dev);
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
		return;
}

/* Which queue this is.  The specification numbers them for good (5.5.2); Linux leaves no gaps for those of
 * features that were not accepted.  FREE_PAGE_HINT is never offered, so both can be had. */
static enum role role_of(const struct virtio_device *dev, unsigned queue)
{
	bool stats = virtio_has(dev, VIRTIO_BALLOON_F_STATS_VQ);

	if (queue < 2)
		return queue ? DEFLATE : INFLATE;
	if (queue == 2 && stats)
		return STATS;
	return virtio_has(dev, VIRTIO_BALLOON_F_REPORTING) ? REPORTING : NOTHING;
}

/* The first bytes of what the driver wrote; returns how many there are, len at most. */
static size_t gather(const struct vq_chain *c, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->nout && done < len; i++) {
		size_t n = c->iov[i].iov_len < len - done ? c->iov[i].iov_len : len - done;

		memcpy((char *)buf + done, c->iov[i].iov_base, n);
		done += n;
	}
	return done;
}

/* --- pages --- */

static void discard(struct balloon *b, gpa_t gpa, uint64_t len)
{
	int rc = guest_mem_discard(b->dev.mem, gpa, len);

	if (!rc) {
		b->discarded += len;
	} else if (rc == -EFAULT) {
		log_guest("%s: the driver gave pages that are not RAM, at %#llx", b->dev.name,
			  (unsigned long long)gpa);
	} else if (!b->said) {
		b->said = true;
		log_warn("%s: memory cannot be given back to the host now: %s", b->dev.name,
			 rc == -EBUSY    ? "it is populated or pinned"
			 : rc == -EINVAL ? "the pages behind it are larger than those the guest gives"
					 : strerror(-rc));
	}
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Returns how many holes it may have made. */
static unsigned inflate(struct balloon *b, const struct vq_chain *c)
{
	size_t n = gather(c, b->pfn, sizeof(b->pfn)) / sizeof(b->pfn[0]);
	unsigned holes = 0;

	if (c->out_len > sizeof(b->pfn))
		log_guest("%s: %llu bytes of page numbers at once; the host has no use for the rest",
			  b->dev.name, (unsigned long long)c->out_len);
	for (size_t i = 0; i < n; i++)
		b->pfn[i] = le32toh(b->pfn[i]);
	qsort(b->pfn, n, sizeof(b->pfn[0]), by_number);
	for (size_t i = 0, end; i < n; i = end, holes++) {
		gpa_t gpa = (gpa_t)b->pfn[i] << VIRTIO_BALLOON_PFN_SHIFT;

		end = i + 1;
		if (!guest_mem_ptr(b->dev.mem, gpa, PFN_SIZE)) { /* must not spoil a run for the others */
			log_guest("%s: page %#x is not RAM", b->dev.name, b->pfn[i]);
			continue;
		}
		while (end < n && b->pfn[end] - b->pfn[end - 1] <= 1 &&
		       guest_mem_ptr(b->dev.mem, (gpa_t)b->pfn[end] << VIRTIO_BALLOON_PFN_SHIFT, PFN_SIZE))
			end++;
		discard(b, gpa, (uint64_t)(b->pfn[end - 1] - b->pfn[i] + 1) << VIRTIO_BALLOON_PFN_SHIFT);
	}
	return holes;
}

static unsigned report(struct balloon *b, const struct vq_chain *c)
{
	/* Free pages are to keep the value the driver gave them, and ours come back as zeroes (5.5.6.7.2). */
	if (virtio_has(&b->dev, VIRTIO_BALLOON_F_PAGE_POISON) && b->poison)
		return 0;
	for (unsigned i = c->nout; i < c->nout + c->nin; i++) {
		gpa_t gpa;

		if (c->iov[i].iov_len && guest_mem_gpa(b->dev.mem, c->iov[i].iov_base, &gpa))
			discard(b, gpa, c->iov[i].iov_len);
	}
	return c->nin;
}

/* --- statistics --- */

static void ask_for_stats(struct balloon *b)
{
	if (!b->stats_vq || !b->holding)
		return;
	b->holding = false;
	vq_push(b->stats_vq, b->held, 0);
	vq_flush(b->stats_vq);
}

static void take_stats(struct balloon *b, const struct vq_chain *c)
{
	struct virtio_balloon_stat s[STATS_MAX];
	size_t n = gather(c, s, sizeof(s)) / sizeof(s[0]);

	pthread_mutex_lock(&b->lock);
	b->stats.seq++;
	b->stats.known = 0;
	for (size_t i = 0; i < n; i++) {
		uint16_t tag = le16toh(s[i].tag);

		if (tag >= BALLOON_STATS)
			continue;
		b->stats.known |= 1u << tag;
		b->stats.value[tag] = le64toh(s[i].val);
	}
	pthread_mutex_unlock(&b->lock);
	/* At most one may be there (5.5.6.3.1); a second is taken for the first one's successor. */
	ask_for_stats(b);
	b->held = c->head;
	b->holding = true;
	if (b->period)
		ev_timer_arm(&b->timer, b->period);
}

static void on_timer(struct ev_timer *t)
{
	ask_for_stats(container_of(t, struct balloon, timer));
}

static void on_wake(struct ev_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		ask_for_stats(container_of(w, struct balloon, wake));
}

/* --- queues --- */

/* 1: one chain served, and what it cost taken from *burst.  0: none there.  -errno: broken. */
static int serve(struct balloon *b, struct virtqueue *vq, enum role role, unsigned *burst)
{
	struct vq_chain c = {.iov = b->iov, .iov_max = PIECES_MAX};
	unsigned cost = 1;
	int rc = vq_pop(vq, &c);

	if (rc <= 0)
		return rc;
	if (role == STATS) {
		take_stats(b, &c);
	} else {
		if (role == INFLATE)
			cost += inflate(b, &c);
		else if (role == REPORTING)
			cost += report(b, &c);
		vq_push(vq, c.head, 0);
	}
	*burst -= cost < *burst ? cost : *burst;
	return 1;
}

static void balloon_kick(struct virtio_device *dev, struct virtqueue *vq)
{
	struct balloon *b = balloon_of(dev);
	enum role role = role_of(dev, vq_index(vq));
	unsigned left = vq_size(vq), burst = HOLES_BURST;
	int rc;

	vq_busy(vq);
	do {
		while ((rc = left && burst ? serve(b, vq, role, &burst) : 0) > 0)
			left--;
		if (rc < 0) {
			vq_flush(vq);
			virtio_needs_reset(dev, "a queue is broken", rc);
			return;
		}
		if (!left || !burst) { /* others on this loop come first; then here again */
			vq_flush(vq);
			signal_fd(dev->queue[vq_index(vq)].kick_fd);
			return;
		}
	} while (vq_wait(vq));
}

static int balloon_run(struct virtio_device *dev, struct virtqueue *vq)
{
	if (role_of(dev, vq_index(vq)) == STATS)
		balloon_of(dev)->stats_vq = vq;
	return 0;
}

static void balloon_halt(struct virtio_device *dev, struct virtqueue *vq)
{
	struct balloon *b = balloon_of(dev);

	if (vq == b->stats_vq) {
		ev_timer_arm(&b->timer, 0);
		ask_for_stats(b);
		b->stats_vq = NULL;
	}
	vq_flush(vq);
}

/* --- the device --- */

static uint64_t balloon_features(struct virtio_device *dev)
{
	const struct balloon *b = balloon_of(dev);
	uint64_t f = BIT(VIRTIO_BALLOON_F_STATS_VQ);

	if (b->deflate_on_oom)
		f |= BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (b->reporting) /* and poison, or a guest that clears what it frees would not report */
		f |= BIT(VIRTIO_BALLOON_F_REPORTING) | BIT(VIRTIO_BALLOON_F_PAGE_POISON);
	return f;
}

static size_t balloon_config_size(struct virtio_device *dev)
{
	(void)dev;
	return sizeof(struct virtio_balloon_config);
}

static struct virtio_balloon_config config_of(const struct balloon *b)
{
	return (struct virtio_balloon_config){
		.num_pages = htole32(b->target),
		.actual = htole32(b->actual),
		.poison_val = htole32(b->poison),
	};
}

static void balloon_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	struct virtio_balloon_config c = config_of(balloon_of(dev));

	memcpy(buf, (const char *)&c + off, len);
}

static void balloon_config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	struct balloon *b = balloon_of(dev);
	struct virtio_balloon_config c = config_of(b);

	memcpy((char *)&c + off, buf, len);
	b->actual = le32toh(c.actual);
	if (!(virtio_status(dev) & VIRTIO_CONFIG_S_DRIVER_OK)) /* 5.5.6.6.1: fixed from there on */
		b->poison = le32toh(c.poison_val);
}

/* The driver forgets what it gave; what the host wants stays. */
static void balloon_reset(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);

	b->actual = 0;
	b->poison = 0;
}

struct loop_call {
	struct balloon *b;
	int rc;
};

static void watch(void *arg)
{
	struct loop_call *call = arg;
	struct balloon *b = call->b;

	call->rc = evloop_add(b->dev.loop, &b->wake, EPOLLIN);
	if (call->rc)
		return;
	call->rc = ev_timer_init(&b->timer, b->dev.loop, on_timer);
	if (call->rc)
		evloop_del(b->dev.loop, &b->wake);
}

static void unwatch(void *arg)
{
	struct balloon *b = arg;

	ev_timer_fini(&b->timer);
	evloop_del(b->dev.loop, &b->wake);
}

static void balloon_destroy(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);

	evloop_call(dev->loop, unwatch, b);
	if (dev->local)
		dev->local->ops->destroy(dev->local);
	close(b->wake.fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct virtio_device_ops balloon_ops = {
	.id = VIRTIO_ID_BALLOON,
	.name = "balloon",
	.features = balloon_features,
	.config_size = balloon_config_size,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.reset = balloon_reset,
	.run = balloon_run,
	.kick = balloon_kick,
	.halt = balloon_halt,
	.destroy = balloon_destroy,
};

static uint32_t pages(uint64_t bytes)
{
	bytes >>= VIRTIO_BALLOON_PFN_SHIFT;
	return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

struct virtio_device *balloon_new(const struct balloon_config *c, struct err *e)
{
	struct balloon *b = calloc(1, sizeof(*b));
	struct loop_call call = {.b = b, .rc = -EMFILE};

	if (!b) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	b->target = pages(c->target);
	b->deflate_on_oom = c->deflate_on_oom;
	b->reporting = c->reporting;
	b->period = c->stats_period;
	b->dev.ops = &balloon_ops;
	b->dev.name = c->name;
	b->dev.mem = c->mem;
	b->dev.loop = c->loop;
	b->dev.hidden = c->hidden;
	b->dev.nqueues = c->reporting ? NQUEUES : STATS + 1;
	for (unsigned i = 0; i < b->dev.nqueues; i++) {
		b->dev.queue[i].max_size = QUEUE_SIZE;
		b->dev.queue[i].loop = c->loop;
	}
	b->wake.fn = on_wake;
	b->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake.fd >= 0)
		evloop_call(c->loop, watch, &call);
	if (call.rc) {
		err_set(e, call.rc, "%s: no descriptors for it: %s (ulimit -n)", c->name, strerror(-call.rc));
		cleanup_fd_(&b->wake.fd);
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	b->dev.local = inproc_new(&b->dev);
	if (!b->dev.local)
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
	if (!b->dev.local || virtio_init(&b->dev, e)) {
		balloon_destroy(&b->dev);
		return NULL;
	}
	return &b->dev;
}

/* --- from outside --- */

void virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes)
{
	if (atomic_exchange(&balloon_of(dev)->target, pages(bytes)) != pages(bytes))
		virtio_config_changed(dev);
}

uint64_t virtio_balloon_target(struct virtio_device *dev)
{
	return (uint64_t)balloon_of(dev)->target << VIRTIO_BALLOON_PFN_SHIFT;
}

uint64_t virtio_balloon_actual(struct virtio_device *dev)
{
	return (uint64_t)balloon_of(dev)->actual << VIRTIO_BALLOON_PFN_SHIFT;
}

uint64_t virtio_balloon_discarded(struct virtio_device *dev)
{
	return balloon_of(dev)->discarded;
}

void virtio_balloon_stats(struct virtio_device *dev, struct balloon_stats *out)
{
	struct balloon *b = balloon_of(dev);

	pthread_mutex_lock(&b->lock);
	*out = b->stats;
	pthread_mutex_unlock(&b->lock);
	signal_fd(b->wake.fd);
}
