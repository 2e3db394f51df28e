/* What the files that compose devices share: machine_devices.c, and one file a kind.  For them alone. */
#ifndef VMM_DEVICES_PARTS_H
#define VMM_DEVICES_PARTS_H
#include "devices/virtio/virtio_move.h"
#include "vmm/config.h"
#include "vmm/loop_thread.h"
#include "vmm/machine_devices.h"

struct net_port;

/* One of each simple kind; the root and the shares. */
#define MAX_DEVICES (CONFIG_MAX_NETS + CONFIG_MAX_DISKS + CONFIG_MAX_GENERIC + 3 + 1 + CONFIG_MAX_SHARES)

struct device {
	char name[16];
	const struct virtio_config *cfg;
	struct virtio_device *virtio;
	struct virtio_transport *transport; /* of this life, or NULL */
	struct disk *disk;                  /* the device's; NULL: no disk here */
	/* What a live change starts from: the device as it was asked for.  NULL: it cannot be changed. */
	const struct net_options *net;
	const struct disk_options *disk_options;
	struct net_port *port[CONFIG_MAX_QUEUES]; /* net: the device's, to be used again by another datapath */
	enum net_kind net_kind;                   /* what they are */
	char ifname[16];                          /* taps: theirs */
	struct config *words;                     /* the strings of the last live change, or NULL */
	unsigned nthreads;
	struct loop_thread thread[CONFIG_MAX_QUEUES + 1]; /* the last: control, of many pairs */
};

/* A named port of the console and its socket, which live on the same loop. */
struct stream {
	struct virtio_device *virtio;
	unsigned port;
	struct socket_port *socket;
};

struct devices {
	struct guest_mem *mem;
	unsigned n;
	struct device device[MAX_DEVICES];
	struct device *balloon, *console; /* NULL: none */
	unsigned nstream;
	struct stream stream[CONFIG_MAX_PORTS];
	struct virtio_config own_console; /* where nobody asked for one, but a port of ours is needed */
	unsigned own_port;
};

/* The next device, "net0". */
struct device *next_device(struct devices *all, const struct virtio_config *cfg, const char *kind,
			   unsigned number);
/* A thread a queue, so that queues of one device run beside each other. */
int start_threads(struct device *d, unsigned n, struct evloop **loops, struct err *e);
/* Who tells several data threads to start and stop waits for them, and so is none of them. */
int start_control(struct device *d, unsigned n, struct evloop **loop, struct err *e);

/* Bits that the user turned off, or did not turn on.  moves: a device whose datapath may change, so that bits
 * which not every datapath of its kind serves need bits=all. */
uint64_t hidden_ring_bits(const struct virtio_config *c, bool moves);

/* Each kind: adds what was asked for. */
int add_net(struct devices *all, const struct net_options *o, unsigned number, struct err *e);
int add_disk(struct devices *all, const struct disk_options *o, unsigned number, struct err *e);
int add_generic(struct devices *all, const struct generic_options *o, unsigned number, struct err *e);
/* By a socket that is connected already, the function's in any case. */
int add_connected(struct devices *all, const struct generic_options *o, unsigned number, int fd, struct err *e);
int add_console(struct devices *all, const struct devices_config *cfg, const struct devices_console *ends,
		struct err *e);

/* A live change: how it is to be made, and how it went. */
struct move {
	struct virtio_move_how how;
	struct virtio_moved moved;
	struct errand_fds *fds;
};

/* To what --net or --disk would say. */
int move_net(struct devices *all, struct device *d, const struct net_options *o, struct move *m, struct err *e);
int move_disk(struct devices *all, struct device *d, const struct disk_options *o, struct move *m,
	      struct err *e);
/* What they take from m->fds, in that order. */
void move_net_errands(const struct device *d, const struct net_options *o, struct errands *out);
void move_disk_errands(const struct disk_options *o, struct errands *out);

#define HELLO_MS 2000 /* for each reply of a new back end, before anything is changed: the main loop waits */
#define DRAIN_MS 2000 /* how long who serves a device may take to answer what it has, at a live change */
#endif
