/* The kernel walks a network device's rings, straight to and from taps: /dev/vhost-net.  One file, and one
 * thread of the kernel's, a queue pair: queue 2 i (receive) and 2 i + 1 (transmit) are vrings 0 and 1 of pair
 * i.
 *
 * The control queue is not for it: whoever makes the device puts that into local_queues.  What is the tap's
 * business (checksums, segmentation, length of the header, which pairs are active) is done through its port. */
#ifndef BACKENDS_VHOST_NET_H
#define BACKENDS_VHOST_NET_H
#include "devices/net/net_port.h"
#include "devices/virtio/datapath.h"
#include "lib/err.h"
#include "vmm/evloop.h"

#define VHOST_NET_PATH "/dev/vhost-net"

struct vhost_net_config {
	const char *name; /* "net0"; outlives the datapath */
	const int *taps;  /* [npairs]: tap_fd(); open for as long as the datapath is */
	/* [npairs]: whose gone() is called when a tap's interface is removed; NULL: nobody looks */
	struct net_port *const *ports;
	unsigned npairs;
	unsigned busy_poll_us; /* how long the kernel looks before it sleeps; 0: not at all */
	struct evloop *loop;   /* the device's: on it the datapath tells of rings the kernel calls broken */
	const char *path;      /* NULL: VHOST_NET_PATH; outlives the datapath */
	const int *fds; /* [npairs]: path, opened by somebody else, each.  Ours, also on error; or NULL */
};

/* NULL with a sentence in e. */
struct datapath *vhost_net_new(const struct vhost_net_config *c, struct err *e);
#endif
