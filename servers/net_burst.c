/* Frames as most are: one buffer here, one there, nothing for the receiver to finish. */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "devices/virtio/vq_burst.h"
#include "servers/net_link.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define HDR        sizeof(struct virtio_net_hdr_v1)
#define CACHE_LINE 64

typedef char block __attribute__((vector_size(16), aligned(1), may_alias));

/* Of 16 bytes or more; small frames, of which there are many, by moves that overlap in the midst. */
static inline __attribute__((always_inline)) void copy(char *dst, const char *src, size_t len)
{
	const block *s = (const block *)src, *s_end = (const block *)(src + len);
	block *d = (block *)dst, *d_end = (block *)(dst + len);

	if (likely(len - 32 <= 32)) {
		block a = s[0], b = s[1], y = s_end[-2], z = s_end[-1];

		d[0] = a;
		d[1] = b;
		d_end[-2] = y;
		d_end[-1] = z;
	} else if (len <= 32) {
		block a = s[0], z = s_end[-1];

		d[0] = a;
		d_end[-1] = z;
	} else if (len <= 128) {
		for (unsigned i = 0; i < 4; i++) {
			block a = s[i], z = s_end[-1 - (int)i];

			d[i] = a;
			d_end[-1 - (int)i] = z;
		}
	} else {
		memcpy(dst, src, len);
	}
}

/* Frames on their way are more than a core's cache holds, and then waiting for memory is what takes the time.
 * So, while one is copied, piece by piece, the next is brought in, and its place; not all at once, which the
 * copy would wait for.  s[1] and d[1] are the next.  Of large ones a cache has room for the beginning. */
#define PIECE 256
#define AHEAD 2048

static inline void fetch(const struct vq_buf *s, const struct vq_buf *d, size_t at)
{
#pragma GCC unroll 4
	for (size_t i = at; i < at + PIECE; i += CACHE_LINE) {
		__builtin_prefetch(s[1].base + i);
		__builtin_prefetch(d[1].base + i, 1);
	}
}

static inline void copy_and_fetch(const struct vq_buf *s, const struct vq_buf *d, size_t len)
{
	const size_t end = len < AHEAD ? len : AHEAD;
	size_t at = HDR;

	for (; at + PIECE < end; at += PIECE) {
		fetch(s, d, at);
		memcpy(d->base + at, s->base + at, PIECE);
	}
	fetch(s, d, at);
	memcpy(d->base + at, s->base + at, len - at);
}

/* The first n or fewer that are simple; dst[].len says what is in them. */
static inline unsigned move(const struct vq_buf *restrict src, struct vq_buf *restrict dst, unsigned n,
			    uint64_t *bytes)
{
	const uint64_t none = 0;
	const uint32_t one = 1u << 16; /* num_buffers, behind csum_offset */
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		const uint32_t len = src[i].len;
		uint16_t wants; /* flags and gso_type */

		if (unlikely(len < HDR + 16 || len > dst[i].len))
			break;
		memcpy(&wants, src[i].base, sizeof(wants));
		if (unlikely(wants))
			break;
		memcpy(dst[i].base, &none, sizeof(none));
		memcpy(dst[i].base + sizeof(none), &one, sizeof(one));
		if (len > 2 * PIECE && i + 1 < n)
			copy_and_fetch(&src[i], &dst[i], len);
		else
			copy(dst[i].base + HDR, src[i].base + HDR, len - HDR);
		dst[i].len = len;
		sum += len;
	}
	*bytes = sum - i * HDR;
	return i;
}

static struct net_rx *lock_target(struct net_lane *l)
{
	struct net_rx *rx = atomic_load_explicit(&l->to->target[l->pair], memory_order_acquire);

	if (!rx)
		return NULL;
	pthread_mutex_lock(&rx->lock);
	if (likely(rx->q && !vq_error(rx->q->vq)))
		return rx;
	pthread_mutex_unlock(&rx->lock);
	return NULL;
}

static enum net_moved some(struct net_lane *l, struct net_rx *rx, const struct vq_buf *src, unsigned ns)
{
	struct virtqueue *tx_vq = l->tx->vq, *rx_vq = rx->q->vq;
	struct vq_buf dst[VQ_BURST];
	enum net_moved last = NET_MOVED;
	unsigned n = 0;
	uint64_t bytes;

	if (likely(rx->hdr_len == HDR && l->from->hdr_len == HDR))
		n = vq_burst_look(rx_vq, dst, ns, true);
	if (unlikely(!n && !vq_burst_odd(rx_vq)))
		return NET_FULL;
	n = move(src, dst, n, &bytes);
	if (likely(n)) {
		vq_burst_used(rx_vq, dst, n, true);
		vq_burst_used(tx_vq, src, n, false);
		net_count(&l->counts.frames, n);
		net_count(&l->counts.bytes, bytes);
	}
	if (unlikely(n < ns || !ns)) /* the next is another kind of frame */
		last = net_frame(l, rx);
	vq_flush(rx_vq);
	vq_flush(tx_vq);
	return n ? NET_MOVED : last;
}

enum net_moved net_burst(struct net_lane *l)
{
	struct vq_buf src[VQ_BURST];
	unsigned ns = vq_burst_look(l->tx->vq, src, VQ_BURST, false);
	struct net_rx *rx;
	enum net_moved last;

	if (!ns && !vq_burst_odd(l->tx->vq))
		return NET_EMPTY;
	rx = lock_target(l);
	if (unlikely(!rx)) {
		net_discard(l);
		return NET_EMPTY;
	}
	last = some(l, rx, src, ns);
	if (vq_error(rx->q->vq))
		server_queue_broken(rx->q);
	pthread_mutex_unlock(&rx->lock);
	if (unlikely(vq_error(l->tx->vq))) {
		server_queue_broken(l->tx);
		return NET_EMPTY;
	}
	return last;
}
