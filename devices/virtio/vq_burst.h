/* Many chains at a time, for a device that gives back what it takes before it takes more: it looks at the
 * chains at hand, uses as many as it likes, in order, and they are popped and pushed in one.  What it looked
 * at and did not use has never happened.  Nothing is in flight meanwhile, so nothing is remembered of a chain.
 *
 * Only chains of one descriptor are seen, which is what most drivers make of a frame; any other ends a look,
 * and is vq_pop()'s.  The two may be mixed, as long as all that was popped is pushed before the next look. */
#ifndef VIRTIO_VQ_BURST_H
#define VIRTIO_VQ_BURST_H
#include "devices/virtio/virtqueue.h"

#define VQ_BURST 32

struct vq_buf {
	char *base;
	uint32_t len; /* not 0; for a buffer to be written, after that: how much was, from the start */
	uint16_t head;
};

/* The next up to max (at most VQ_BURST) chains, each one buffer that the device reads, or one that it
 * writes.  Fewer: there are no more, the next one is not so simple, or it is wrong; vq_pop() tells which.
 * 0 too on a broken ring. */
unsigned vq_burst_look(struct virtqueue *vq, struct vq_buf *buf, unsigned max, bool writable);
/* After a look that gave nothing: is there something that vq_pop() would take, or refuse? */
bool vq_burst_odd(const struct virtqueue *vq);
/* The first n of those last looked at are used, buf[].len bytes of each written where they are writable.  The
 * driver sees it after the next vq_flush() or vq_show(). */
void vq_burst_used(struct virtqueue *vq, const struct vq_buf *buf, unsigned n, bool writable);

/* Pops the chain at head, which whoever served this split ring before had popped and not pushed, as if the
 * next entry of the avail ring named it: c as of vq_pop().  1; -EINVAL: a packed ring; else the ring is broken.
 */
int vq_pop_again(struct virtqueue *vq, uint16_t head, struct vq_chain *c);
#endif
