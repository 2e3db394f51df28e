/* A virtqueue, device side: split (virtio 1.3, 2.7) and packed (2.8) behind the same functions.
 *
 * Every value is read from guest memory once, checked, then used.  The first error is kept: from then on
 * vq_pop() returns it without looking, so a device that retries cannot spin on a ring the guest has
 * broken.  One thread owns a virtqueue; nothing here locks. */
#ifndef VIRTIO_VIRTQUEUE_H
#define VIRTIO_VIRTQUEUE_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/virtio/datapath.h"

struct virtqueue;

/* What vq_pop() found.  The caller gives iov and iov_max; the buffers stay the guest's, who may change
 * them at any time: copy, then check, then use. */
struct vq_chain {
	uint16_t head;            /* split: index of the first descriptor; packed: buffer id */
	unsigned nout;            /* iov[0 .. nout): the device reads them */
	unsigned nin;             /* iov[nout .. nout + nin): the device writes them */
	uint64_t out_len, in_len; /* bytes in each */
	struct iovec *iov;
	unsigned iov_max;
};

/* 0; -EINVAL: size, alignment or address; -ENOMEM.  mem and q->stats must outlive vq.  Queue state starts
 * at q->next; a split ring whose used index says otherwise comes up broken, see vq_error().  call_fd may
 * be -1.  vq_free(NULL) is fine. */
int vq_new(struct virtqueue **out, const struct datapath_queue *q, const struct guest_mem *mem,
	   uint64_t features);
void vq_free(struct virtqueue *vq);

/* 1: c holds a chain.  0: none now.  -errno: the ring is broken (-EILSEQ a malformed chain or index,
 * -EFAULT an address that is not RAM, -E2BIG more than iov_max pieces, -EBUSY a head that is in flight).
 * A descriptor of length 0 adds no piece, so a chain may have none at all. */
int vq_pop(struct virtqueue *vq, struct vq_chain *c);
/* Asks the processor for what the next n chains at most are made of, which lies with the driver's: it comes for
 * all of them at a time and not for one after the other.  A hint, which does nothing that can be seen. */
void vq_ahead(const struct virtqueue *vq, unsigned n);
/* The last n pops never happened: none of them was pushed or will be.  (A frame needs more buffers than
 * there are.)  Nothing else may have been popped since. */
void vq_unpop(struct virtqueue *vq, unsigned n);
/* Gives a chain back, `written` bytes of its in part filled from the start.  With VIRTIO_F_IN_ORDER it is
 * kept until all popped before it are back. */
void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written);
/* Shows the driver what was pushed, in one store; an interrupt it asks for is due at the next flush.  In the
 * midst of a burst, so that a driver that looks by itself can go on. */
void vq_show(struct virtqueue *vq);
/* Shows, and interrupts (call_fd, or call()) where the driver asked for it. */
void vq_flush(struct virtqueue *vq);
/* Flush, then ask for kicks.  True: there is something that vq_pop() has not looked at yet, look now.  What
 * was unpopped does not count.  False on a broken ring, which asks for nothing. */
bool vq_wait(struct virtqueue *vq);
/* Flush, then look for some microseconds whether the driver comes back, with kicks still off.  True: it has.
 * False: it has not, or did not of late and looking would be a waste.  For a thread that has nothing in
 * flight; follow it by vq_wait(). */
bool vq_poll(struct virtqueue *vq);
/* The same for a queue that waits for kicks, of which it is spared one: the driver is expected to answer what
 * another queue has just shown it.  False: it still waits. */
bool vq_expect(struct virtqueue *vq);
/* No kicks wanted until vq_wait(): called when a burst begins. */
void vq_busy(struct virtqueue *vq);

unsigned vq_index(const struct virtqueue *vq);
uint16_t vq_size(const struct virtqueue *vq);
unsigned vq_inflight(const struct virtqueue *vq); /* popped and not pushed */
int vq_error(const struct virtqueue *vq);         /* 0, or what broke the ring */
void vq_break(struct virtqueue *vq, int err);     /* latch an error the device found */
uint16_t vq_position(const struct virtqueue *vq); /* as datapath_queue.next, with nothing in flight */
struct queue_stats *vq_stats(struct virtqueue *vq);

void *vq_opaque(const struct virtqueue *vq); /* the device model's, NULL at first */
void vq_set_opaque(struct virtqueue *vq, void *opaque);
#endif
