/* Where frames come from and go to when this process walks the rings: a tap, the user-mode network.
 * One port serves one queue pair, on one thread; a multiqueue tap is several ports. */
#ifndef NET_NET_PORT_H
#define NET_NET_PORT_H
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Not in the headers of kernels before 6.2. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO   56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

struct evloop;
struct net_port;
struct net_port_ops {
	const char *name;
	/* VIRTIO_NET_F_ checksum, TSO, USO bits it can pass through; the same answer each time. */
	uint64_t (*features)(struct net_port *p);
	/* What the driver accepted; hdr_len: bytes of struct virtio_net_hdr_* before each frame in both
	 * directions.  Before attach on any thread; again, with features 0, on every reset (detached, any
	 * thread); and on the loop's thread while attached when the driver turns offloads to it on or off:
	 * then only GUEST_* bits differ, and frames that wait may still have the old ones.  0 or -errno. */
	int (*set_features)(struct net_port *p, uint64_t features, unsigned hdr_len);
	/* From here to detach readable() is called on loop's thread while frames wait and
	 * recv_enable(true) holds: again and again (level, not edge).  recv_enable is off after attach.
	 * All functions but features, set_features, set_active and destroy are called between attach and
	 * detach only, on loop's thread.  0 or -errno. */
	int (*attach)(struct net_port *p, struct evloop *loop);
	void (*detach)(struct net_port *p);
	/* One frame, virtio-net header first.  May only queue: iov's buffers (not iov itself) stay
	 * untouched until commit.  They are guest memory, which may change at any time; the header is as
	 * the guest wrote it, nothing in it has been checked, and it may be spread over many elements.
	 * At least hdr_len + 14 bytes, at most hdr_len + NET_FRAME_MAX, n <= IOV_MAX.
	 * Bytes, or -errno: the frame is dropped and counted, nothing else.  -EAGAIN: full now. */
	ssize_t (*send)(struct net_port *p, const struct iovec *iov, int n);
	/* What was queued has left its buffers.  0 or -errno.  NULL: send() never queues. */
	int (*commit)(struct net_port *p);
	/* One frame into iov, header first (num_buffers is the device's to fill in).  The room is at least
	 * hdr_len + NET_FRAME_MAX, n <= IOV_MAX.  Bytes; -EAGAIN: none now; -EMSGSIZE: it did not fit and
	 * is gone; other -errno: the port is broken, as by gone(). */
	ssize_t (*recv)(struct net_port *p, const struct iovec *iov, int n);
	void (*recv_enable)(struct net_port *p, bool on);
	/* Multiqueue: this pair takes part; or NULL.  Pairs from the second on are made inactive when the
	 * device is made and on reset.  On loop's thread while attached, else on any. */
	int (*set_active)(struct net_port *p, bool on);
	void (*destroy)(struct net_port *p); /* detached; restores what others would see */
};

/* The longest frame without its virtio-net header: IPv6 with a payload of 65535, Ethernet, two VLAN tags. */
#define NET_FRAME_MAX 65600

struct net_port { /* first member of struct tap, ... */
	const struct net_port_ops *ops;
	/* Set by the device before attach; called with opaque, on loop's thread. */
	void (*readable)(void *opaque);
	void (*gone)(void *opaque, int err); /* tap removed, helper dead: link down; once */
	void *opaque;
};
#endif
