/* vhost-user, the front end: the rings are walked by another process, which shares our guest memory and is told
 * what it needs over a Unix socket.  Any device type; what the back end lacks of the protocol is done without.
 */
#ifndef BACKENDS_VHOST_USER_H
#define BACKENDS_VHOST_USER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/net/net_port.h"
#include "devices/virtio/datapath.h"
#include "lib/err.h"

#define VHOST_USER_MAX_QUEUES 64

struct vhost_user_config {     /* strings are copied */
	const char *name;      /* "net0": for messages */
	const char *path;      /* the socket */
	bool server;           /* we listen there and the back end connects */
	const int *fd;         /* a connected socket to begin with; ours on success.  Or NULL */
	const int *again;      /* ... and who connects once more (vhost_user_again.h); likewise */
	unsigned wait_ms;      /* how long vhost_user_new() waits for the back end to be there */
	unsigned reconnect_ms; /* between tries to get it back; 0: its end is the device's */
	bool must_serve;       /* until a first start() has succeeded, one without the back end fails */
	unsigned reply_ms;     /* for each reply; 0: 5000 */
	unsigned hello_ms;     /* ... of the handshake, while the caller waits; 0: the same */
	uint32_t device_type;  /* VIRTIO_ID_*: the protocol has no word for it */
	unsigned nqueues;      /* wanted, up to VHOST_USER_MAX_QUEUES; net: data queues only; 0: all it has */
	uint16_t mtu;          /* net: what the guest is told, or 0 */
	size_t config_len;     /* of the configuration space to be had there; 0: as device_type says */
	const struct guest_mem *mem; /* to see now that it can be shared; or NULL */
	struct evloop *loop;         /* the device's: a thread of its own, as a peer may block it */
	void (*trace)(void *opaque, const char *text); /* each message; any thread.  Or NULL */
	void *trace_opaque;
};

/* Reaches the back end, asks what it can do, and fails where it cannot serve this device.  0, or -errno with a
 * sentence in e.  The caller's thread waits; loop's must not run it.
 *
 * A back end that ends: with reconnect_ms the guest goes on, start() and stop() work at once, and the queues go
 * on when it is back.  What cannot go on (requests in flight that nobody noted, a packed ring's position) ends
 * in events->failed; as does every end without reconnect_ms, and then start() fails with -ENOTCONN.
 *
 * offer(): config_len is 0 where the back end has no configuration space.  CTRL_GUEST_OFFLOADS is never
 * offered: the protocol cannot switch offloads while rings run.
 * stop(): a back end other than net that has taken requests and not given them back is disconnected, and a new
 * handshake shows that they have ended; such a queue is `lost`.
 * config_read() never waits for the back end, config_write() does.  Both on any thread. */
int vhost_user_new(struct datapath **out, const struct vhost_user_config *c, struct err *e);

/* net: what switches pair (0, 1, ...) on and off; frames never cross it.  NULL: out of memory.  Each is
 * destroyed by its ops, before the datapath or after. */
struct net_port *vhost_user_port(struct datapath *dp, unsigned pair);

struct vhost_user_info { /* for who asks; any thread */
	bool connected;
	uint64_t features; /* the back end's */
	uint64_t protocol; /* VHOST_USER_PROTOCOL_F_ bits in force */
	unsigned queues;   /* it says it has; 0: it does not say */
	uint64_t serving;  /* bit per queue */
	unsigned returns;  /* how often it has come back */
};
void vhost_user_info(struct datapath *dp, struct vhost_user_info *out);
#endif
