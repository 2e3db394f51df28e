/* What --net, --disk and their like say, as plain structs. */
#ifndef VMM_CONFIG_DEVICES_H
#define VMM_CONFIG_DEVICES_H
#include <stdbool.h>
#include <stdint.h>

#define CONFIG_MAX_NETS    8
#define CONFIG_MAX_DISKS   16
#define CONFIG_MAX_QUEUES  16 /* of a disk; pairs of a net */
#define CONFIG_MAX_HOSTFWD 16
#define CONFIG_MAX_GENERIC 8
#define CONFIG_MAX_BYTES   256
#define CONFIG_MAX_PORTS   16 /* named, of the console */

#define CONFIG_MIN_QUEUE_SIZE     16
#define CONFIG_MIN_NET_QUEUE_SIZE 32 /* Linux sends only while 19 entries are free */
#define CONFIG_MAX_QUEUE_SIZE     1024

enum transport_kind { TRANSPORT_PCI, TRANSPORT_MMIO };

/* What every virtio device may be told. */
struct virtio_config {
	enum transport_kind transport; /* default: --transport, PCI */
	bool transport_set;            /* true once parsed: --transport may come after the device */
	bool notify_exit;              /* notify=exit: doorbells are plain exits, not ioeventfds */
	bool irq_ioctl;                /* irq=ioctl: interrupts by a call from here, not irqfds */
	bool doorbell_pio;             /* doorbell=pio: an I/O port rings too (PCI) */
	bool packed, in_order;         /* default off */
	bool event_idx, indirect;      /* default on */
	bool all_bits;                 /* bits=all: also what not every datapath of its kind serves */
	bool has_most;                 /* features=: ... */
	uint64_t most;                 /* ... no bits but these are offered; VERSION_1 always is */
	uint16_t queue_size;           /* entries, a power of two; 0: the device's default */
	unsigned npin;                 /* pin=: host CPUs of the data threads, thread i on pin[i % npin] */
	uint16_t pin[CONFIG_MAX_QUEUES];
};

/* Who serves a device's queues elsewhere. */
struct remote_options {
	const char *path;      /* vhost-user: the socket; vdpa: the device */
	bool server;           /* vhost-user: we listen, the back end connects */
	unsigned wait_ms;      /* vhost-user: ... how long for it to be there before the guest starts */
	unsigned reconnect_ms; /* vhost-user: between tries to get it back; 0: its end is the device's */
};

enum net_kind { NET_USER, NET_TAP, NET_VHOST_USER, NET_VDPA };

struct net_options {
	enum net_kind kind;
	struct virtio_config virtio;
	struct remote_options remote;
	bool vhost;            /* tap: the kernel walks the rings */
	unsigned busy_poll_us; /* vhost: how long it looks before it sleeps */
	const char *ifname;    /* tap; NULL: the kernel chooses */
	int fd;                /* tap; -1: none given */
	unsigned queues;       /* pairs, default 1 */
	bool has_mac;
	uint8_t mac[6];                          /* else made from the VM's and the device's number */
	uint16_t mtu;                            /* 0: not said to the guest */
	uint64_t rate_bytes, rate_packets;       /* a second, each direction; 0: no limit */
	bool csum, tso, mrg_rxbuf;               /* default on */
	bool uso;                                /* default off, on with bits=all */
	unsigned nhostfwd;                       /* user */
	const char *hostfwd[CONFIG_MAX_HOSTFWD]; /* "tcp::2222-:22", checked */
};

enum disk_kind { DISK_FILE, DISK_VHOST_USER, DISK_VDPA };
enum disk_aio { DISK_AIO_DEFAULT, DISK_AIO_URING, DISK_AIO_SYNC };

struct disk_options {
	enum disk_kind kind;
	struct remote_options remote;
	const char *path; /* file */
	struct virtio_config virtio;
	bool read_only, direct;
	bool raw;          /* format=raw: its bytes are the disk, whatever image they look like */
	bool writethrough; /* cache=writethrough: a write is durable before it is answered */
	enum disk_aio aio;
	unsigned queues;    /* default 1 */
	const char *serial; /* at most 20 bytes; NULL: none */
};

/* A device with no model of its own here. */
enum generic_kind { GENERIC_VSOCK, GENERIC_SCSI, GENERIC_FS, GENERIC_VHOST_USER };

struct generic_options {
	enum generic_kind kind;
	struct virtio_config virtio;
	struct remote_options remote; /* fs, vhost-user */
	uint32_t cid;                 /* vsock */
	const char *wwpn;             /* scsi: the target's name in configfs */
	const char *tag;              /* fs: what the guest mounts it by */
	uint32_t id;                  /* vhost-user: VIRTIO_ID_* */
	unsigned queues;              /* scsi, fs: request queues; vhost-user: all; 0: as many as it says */
	unsigned config_len;          /* vhost-user: its configuration space is these; 0: the back end's */
	uint8_t config[CONFIG_MAX_BYTES];
};

/* A device that is there or not. */
struct simple_options {
	bool on;
	struct virtio_config virtio;
};

/* A byte stream between /dev/virtio-ports/NAME of the guest and a socket here. */
struct port_options {
	const char *name; /* 1 to 64 characters */
	const char *path; /* NULL: beside the control socket */
};

struct devices_config {
	enum transport_kind transport; /* --transport */
	unsigned nnet, ndisk;
	struct net_options net[CONFIG_MAX_NETS];    /* in the order given: net0, net1 */
	struct disk_options disk[CONFIG_MAX_DISKS]; /* disk0, disk1 */
	unsigned ngeneric;
	struct generic_options generic[CONFIG_MAX_GENERIC];
	struct simple_options rng, balloon;
	struct simple_options console; /* --console virtio: the shell is on hvc0 */
	unsigned nport;                /* 0 without it */
	struct port_options port[CONFIG_MAX_PORTS];
};
#endif
