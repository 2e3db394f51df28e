/* What the parts of the network device share: net.c (the device), rx.c, tx.c, ctrl.c. */
#ifndef NET_NET_DEVICE_H
#define NET_NET_DEVICE_H
#include <linux/if_ether.h>

#include "devices/net/filter.h"
#include "devices/net/net.h"
#include "devices/virtio/virtqueue.h"

#define NET_HDR_LEN sizeof(struct virtio_net_hdr_v1)
#define NET_BIT(n)  (UINT64_C(1) << (n))

/* A chain has no more pieces than this unless it crosses RAM regions on purpose. */
#define NET_CHAIN_IOV (2 * VIRTIO_MAX_QUEUE_SIZE)

/* Where others on the loop get their turn: not all of a burst is read and written in one go. */
#define NET_BURST_BYTES (512u << 10)

#define NET_GUEST_OFFLOADS                                                                                     \
	(NET_BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_BIT(VIRTIO_NET_F_GUEST_TSO4) |                                 \
	 NET_BIT(VIRTIO_NET_F_GUEST_TSO6) | NET_BIT(VIRTIO_NET_F_GUEST_ECN) |                                  \
	 NET_BIT(VIRTIO_NET_F_GUEST_USO4) | NET_BIT(VIRTIO_NET_F_GUEST_USO6))
#define NET_HOST_OFFLOADS                                                                                      \
	(NET_BIT(VIRTIO_NET_F_CSUM) | NET_BIT(VIRTIO_NET_F_HOST_TSO4) | NET_BIT(VIRTIO_NET_F_HOST_TSO6) |      \
	 NET_BIT(VIRTIO_NET_F_HOST_ECN) | NET_BIT(VIRTIO_NET_F_HOST_USO))

struct net;
struct net_pair;

struct net_chain {
	uint16_t head;
	unsigned niov;
	uint64_t len;
};

/* Buffers the driver gave and no frame has filled yet: chain[first .. first + n), whose pieces are
 * iov[iov_first .. iov_first + niov), bytes in all. */
struct net_window {
	struct net_chain *chain; /* [queue size] */
	struct iovec *iov;       /* [NET_WINDOW_IOV] */
	unsigned first, n, iov_first, niov;
	uint64_t bytes;
};
#define NET_WINDOW_IOV (2 * NET_CHAIN_IOV + 1)

struct net_rx { /* the loop's thread */
	struct virtqueue *vq;
	struct net_window window;
	size_t want;           /* bytes of buffers to have ready for the next frame */
	unsigned small_frames; /* in a row */
	bool starved;          /* no buffers: a kick goes on */
	bool throttled;        /* the timer goes on */
	bool enabled;          /* as the port was told */
	struct ev_timer timer;
	/* A frame that the buffers were too few for: the first pending_head of its bytes are in them, the
	 * rest in spill, until the driver gives more. */
	size_t pending, pending_head;
	uint8_t *spill; /* [NET_SPILL] */
};
#define NET_SPILL (NET_HDR_LEN + NET_FRAME_MAX)

struct net_tx { /* the loop's thread */
	struct virtqueue *vq;
	struct iovec *iov; /* [NET_CHAIN_IOV] */
	bool timer_on;
	bool again; /* the last burst ended before the ring did */
	struct ev_timer timer;
};

struct net_pair {
	struct net *net;
	unsigned index;
	struct evloop *loop;
	struct net_port *port;
	/* The loop's thread, or nobody while no queue runs: */
	unsigned users; /* queues of the pair that run: the port is attached for them */
	bool attached;
	bool gone;   /* the port has ended */
	bool active; /* the driver wants it to receive */
	struct net_filter filter;
	struct net_rx rx;
	struct net_tx tx;
	struct net_counters counters;
};

struct net {
	struct virtio_device dev;
	unsigned npairs;
	uint8_t mac[ETH_ALEN]; /* as configured */
	uint16_t mtu;
	uint64_t features; /* accepted; changes while nothing runs */
	struct net_limit rx_limit, tx_limit;

	/* What registers show, or any thread changes: */
	_Atomic uint64_t current_mac; /* mac[i] << 8 * i */
	_Atomic bool link_off, gone, announce;

	/* The control queue's thread, or nobody while no queue runs: */
	struct net_filter filter; /* the pairs have copies */
	unsigned active_pairs;
	struct iovec *ctrl_iov; /* [NET_CHAIN_IOV] */
	uint64_t offloads;      /* of those accepted: on now */

	struct net_pair pair[];
};

static inline struct net *net_of(const struct virtio_device *dev)
{
	return (struct net *)(uintptr_t)dev; /* its first member */
}

static inline bool net_has(const struct net *net, unsigned bit)
{
	return net->features & NET_BIT(bit);
}

/* Where a pair's port is spoken to. */
static inline struct evloop *net_pair_loop(const struct net_pair *p)
{
	return p->net->dev.remote ? p->net->dev.loop : p->loop;
}

static inline bool net_link_up(const struct net *net)
{
	return !net->link_off && !net->gone;
}

/* One writer, so no read-modify-write. */
static inline void net_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* Do these features stand without any that are missing (5.1.3.1)? */
bool net_features_stand(uint64_t features);
/* The control queue's index with these features, if they have VIRTIO_NET_F_CTRL_VQ.  From there on no queue is
 * a data queue. */
unsigned net_ctrl_index(const struct net *net, uint64_t features);
/* Becomes the pair's: its calls come here. */
void net_pair_port(struct net_pair *p, struct net_port *port);
void net_set_mac(struct net *net, const uint8_t mac[ETH_ALEN]);
/* The port has ended: link down, nothing more of it.  The pair's thread. */
void net_gone(struct net_pair *p, int err);
/* Run the queue again once others on its loop had their turn. */
void net_again(struct net *net, unsigned queue);

/* --- rx.c, tx.c: on the pair's thread --- */
int net_rx_init(struct net_pair *p, uint16_t queue_size); /* memory; -ENOMEM */
void net_rx_fini(struct net_pair *p);
int net_rx_run(struct net_pair *p, struct virtqueue *vq);
void net_rx_kick(struct net_pair *p);
void net_rx_halt(struct net_pair *p);
void net_rx_update(struct net_pair *p); /* tells the port whether frames are wanted now */
void net_rx_drain(struct net_pair *p);

int net_tx_init(struct net_pair *p);
void net_tx_fini(struct net_pair *p);
int net_tx_run(struct net_pair *p, struct virtqueue *vq);
void net_tx_kick(struct net_pair *p);
void net_tx_expect(struct net_pair *p); /* frames are likely now */
void net_tx_halt(struct net_pair *p);

/* --- ctrl.c: on dev.loop --- */
void net_ctrl_kick(struct net *net, struct virtqueue *vq);
#endif
