#include "devices/rng/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "devices/virtio/inproc.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"

#define QUEUE_SIZE 64
#define PIECES_MAX (2 * QUEUE_SIZE) /* a descriptor may reach over a seam of RAM */

struct rng {
	struct virtio_device dev;
	struct iovec iov[PIECES_MAX];
};

static struct rng *rng_of(struct virtio_device *dev)
{
	return container_of(dev, struct rng, dev);
}

static uint64_t rng_features(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static size_t rng_config_size(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void rng_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	(void)dev;
	(void)off;
	memset(buf, 0, len);
}

/* Random bytes into the buffers: how many, or -errno if there is not even one. */
static ssize_t fill(const struct iovec *iov, unsigned n, struct queue_stats *stats)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < RNG_REQUEST_MAX; i++) {
		size_t want = iov[i].iov_len;

		if (want > RNG_REQUEST_MAX - done)
			want = RNG_REQUEST_MAX - done;
		for (size_t at = 0; at < want;) {
			ssize_t got = getrandom((char *)iov[i].iov_base + at, want - at,
						0); /* #syscalls[data]: getrandom */

			stats->syscalls++;
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0) /* RAM that is not there: a file cut short */
				return done ? (ssize_t)done : -errno;
			at += (size_t)got;
			done += (size_t)got;
		}
	}
	return (ssize_t)done;
}

/* 1: one request answered.  0: none there, or -errno: the ring is broken. */
static int serve(struct rng *r, struct virtqueue *vq)
{
	struct vq_chain c = {.iov = r->iov, .iov_max = PIECES_MAX};
	int rc = vq_pop(vq, &c);
	ssize_t n;

	if (rc <= 0)
		return rc;
	/* Readable buffers must not be there (5.4.6.1); nothing is read from them. */
	n = fill(c.iov + c.nout, c.nin, vq_stats(vq));
	if (n < 0) {
		vq_push(vq, c.head, 0);
		vq_break(vq, (int)n);
		return (int)n;
	}
	vq_push(vq, c.head, (uint32_t)n);
	vq_stats(vq)->bytes += (uint64_t)n;
	return 1;
}

static int rng_run(struct virtio_device *dev, struct virtqueue *vq)
{
	(void)dev;
	(void)vq;
	return 0;
}

static void rng_kick(struct virtio_device *dev, struct virtqueue *vq)
{
	const uint64_t one = 1;
	unsigned left = vq_size(vq);
	int rc;

	vq_busy(vq);
	do {
		while ((rc = left ? serve(rng_of(dev), vq) : 0) > 0)
			left--;
		if (rc < 0) {
			vq_flush(vq);
			virtio_needs_reset(dev, "its queue is broken", rc);
			return;
		}
		if (!left) { /* others on this loop come first; then here again */
			vq_flush(vq);
			if (write(dev->queue[vq_index(vq)].kick_fd, &one, sizeof(one)) < 0)
				return; /* EAGAIN: kicked more than enough */
			return;
		}
	} while (vq_wait(vq));
}

static void rng_halt(struct virtio_device *dev, struct virtqueue *vq)
{
	(void)dev;
	vq_flush(vq);
}

static void rng_destroy(struct virtio_device *dev)
{
	dev->local->ops->destroy(dev->local);
	free(rng_of(dev));
}

static const struct virtio_device_ops rng_ops = {
	.id = VIRTIO_ID_RNG,
	.name = "rng",
	.features = rng_features,
	.config_size = rng_config_size,
	.config_read = rng_config_read,
	.run = rng_run,
	.kick = rng_kick,
	.halt = rng_halt,
	.destroy = rng_destroy,
};

struct virtio_device *rng_new(const struct rng_config *c, struct err *e)
{
	struct rng *r = calloc(1, sizeof(*r));

	if (!r) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	r->dev.ops = &rng_ops;
	r->dev.name = c->name;
	r->dev.mem = c->mem;
	r->dev.loop = c->loop;
	r->dev.hidden = c->hidden;
	r->dev.nqueues = 1;
	r->dev.queue[0].max_size = QUEUE_SIZE;
	r->dev.queue[0].loop = c->loop;
	r->dev.local = inproc_new(&r->dev);
	if (!r->dev.local) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		free(r);
		return NULL;
	}
	if (virtio_init(&r->dev, e)) {
		rng_destroy(&r->dev);
		return NULL;
	}
	return &r->dev;
}
