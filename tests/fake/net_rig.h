/* A network device with fake ports below and a fake driver above, on one loop that runs when told to. */
#ifndef FAKE_NET_RIG_H
#define FAKE_NET_RIG_H
#include "devices/net/net.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_port.h"
#include "tests/fake/fake_transport.h"

#define RIG_MAX_PAIRS 3
#define RIG_QUEUES    (2 * RIG_MAX_PAIRS + 1)

struct net_rig {
	struct driver_mem m;
	struct evloop *loop;
	struct ev_watch stop;
	struct fake_port port[RIG_MAX_PAIRS];
	struct net_config config; /* of the next net_rig_make() */
	uint16_t ring_size;       /* of the data queues */
	uint64_t ring_features;
	struct virtio_device *dev;
	struct fake_transport transport;
	struct driver_ring ring[RIG_QUEUES];
	bool up[RIG_QUEUES]; /* ring[] is there */
};

void net_rig_init(struct net_rig *r); /* config for one pair; change it, then make */
void net_rig_make(struct net_rig *r); /* the device; aborts if it cannot be had */
void net_rig_fini(struct net_rig *r);

uint64_t net_rig_offered(const struct net_rig *r);
/* Reset to FEATURES_OK.  True: it stays set. */
bool net_rig_negotiate(struct net_rig *r, uint64_t features);
/* Queue q with a ring of its own, before DRIVER_OK. */
void net_rig_queue(struct net_rig *r, unsigned q, uint16_t size);
void net_rig_driver_ok(struct net_rig *r);
/* All of it for every queue that these features need. */
void net_rig_start(struct net_rig *r, uint64_t features);
void net_rig_reset(struct net_rig *r);

void net_rig_kick(struct net_rig *r, unsigned q); /* shows what was added; rings if the device wants it */
void net_rig_turn(struct net_rig *r);             /* one round of the loop */
void net_rig_settle(struct net_rig *r);           /* as many as it takes, within reason */

/* A buffer of len bytes in RAM; fills it from data unless that is NULL. */
gpa_t net_rig_buffer(struct net_rig *r, const void *data, size_t len);
/* Adds n receive buffers of len bytes each. */
void net_rig_give_buffers(struct net_rig *r, unsigned q, unsigned n, uint32_t len);
/* Runs one control command through the ring.  The status byte; -1: not answered, or used.len is not 1. */
int net_rig_command(struct net_rig *r, unsigned q, const void *data, size_t len);
/* For fake_datapath.serve: frames cross the pairs' ports, opaque[] of them, as the kernel's do those of a tap.
 */
struct fake_datapath;
struct virtqueue;
void net_rig_walk(struct fake_datapath *f, struct virtqueue *vq);
/* The status field of the configuration space. */
uint16_t net_rig_status(struct net_rig *r);
#endif
