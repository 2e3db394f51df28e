/* virtio-console (virtio 1.3, 5.3): a console (hvc0) and named byte streams
 * (/dev/virtio-ports/NAME) between the guest and whoever stands behind each port. */
#ifndef CONSOLE_VIRTIO_CONSOLE_H
#define CONSOLE_VIRTIO_CONSOLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"

#define CONSOLE_PORTS_MAX (VIRTIO_MAX_QUEUES / 2 - 1) /* two queues each, and two for control */
#define CONSOLE_INPUT_MAX 4096                        /* bytes that wait in a port for the driver */
#define CONSOLE_CHUNK_MAX 4096                        /* bytes in one output() */
#define CONSOLE_NAME_MAX  64

struct console_port_config {
	const char *name; /* must outlive the device; NULL: none */
	bool console;     /* a terminal of the guest's; else a byte stream */
	/* What the guest sent, in its order; must only queue.  On the loop's thread; emergency writes to
	 * the first console (5.3.5, a byte each) on a vCPU's. */
	void (*output)(void *opaque, const void *data, size_t len);
	/* May output() be called now?  After false, virtio_console_room() is due; until then the guest
	 * waits.  Loop's thread.  NULL: always. */
	bool (*ready)(void *opaque);
	/* There is room again after virtio_console_input() took less than it was given.  On the loop's
	 * thread, no lock held.  Or NULL. */
	void (*room)(void *opaque);
	/* The guest opened or closed the port; what is offered while it is closed waits.  Loop's thread, or a
	 * vCPU's when the device is reset.  Or NULL. */
	void (*opened)(void *opaque, bool open);
	void *opaque;
};

struct console_device_config {
	const char *name; /* "console0"; must outlive the device */
	const struct guest_mem *mem;
	struct evloop *loop;
	unsigned nports; /* 1 .. CONSOLE_PORTS_MAX; port 0 is the one a driver without MULTIPORT sees */
	const struct console_port_config *port; /* [nports]; copied */
	/* Offer MULTIPORT to a lone console without a name as well.  With it the driver says when it can
	 * take input; without, Linux throws away what comes while it starts, but has its console as soon
	 * as the device is there. */
	bool multiport;
	/* RESIZE as Linux before 6.16 reads it: rows first.  The specification (5.3.6.2) and later ones
	 * have columns first, and there is no telling from outside. */
	bool rows_first;
	uint16_t cols, rows; /* 0: not known yet */
	uint64_t hidden;     /* feature bits the driver is not to see */
};

/* A device whose queues are served on c->loop.  NULL with a sentence in e. */
struct virtio_device *virtio_console_new(const struct console_device_config *c, struct err *e);

/* Any thread, never waits: */

/* Bytes for the guest.  Returns how many were taken; room() says when to offer the rest again. */
size_t virtio_console_input(struct virtio_device *dev, unsigned port, const void *data, size_t len);
/* ready() would say true again. */
void virtio_console_room(struct virtio_device *dev, unsigned port);
/* The terminal's size, told to all consoles. */
void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows);
#endif
