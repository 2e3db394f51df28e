/* Theory of operation: a queue owns as many requests as its ring has entries, so nothing is allocated
 * while it runs.  A kick pops all there is and submits each; one commit() starts them, and what the disk
 * has at hand (page cache) is done when it returns, so a burst ends with one used index and at most one
 * interrupt.  A request over several ranges goes through the disk one range after the other.
 *
 * The guest's header is copied once and checked as a copy.  A mistake inside a request costs that request
 * (IOERR, UNSUPP); a chain that cannot even hold an answer breaks the ring. */
#include "devices/blk/blk_queue.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#include "devices/blk/disk.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "lib/log.h"

/* Beside the data: header and status, which a driver may cut into single bytes, and pieces that end
 * where a region of RAM does. */
#define IOV_EXTRA   (sizeof(struct virtio_blk_outhdr) + 1 + GUEST_MEM_MAX_REGIONS)
#define REQ_IOV_MAX (BLK_SEG_MAX + IOV_EXTRA)
/* So many are begun, and shown if they are done at once, before the next are looked at: meanwhile the driver
 * has something to do. */
#define BURST 16

struct range {
	uint64_t offset, len; /* bytes */
	enum disk_op op;
};

struct blk_req {
	struct disk_req io;
	struct blk_queue *q;
	struct blk_req *next_free;
	struct iovec *iov;                   /* [REQ_IOV_MAX] */
	uint8_t *status;                     /* in guest memory */
	uint32_t written;                    /* used.len if it succeeds */
	uint16_t head;                       /* ... of its chain */
	bool sync_last;                      /* a flush follows the ranges */
	unsigned nranges, next_range;        /* discard, write zeroes */
	struct range ranges[BLK_RANGE_SEGS]; /* checked */
};

struct blk_queue {
	struct blk_queue_host h;
	struct virtqueue *vq;
	struct disk_lane *lane;
	struct blk_req *reqs, *free;
	struct iovec *iovs;
	bool kicking; /* the kick flushes, batch() need not */
	bool starved; /* chains may wait for a free request */
	bool halting;
};

static void req_put(struct blk_req *r)
{
	r->next_free = r->q->free;
	r->q->free = r;
}

static void req_end(struct blk_req *r, uint8_t status)
{
	const struct blk_queue_host *h = &r->q->h;
	/* A failed read may have filled some of the buffer; the status byte is all that is promised. */
	const uint32_t written = status == VIRTIO_BLK_S_OK ? r->written : 1;

	*r->status = status;
	if (h->push)
		h->push(h->opaque, r->head, written);
	else
		vq_push(r->q->vq, r->head, written);
	req_put(r);
}

static const char *op_name(enum disk_op op)
{
	static const char *const name[] = {
		[DISK_READ] = "read",       [DISK_WRITE] = "write",       [DISK_FLUSH] = "flush",
		[DISK_DISCARD] = "discard", [DISK_ZERO] = "write zeroes", [DISK_ZERO_UNMAP] = "write zeroes",
	};

	return name[op];
}

static void req_next(struct blk_req *r);

static void req_done(struct disk_req *io, int err)
{
	struct blk_req *r = container_of(io, struct blk_req, io);

	if (!err) {
		req_next(r);
		return;
	}
	log_guest("%s: %s at sector %llu, %llu bytes: %s", r->q->h.name, op_name(io->op),
		  (unsigned long long)(io->offset / 512), (unsigned long long)io->len, strerror(-err));
	req_end(r, VIRTIO_BLK_S_IOERR);
}

static void req_submit(struct blk_req *r, enum disk_op op, uint64_t offset, uint64_t len)
{
	r->io.op = op;
	r->io.offset = offset;
	r->io.len = len;
	r->q->h.disk->ops->submit(r->q->lane, &r->io);
}

/* What is still to be done for r: a range, the flush after the last, the answer. */
static void req_next(struct blk_req *r)
{
	while (r->next_range < r->nranges) {
		const struct range *g = &r->ranges[r->next_range++];

		if (g->len) {
			req_submit(r, g->op, g->offset, g->len);
			return;
		}
	}
	if (r->sync_last) {
		r->sync_last = false;
		req_submit(r, DISK_FLUSH, 0, 0);
		return;
	}
	req_end(r, VIRTIO_BLK_S_OK);
}

/* --- scatter lists --- */

/* Copies len bytes from the start of iov, which holds as many. */
static void iov_get(const struct iovec *iov, void *dst, size_t len)
{
	for (size_t n; len; len -= n, dst = (char *)dst + n, iov++) {
		n = iov->iov_len < len ? iov->iov_len : len;
		memcpy(dst, iov->iov_base, n);
	}
}

/* Copies src to the start of iov as far as both go; returns the bytes. */
static size_t iov_put(const struct iovec *iov, size_t room, const void *src, size_t len)
{
	size_t left = len < room ? len : room, total = left;

	for (size_t n; left; left -= n, src = (const char *)src + n, iov++) {
		n = iov->iov_len < left ? iov->iov_len : left;
		memcpy(iov->iov_base, src, n);
	}
	return total;
}

/* Drops len bytes from the start of the n pieces at iov; returns how many pieces that leaves. */
static unsigned iov_skip(struct iovec **iov, unsigned n, size_t len)
{
	while (n && len >= (*iov)->iov_len) {
		len -= (*iov)->iov_len;
		(*iov)++;
		n--;
	}
	if (len) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + len;
		(*iov)->iov_len -= len;
	}
	return n;
}

/* --- requests --- */

static bool range_ok(const struct disk *d, uint64_t sector, uint64_t len)
{
	uint64_t capacity = d->size / 512, n = len / 512;

	/* used.len has 32 bits and counts the status byte. */
	if (len % 512 || len >= UINT32_MAX)
		return false;
	if (sector > capacity || n > capacity - sector)
		return false;
	return !((sector | n) & (d->block_size / 512 - 1)); /* which is a power of two */
}

static void start_rw(struct blk_req *r, enum disk_op op, uint64_t sector, struct iovec *iov, unsigned niov,
		     uint64_t len)
{
	const struct blk_queue_host *h = &r->q->h;
	struct queue_stats *stats = vq_stats(r->q->vq);

	if ((op == DISK_WRITE && h->disk->read_only) || !range_ok(h->disk, sector, len)) {
		req_end(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!len) {
		req_end(r, VIRTIO_BLK_S_OK);
		return;
	}
	atomic_store_explicit(&stats->bytes, atomic_load_explicit(&stats->bytes, memory_order_relaxed) + len,
			      memory_order_relaxed);
	r->io.iov = iov;
	r->io.iovcnt = (int)niov;
	r->io.durable = op == DISK_WRITE && !*h->writeback;
	req_submit(r, op, sector * 512, len);
}

/* Checks one segment and turns it into a range.  VIRTIO_BLK_S_*. */
static uint8_t range_parse(const struct blk_queue_host *h, uint32_t type,
			   const struct virtio_blk_discard_write_zeroes *seg, struct range *out)
{
	uint64_t sector = le64toh(seg->sector), n = le32toh(seg->num_sectors);
	bool discard = type == VIRTIO_BLK_T_DISCARD;
	uint32_t flags = le32toh(seg->flags);
	bool unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if ((flags & ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) || (discard && unmap))
		return VIRTIO_BLK_S_UNSUPP;
	if (h->disk->read_only)
		return VIRTIO_BLK_S_IOERR;
	if (!(h->features >> (discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES) & 1))
		return VIRTIO_BLK_S_UNSUPP;
	if (n > (discard ? BLK_DISCARD_SECTORS : BLK_ZERO_SECTORS) || !range_ok(h->disk, sector, n * 512))
		return VIRTIO_BLK_S_IOERR;
	out->offset = sector * 512;
	out->len = n * 512;
	out->op = discard ? DISK_DISCARD : unmap ? DISK_ZERO_UNMAP : DISK_ZERO;
	return VIRTIO_BLK_S_OK;
}

static void start_ranges(struct blk_req *r, uint32_t type, const struct iovec *iov, uint64_t len)
{
	struct virtio_blk_discard_write_zeroes seg[BLK_RANGE_SEGS];
	unsigned n = (unsigned)(len / sizeof(seg[0]));

	if (!len || len % sizeof(seg[0]) || len > sizeof(seg)) {
		req_end(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	iov_get(iov, seg, len);
	for (unsigned i = 0; i < n; i++) {
		uint8_t status = range_parse(&r->q->h, type, &seg[i], &r->ranges[i]);

		if (status != VIRTIO_BLK_S_OK) {
			req_end(r, status);
			return;
		}
	}
	r->nranges = n;
	/* Zeroes are data: in writethrough mode they are stable when the driver hears of them. */
	r->sync_last = type == VIRTIO_BLK_T_WRITE_ZEROES && !*r->q->h.writeback;
	req_next(r);
}

/* Where the answer goes: the last byte that the device may write. */
static uint8_t *status_byte(const struct vq_chain *c)
{
	const struct iovec *last = &c->iov[c->nout + c->nin - 1];

	while (!last->iov_len)
		last--;
	return (uint8_t *)last->iov_base + last->iov_len - 1;
}

/* Takes the status byte off the end of the n pieces; returns how many pieces that leaves.  Drivers give it one
 * of its own, and a disk does a single buffer at less cost than a list. */
static unsigned without_status(struct iovec *in, unsigned n)
{
	while (!in[n - 1].iov_len)
		n--;
	in[n - 1].iov_len--;
	return in[n - 1].iov_len ? n : n - 1;
}

/* c has room for a status byte. */
static void req_start(struct blk_req *r, struct vq_chain *c)
{
	struct iovec *out = c->iov, *in = c->iov + c->nout;
	const struct blk_queue_host *h = &r->q->h;
	struct virtio_blk_outhdr hdr;
	uint64_t sector;
	unsigned nout;

	r->head = c->head;
	r->status = status_byte(c);
	r->written = 1;
	r->nranges = r->next_range = 0;
	r->sync_last = false;
	if (c->out_len < sizeof(hdr)) {
		req_end(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (out->iov_len >= sizeof(hdr))
		memcpy(&hdr, out->iov_base, sizeof(hdr));
	else
		iov_get(out, &hdr, sizeof(hdr));
	nout = iov_skip(&out, c->nout, sizeof(hdr));
	sector = le64toh(hdr.sector);
	switch (le32toh(hdr.type)) {
	case VIRTIO_BLK_T_IN:
		r->written = (uint32_t)c->in_len;
		start_rw(r, DISK_READ, sector, in, without_status(in, c->nin), c->in_len - 1);
		break;
	case VIRTIO_BLK_T_OUT:
		start_rw(r, DISK_WRITE, sector, out, nout, c->out_len - sizeof(hdr));
		break;
	case VIRTIO_BLK_T_FLUSH:
		r->sync_last = !h->disk->read_only;
		req_next(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		r->written = 1 + (uint32_t)iov_put(in, c->in_len - 1, h->serial, VIRTIO_BLK_ID_BYTES);
		req_end(r, VIRTIO_BLK_S_OK);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		start_ranges(r, le32toh(hdr.type), out, c->out_len - sizeof(hdr));
		break;
	default:
		req_end(r, VIRTIO_BLK_S_UNSUPP);
	}
}

/* A request that a chain has been popped for. */
struct begun {
	struct blk_req *r;
	struct vq_chain c;
};

/* Pops one chain.  As vq_pop(). */
static int req_pop(struct blk_queue *q, struct begun *b)
{
	int rc;

	b->r = q->free;
	b->c.iov = b->r->iov;
	b->c.iov_max = REQ_IOV_MAX;
	rc = q->h.pop ? q->h.pop(q->h.opaque, &b->c) : vq_pop(q->vq, &b->c);
	if (rc <= 0)
		return rc;
	if (!b->c.in_len) {
		vq_break(q->vq, -EILSEQ);
		return -EILSEQ;
	}
	q->free = b->r->next_free;
	return rc;
}

/* Pops and submits at most *budget chains, which goes down.  As vq_pop(); 1: there may be more.
 *
 * What a request is made of lies on the driver's processor, so it is asked for first, for all of a burst. */
static int queue_drain(struct blk_queue *q, unsigned *budget)
{
	struct begun b[BURST];
	unsigned n;
	int rc = 1;

	do {
		vq_ahead(q->vq, BURST);
		for (n = 0; n < BURST && *budget && q->free; n++, --*budget) {
			rc = req_pop(q, &b[n]);
			if (rc <= 0)
				break;
			__builtin_prefetch(b[n].c.iov->iov_base);
			__builtin_prefetch(status_byte(&b[n].c), 1);
		}
		for (unsigned i = 0; i < n; i++)
			req_start(b[i].r, &b[i].c);
		q->h.disk->ops->commit(q->lane);
		if (n == BURST)
			vq_flush(q->vq);
	} while (n == BURST);
	return rc;
}

void blk_queue_serve(struct blk_queue *q)
{
	unsigned budget = 2u * vq_size(q->vq);
	int rc;

	if (vq_error(q->vq) || q->starved)
		return;
	q->kicking = true;
	for (;;) {
		vq_busy(q->vq);
		rc = queue_drain(q, &budget);
		if (rc < 0 || (rc > 0 && q->free)) {
			vq_flush(q->vq);
			break;
		}
		if (!rc && !vq_inflight(q->vq) && vq_poll(q->vq))
			continue;
		if (!vq_wait(q->vq))
			break;
		if (!q->free) {
			q->starved = true;
			break;
		}
	}
	q->kicking = false;
	if (rc > 0 && q->free)
		q->h.again(q->h.opaque, q->vq); /* others on this loop have their turn first */
}

bool blk_queue_look(struct blk_queue *q)
{
	const unsigned most = vq_size(q->vq);
	unsigned budget = most;

	q->kicking = true;
	vq_busy(q->vq);
	queue_drain(q, &budget);
	vq_flush(q->vq);
	q->kicking = false;
	return budget < most;
}

/* The disk has done some; whoever waited for a free request may go on. */
static void on_batch(void *opaque)
{
	struct blk_queue *q = opaque;

	if (q->kicking)
		return;
	vq_flush(q->vq);
	if (q->starved && !q->halting && q->free) {
		q->starved = false;
		q->h.again(q->h.opaque, q->vq);
	}
}

static void queue_free(struct blk_queue *q)
{
	free(q->iovs);
	free(q->reqs);
	free(q);
}

int blk_queue_new(struct blk_queue **out, const struct blk_queue_host *h, struct virtqueue *vq)
{
	struct blk_queue *q = calloc(1, sizeof(*q));
	const struct disk_client client = {.batch = on_batch, .opaque = q, .syscalls = &vq_stats(vq)->syscalls};
	unsigned n = vq_size(vq);

	if (!q)
		return -ENOMEM;
	q->h = *h;
	q->vq = vq;
	q->reqs = calloc(n, sizeof(*q->reqs));
	q->iovs = calloc((size_t)n * REQ_IOV_MAX, sizeof(*q->iovs));
	if (!q->reqs || !q->iovs) {
		queue_free(q);
		return -ENOMEM;
	}
	for (unsigned i = n; i--;) {
		q->reqs[i].q = q;
		q->reqs[i].iov = q->iovs + (size_t)i * REQ_IOV_MAX;
		q->reqs[i].io.done = req_done;
		req_put(&q->reqs[i]);
	}
	q->lane = h->disk->ops->lane(h->disk, h->loop, n, &client);
	if (!q->lane) {
		int err = errno ? -errno : -EIO;

		queue_free(q);
		return err;
	}
	*out = q;
	return 0;
}

void blk_queue_free(struct blk_queue *q)
{
	const struct disk_ops *ops = q->h.disk->ops;

	q->halting = true;
	ops->drain(q->lane);
	vq_flush(q->vq);
	ops->lane_free(q->lane);
	queue_free(q);
}
