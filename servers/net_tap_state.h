/* What the two directions of net_tap.c share. */
#ifndef SERVERS_NET_TAP_STATE_H
#define SERVERS_NET_TAP_STATE_H
#include "devices/net/net_port.h"
#include "servers/net_link.h"

#define BURST 64 /* frames before others on the thread have their turn */
#define WHOLE (sizeof(struct virtio_net_hdr_v1) + NET_FRAME_MAX)
#define USUAL (sizeof(struct virtio_net_hdr_v1) + 1522) /* bytes: most frames are not longer */

struct tap_pair { /* its worker's thread */
	struct net_tap *tap;
	struct net_port *port;
	struct loop_thread thread;
	struct ev_watch again; /* poll: always readable; else written when there was too much for one turn */
	struct server_queue *rx, *tx;
	bool attached, again_tx;
	struct iovec *tx_iov; /* [NET_IOV] */
	struct iovec *rx_iov; /* [2 * NET_IOV + 1] */
	char *spill;          /* [WHOLE] */
	size_t want;          /* bytes of buffers for the next frame */
	struct net_counts out, in;
};

struct net_tap {
	struct net_link_config c;
	struct server *server;
	uint64_t features;
	unsigned hdr_len;
	struct net_port *ports[NET_MAX_PAIRS]; /* borrowed */
	struct tap_pair pair[NET_MAX_PAIRS];
};

/* net_tap_rx.c: frames from the tap, as long as there are frames and buffers.  p->rx runs. */
void net_tap_run_rx(struct tap_pair *p);
#endif
