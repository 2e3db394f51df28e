/* virtio-balloon, the traditional memory balloon (virtio 1.3, 5.5): memory that the guest does without,
 * or that happens to be free in it, goes back to the host. */
#ifndef BALLOON_BALLOON_H
#define BALLOON_BALLOON_H
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"

#define BALLOON_STATS 16 /* tags; the last six are newer than many a <linux/virtio_balloon.h> */

struct balloon_config {
	const char *name; /* "balloon0"; must outlive the device */
	const struct guest_mem *mem;
	struct evloop *loop;
	uint64_t target;       /* bytes, as for virtio_balloon_set_target() */
	bool deflate_on_oom;   /* a guest short of memory may take back what it gave */
	bool reporting;        /* free pages are given back without being asked for */
	uint64_t stats_period; /* milliseconds between statistics; 0: only when asked for */
	uint64_t hidden;       /* feature bits the driver is not to see */
};

struct balloon_stats {
	uint64_t seq;                  /* how many times the driver has told; 0: never yet */
	uint32_t known;                /* bit per tag that the driver gave the last time */
	uint64_t value[BALLOON_STATS]; /* by VIRTIO_BALLOON_S_* */
};

/* A device whose queues are served on c->loop.  NULL with a sentence in e. */
struct virtio_device *balloon_new(const struct balloon_config *c, struct err *e);

/* Any thread, never waits: */

/* How much the guest is to do without, in bytes; whole 4 KiB pages count.  It takes its time. */
void virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes);
uint64_t virtio_balloon_target(struct virtio_device *dev); /* bytes */
uint64_t virtio_balloon_actual(struct virtio_device *dev); /* bytes, as the driver says */
/* Bytes given back to the host since the device was made, by balloon and by report. */
uint64_t virtio_balloon_discarded(struct virtio_device *dev);
/* The last statistics, and a request for new ones: out->seq grows when they are here. */
void virtio_balloon_stats(struct virtio_device *dev, struct balloon_stats *out);
#endif
