/* What the parts of the console device share: the device, a port, and the queues between them. */
#ifndef CONSOLE_CONSOLE_PARTS_H
#define CONSOLE_CONSOLE_PARTS_H
#include <pthread.h>

#include "devices/console/virtio_console.h"
#include "devices/virtio/virtqueue.h"

#define CONSOLE_QUEUE_SIZE 128
#define CONSOLE_PIECES_MAX (2 * CONSOLE_QUEUE_SIZE) /* a descriptor may reach over a seam of RAM */

struct console_port {
	struct console_port_config cfg;

	pthread_mutex_t lock; /* input */
	uint8_t in[CONSOLE_INPUT_MAX];
	unsigned in_head, in_len;
	bool in_refused;

	/* the loop's: */
	struct virtqueue *rx, *tx; /* NULL: does not run */
	bool added;                /* the driver was told of it */
	bool known;                /* the driver said PORT_READY */
	bool open;                 /* in the guest */
	unsigned due;              /* messages for the driver */
	/* A chain of tx that is only partly out. */
	bool sending;
	struct vq_chain chain;
	unsigned piece;
	size_t off; /* in that piece */
	struct iovec iov[CONSOLE_PIECES_MAX];
};

struct console_device {
	struct virtio_device dev;
	struct ev_watch wake; /* eventfd */
	bool multiport, rows_first;
	_Atomic uint32_t size; /* cols << 16 | rows */
	_Atomic bool resized;
	/* the loop's: */
	struct virtqueue *control_rx, *control_tx;
	struct iovec iov[CONSOLE_PIECES_MAX];
	unsigned nports;
	struct console_port port[];
};

/* Any thread: the loop looks at everything again, soon. */
void console_wake(struct console_device *d);

/* --- the rest on the loop's thread --- */

bool console_multiport(const struct console_device *d); /* only while a queue runs */
/* 1: a chain.  0: none.  -errno: the ring is broken, and everybody knows. */
int console_pop(struct console_device *d, struct virtqueue *vq, struct vq_chain *c);
/* Copies len bytes, at most c->in_len, into the buffers the driver gave. */
void console_scatter(const struct vq_chain *c, const void *data, size_t len);

/* Move what can move.  A queue that does not run is fine. */
void console_port_rx(struct console_device *d, struct console_port *p);
void console_port_tx(struct console_device *d, struct console_port *p);
void console_control_rx(struct console_device *d);
void console_control_tx(struct console_device *d);

/* tx halts: its chain in hand goes back, and nobody waits for what is not yet out. */
void console_port_drop(struct console_port *p);
/* As the driver has it or not; tells who stands behind it. */
void console_port_set_open(struct console_port *p, bool open);
#endif
