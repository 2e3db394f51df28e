/* virtio-net (virtio 1.3, 5.1) over one struct net_port a queue pair. */
#ifndef NET_NET_H
#define NET_NET_H
#include <stdbool.h>
#include <stdint.h>

#include "devices/net/net_port.h"
#include "devices/net/rate.h"
#include "devices/virtio/virtio.h"

#define NET_MAX_PAIRS          31 /* (VIRTIO_MAX_QUEUES - 1) / 2 */
#define NET_DEFAULT_QUEUE_SIZE 256

struct net_config {
	const char *name; /* "net0"; outlives the device */
	const struct guest_mem *mem;
	unsigned npairs; /* 1 .. NET_MAX_PAIRS */
	/* Where it starts and stops, and the control queue: waits for the others, so it must not be one of
	 * loops unless all of them are. */
	struct evloop *loop;
	struct evloop *const *loops;   /* [npairs]: pair i is walked on loops[i]; may be one loop many times */
	struct net_port *const *ports; /* [npairs]; on success they are the device's */
	/* Who serves the data queues: NULL this process, on loops[].  Else the ports are asked for features and
	 * told of pairs on and off, on `loop`, and the control queue alone is served here.  On success it is
	 * the device's. */
	struct datapath *remote;
	uint8_t mac[6];         /* all zero: a random one, locally administered */
	uint16_t mtu;           /* 0: the device says nothing about it */
	uint16_t queue_size;    /* entries, a power of two up to VIRTIO_MAX_QUEUE_SIZE; 0: the default */
	struct net_rate rx, tx; /* for all pairs together; rx is towards the guest */
	uint64_t hidden;        /* bits the user turned off; what depends on them goes too */
};

/* A device ready for a transport.  NULL with a sentence in e; ports and datapath are then still the caller's.
 */
struct virtio_device *net_new(const struct net_config *c, struct err *e);

/* Live change (devices/virtio/virtio_move.h): the data queues are served by remote (NULL: this process) from
 * now on, over these ports (NULL: those there are).  0: what the device had before is destroyed, what it has
 * now is its own, and the driver is asked to tell its neighbours where it is.  -errno with a sentence in e:
 * nothing has changed hands. */
struct virtio_moved;
struct virtio_move_how;
int net_move(struct virtio_device *dev, struct net_port *const *ports, struct datapath *remote,
	     const struct virtio_move_how *how, struct virtio_moved *moved, struct err *e);

/* Any thread.  Down: the driver is told and frames are dropped both ways.  A port that is gone stays down. */
void net_set_link(struct virtio_device *dev, bool up);
/* Ask the driver to tell its neighbours where it is (after a move), if it can.  Any thread. */
void net_announce(struct virtio_device *dev);

struct net_counters { /* relaxed, as struct queue_stats; frames */
	_Atomic uint64_t rx_frames;
	_Atomic uint64_t rx_filtered; /* link down, or not for the driver's filters */
	_Atomic uint64_t rx_too_long; /* for the MTU, or for the buffers the driver gives */
	_Atomic uint64_t tx_frames;
	_Atomic uint64_t tx_malformed; /* no whole header, buffers that are ours to write, ... */
	_Atomic uint64_t tx_refused;   /* by the port */
	_Atomic uint64_t tx_link_down;
};
const struct net_counters *net_counters(const struct virtio_device *dev, unsigned pair);
#endif
