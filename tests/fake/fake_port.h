/* A port that remembers what it was given and gives what it was told to.  A call that its contract forbids
 * (between detach and attach, on another thread, with too little room) aborts. */
#ifndef FAKE_PORT_H
#define FAKE_PORT_H
#include <pthread.h>

#include "devices/net/net_port.h"
#include "vmm/evloop.h"

#define FAKE_PORT_FEATURES                                                                                     \
	(1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |         \
	 1ull << VIRTIO_NET_F_HOST_ECN | 1ull << VIRTIO_NET_F_HOST_USO | 1ull << VIRTIO_NET_F_GUEST_CSUM |     \
	 1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN |  \
	 1ull << VIRTIO_NET_F_GUEST_USO4 | 1ull << VIRTIO_NET_F_GUEST_USO6)

struct fake_frame {
	struct fake_frame *next;
	size_t len; /* with header */
	uint8_t data[];
};

struct fake_frames {
	struct fake_frame *first, **tail;
	unsigned n;
};

struct fake_port {
	struct net_port port;
	/* What the test sets: */
	uint64_t features;
	int set_features_err, set_active_err, attach_err, send_err, recv_err; /* -errno */
	void (*in_commit)(struct fake_port *f);
	/* What it was told: */
	uint64_t accepted;
	unsigned hdr_len, set_features_calls, recvs, commits, attaches, detaches;
	bool active, enabled, destroyed;

	pthread_mutex_t lock;  /* the rest */
	struct ev_watch watch; /* eventfd: readable while frames wait */
	struct evloop *loop;
	pthread_t thread;                 /* that attached */
	struct fake_frames waiting, sent; /* to the device, from it */
	struct iovec iov[256];            /* of what is queued: gathered at commit, as it is then */
	unsigned niov, piece[64], npieces;
};

void fake_port_init(struct fake_port *f);
void fake_port_fini(struct fake_port *f);
/* A frame for the device to receive, any thread. */
void fake_port_give(struct fake_port *f, const void *data, size_t len);
/* What it sent, oldest first: NULL none; the caller frees it. */
struct fake_frame *fake_port_take(struct fake_port *f);
unsigned fake_port_waiting(struct fake_port *f);
/* The helper died, the tap is gone.  On the loop's thread. */
void fake_port_end(struct fake_port *f, int err);
#endif
