/* Where frames come from and go to when this process walks the rings: a tap, the user-mode network.
 * One port serves one queue pair, on one thread; a multiqueue tap is several ports. */
#ifndef NET_NET_PORT_H
#define NET_NET_PORT_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct evloop;
struct net_port;
struct net_port_ops {
	const char *name;
	uint64_t (*features)(
		struct net_port *p); /* VIRTIO_NET_F_ checksum, TSO, USO bits it can pass through */
	/* What the driver accepted; hdr_len: bytes of struct virtio_net_hdr_* before each frame in both
	 * directions.  Before attach, and again after every reset.  0 or -errno. */
	int (*set_features)(struct net_port *p, uint64_t features, unsigned hdr_len);
	/* From here to detach readable() is called on loop's thread while frames wait and
	 * recv_enable(true) holds.  On loop's thread.  0 or -errno. */
	int (*attach)(struct net_port *p, struct evloop *loop);
	void (*detach)(struct net_port *p);
	/* One frame, virtio-net header first.  May only queue: iov's buffers (not iov itself) stay
	 * untouched until commit.  Bytes, or -errno; -EAGAIN: full now, the frame may be dropped. */
	ssize_t (*send)(struct net_port *p, const struct iovec *iov, int n);
	int (*commit)(struct net_port *p); /* what was queued has left its buffers.  0 or -errno */
	/* One frame into iov, header first.  Bytes; -EAGAIN: none now; -EMSGSIZE: it did not fit and is gone;
	 * other -errno: the port is broken. */
	ssize_t (*recv)(struct net_port *p, const struct iovec *iov, int n);
	void (*recv_enable)(struct net_port *p, bool on);
	int (*set_active)(struct net_port *p, bool on); /* multiqueue: this pair takes part; or NULL */
	void (*destroy)(struct net_port *p);
};
struct net_port { /* first member of struct tap, ... */
	const struct net_port_ops *ops;
	void (*readable)(void *opaque);      /* set by the device before attach */
	void (*gone)(void *opaque, int err); /* tap removed, helper dead: link down; loop's thread */
	void *opaque;
};
#endif
