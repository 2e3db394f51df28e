#include "vmm/machine_devices.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "backends/file_disk.h"
#include "backends/socket_port.h"
#include "backends/tap.h"
#include "backends/user_net.h"
#include "devices/balloon/balloon.h"
#include "devices/blk/blk.h"
#include "devices/console/virtio_console.h"
#include "devices/net/net.h"
#include "devices/rng/rng.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio_mmio/virtio_mmio.h"
#include "devices/virtio_pci/virtio_pci.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/control.h"
#include "vmm/loop_thread.h"

#define MAX_DEVICES (CONFIG_MAX_NETS + CONFIG_MAX_DISKS + 3)
#define BIT(n)      (UINT64_C(1) << (n))

_Static_assert(STATS_UNSEEN == QUEUE_STAT_UNSEEN, "unseen by one is unseen by the other");
_Static_assert(STATS_MAX_QUEUES >= VIRTIO_MAX_QUEUES, "every queue is reported");
_Static_assert(STATS_MAX_BALLOON <= BALLOON_STATS, "what is reported was told");
_Static_assert(SOCKET_PORT_CHUNK >= CONSOLE_CHUNK_MAX, "what a port puts out at a time fits its socket");
_Static_assert(1 + CONFIG_MAX_PORTS <= CONSOLE_PORTS_MAX, "the console has as many ports as may be asked for");

struct device {
	char name[16];
	const struct virtio_config *cfg;
	struct virtio_device *virtio;
	struct virtio_transport *transport; /* of this life, or NULL */
	struct disk *disk;                  /* the device's; NULL: no disk */
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
};

/* --- what every device has --- */

/* A thread a queue, so that queues of one device run beside each other. */
static int start_threads(struct device *d, unsigned n, struct evloop **loops, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		const struct virtio_config *c = d->cfg;
		int cpu = c->npin ? c->pin[i % c->npin] : -1;
		char name[24];
		int rc;

		snprintf(name, sizeof(name), n > 1 ? "%s.%u" : "%s", d->name, i);
		rc = loop_thread_start(&d->thread[i], name, cpu, e);
		if (rc)
			return err_prefix(e, "%s", d->name);
		d->nthreads++;
		loops[i] = d->thread[i].loop;
	}
	return 0;
}

/* Who tells several data threads to start and stop waits for them, and so is none of them. */
static int start_control(struct device *d, unsigned n, struct evloop **loop, struct err *e)
{
	struct loop_thread *t = &d->thread[d->nthreads];
	char name[24];
	int rc;

	*loop = d->thread[0].loop;
	if (n == 1)
		return 0;
	snprintf(name, sizeof(name), "%s.ctl", d->name);
	rc = loop_thread_start(t, name, -1, e);
	if (rc)
		return rc;
	d->nthreads++;
	*loop = t->loop;
	return 0;
}

static uint64_t hidden_ring_bits(const struct virtio_config *c)
{
	uint64_t hidden = 0;

	if (!c->packed)
		hidden |= BIT(VIRTIO_F_RING_PACKED);
	if (!c->in_order)
		hidden |= BIT(VIRTIO_F_IN_ORDER);
	if (!c->event_idx)
		hidden |= BIT(VIRTIO_RING_F_EVENT_IDX);
	if (!c->indirect)
		hidden |= BIT(VIRTIO_RING_F_INDIRECT_DESC);
	return hidden;
}

static struct device *next_device(struct devices *all, const struct virtio_config *cfg, const char *kind,
				  unsigned number)
{
	struct device *d = &all->device[all->n++];

	snprintf(d->name, sizeof(d->name), "%s%u", kind, number);
	d->cfg = cfg;
	return d;
}

/* --- each kind --- */

static uint64_t hidden_net_bits(const struct net_options *o)
{
	uint64_t hidden = hidden_ring_bits(&o->virtio);

	if (!o->csum)
		hidden |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (!o->tso)
		hidden |= BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
			  BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
			  BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_ECN);
	if (!o->uso)
		hidden |= BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_GUEST_USO4) |
			  BIT(VIRTIO_NET_F_GUEST_USO6);
	if (!o->mrg_rxbuf)
		hidden |= BIT(VIRTIO_NET_F_MRG_RXBUF);
	return hidden;
}

static int open_user(const struct net_options *o, struct net_port **port, struct err *e)
{
	CLEANUP_FREE struct user_net_config *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	user_net_config_init(c);
	if (o->mtu)
		c->mtu = o->mtu;
	for (unsigned i = 0; i < o->nhostfwd; i++) {
		rc = user_net_parse_hostfwd(o->hostfwd[i], &c->fwd[c->nfwd++], e);
		if (rc)
			return rc;
	}
	*port = user_net_new(c, e);
	return *port ? 0 : e->code;
}

static int open_tap(const struct net_options *o, struct net_port **ports, struct err *e)
{
	const struct tap_config c = {
		.ifname = o->ifname,
		.fds = o->fd >= 0 ? &o->fd : NULL,
		.nfds = o->fd >= 0,
		.mtu = o->mtu,
	};

	return tap_open(ports, o->queues, &c, e);
}

static int add_net(struct devices *all, const struct net_options *o, unsigned number, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "net", number);
	struct net_port *ports[CONFIG_MAX_QUEUES] = {NULL};
	struct evloop *loops[CONFIG_MAX_QUEUES];
	struct net_config c = {
		.name = d->name,
		.mem = all->mem,
		.npairs = o->queues,
		.loops = loops,
		.ports = ports,
		.mtu = o->mtu,
		.queue_size = o->virtio.queue_size,
		.rx = {.bytes_per_s = o->rate_bytes, .packets_per_s = o->rate_packets},
		.tx = {.bytes_per_s = o->rate_bytes, .packets_per_s = o->rate_packets},
		.hidden = hidden_net_bits(o),
	};
	int rc;

	if (o->has_mac)
		memcpy(c.mac, o->mac, sizeof(c.mac));
	rc = start_threads(d, o->queues, loops, e);
	rc = rc ? rc : start_control(d, o->queues, &c.loop, e);
	if (rc)
		return rc;
	rc = o->kind == NET_TAP ? open_tap(o, ports, e) : open_user(o, &ports[0], e);
	if (rc)
		return err_prefix(e, "--net %s", o->kind == NET_TAP ? "tap" : "user");
	d->virtio = net_new(&c, e);
	if (d->virtio)
		return 0;
	for (unsigned i = 0; i < o->queues && ports[i]; i++)
		ports[i]->ops->destroy(ports[i]);
	return e->code;
}

static int add_disk(struct devices *all, const struct disk_options *o, unsigned number, struct err *e)
{
	static const enum file_aio aio[] = {
		[DISK_AIO_DEFAULT] = FILE_AIO_AUTO,
		[DISK_AIO_URING] = FILE_AIO_URING,
		[DISK_AIO_SYNC] = FILE_AIO_SYNC,
	};
	struct device *d = next_device(all, &o->virtio, "disk", number);
	const struct file_disk_config f = {
		.path = o->path,
		.read_only = o->read_only,
		.direct = o->direct,
		.raw = o->raw,
		.aio = aio[o->aio],
	};
	struct evloop *loops[CONFIG_MAX_QUEUES];
	struct blk_config c = {
		.name = d->name,
		.mem = all->mem,
		.loops = loops,
		.nqueues = o->queues,
		.queue_size = o->virtio.queue_size ? o->virtio.queue_size : 256,
		.serial = o->serial,
		.writethrough = o->writethrough,
		.hidden = hidden_ring_bits(&o->virtio),
	};
	int rc = start_threads(d, o->queues, loops, e);

	if (rc)
		return rc;
	c.disk = file_disk_open(&f, e);
	if (!c.disk)
		return err_prefix(e, "--disk");
	d->virtio = blk_new(&c, e);
	if (!d->virtio) {
		c.disk->ops->destroy(c.disk);
		return e->code;
	}
	d->disk = c.disk;
	return 0;
}

static int add_rng(struct devices *all, const struct simple_options *o, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "rng", 0);
	struct rng_config c = {.name = d->name, .mem = all->mem, .hidden = hidden_ring_bits(&o->virtio)};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	d->virtio = rng_new(&c, e);
	return d->virtio ? 0 : e->code;
}

static int add_balloon(struct devices *all, const struct simple_options *o, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "balloon", 0);
	struct balloon_config c = {
		.name = d->name,
		.mem = all->mem,
		.deflate_on_oom = true,
		.reporting = true,
		.hidden = hidden_ring_bits(&o->virtio),
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	d->virtio = balloon_new(&c, e);
	all->balloon = d;
	return d->virtio ? 0 : e->code;
}

static void stream_output(void *opaque, const void *data, size_t len)
{
	socket_port_output(((struct stream *)opaque)->socket, data, len);
}

static bool stream_ready(void *opaque)
{
	return socket_port_ready(((struct stream *)opaque)->socket);
}

static void stream_room(void *opaque)
{
	socket_port_room(((struct stream *)opaque)->socket);
}

static size_t stream_on_input(void *opaque, const void *data, size_t len)
{
	const struct stream *s = opaque;

	return virtio_console_input(s->virtio, s->port, data, len);
}

static void stream_on_room(void *opaque)
{
	const struct stream *s = opaque;

	virtio_console_room(s->virtio, s->port);
}

static int open_stream(struct devices *all, const struct port_options *o, const struct control *control,
		       struct err *e)
{
	struct stream *s = &all->stream[all->nstream];
	struct socket_port_config c = {
		.path = o->path,
		.input = stream_on_input,
		.room = stream_on_room,
		.opaque = s,
	};
	char path[256];
	int rc = 0;

	s->virtio = all->console->virtio;
	s->port = all->nstream + 1;
	if (!o->path) {
		rc = control_port_path(control, o->name, path, sizeof(path), e);
		c.path = path;
	}
	rc = rc ? rc : socket_port_open(&s->socket, all->console->thread[0].loop, &c, e);
	if (rc)
		return err_prefix(e, "--console: port=%s", o->name);
	log_info("console port %s: %s", o->name, c.path);
	all->nstream++;
	return 0;
}

static int add_console(struct devices *all, const struct devices_config *cfg,
		       const struct devices_console *ends, struct err *e)
{
	struct device *d = next_device(all, &cfg->console.virtio, "console", 0);
	struct console_port_config port[1 + CONFIG_MAX_PORTS] = {{
		.console = true,
		.output = ends->output,
		.ready = ends->ready,
		.room = ends->room,
		.opaque = ends->opaque,
	}};
	struct console_device_config c = {
		.name = d->name,
		.mem = all->mem,
		.nports = 1 + cfg->nport,
		.port = port,
		.multiport = true, /* what is typed while the guest starts is kept */
		.hidden = hidden_ring_bits(&cfg->console.virtio),
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	for (unsigned i = 0; i < cfg->nport; i++)
		port[1 + i] = (struct console_port_config){
			.name = cfg->port[i].name,
			.output = stream_output,
			.ready = stream_ready,
			.room = stream_room,
			.opaque = &all->stream[i],
		};
	d->virtio = virtio_console_new(&c, e);
	all->console = d;
	rc = d->virtio ? 0 : e->code;
	for (unsigned i = 0; !rc && i < cfg->nport; i++)
		rc = open_stream(all, &cfg->port[i], ends->control, e);
	return rc;
}

int devices_open(struct devices **out, const struct devices_config *cfg, struct guest_mem *mem,
		 const struct devices_console *console, struct err *e)
{
	struct devices *all = calloc(1, sizeof(*all));
	int rc = 0;

	*out = all;
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->mem = mem;
	for (unsigned i = 0; !rc && i < cfg->ndisk; i++)
		rc = add_disk(all, &cfg->disk[i], i, e);
	for (unsigned i = 0; !rc && i < cfg->nnet; i++)
		rc = add_net(all, &cfg->net[i], i, e);
	if (!rc && cfg->console.on)
		rc = add_console(all, cfg, console, e);
	if (!rc && cfg->rng.on)
		rc = add_rng(all, &cfg->rng, e);
	if (!rc && cfg->balloon.on)
		rc = add_balloon(all, &cfg->balloon, e);
	return rc;
}

void devices_close(struct devices *all)
{
	if (!all)
		return;
	for (unsigned i = 0; i < all->n; i++)
		if (all->device[i].virtio)
			virtio_fini(all->device[i].virtio);
	/* When no queue calls them any more, and while there still is what they call. */
	while (all->nstream)
		socket_port_close(all->stream[--all->nstream].socket);
	for (unsigned i = 0; i < all->n; i++) {
		struct device *d = &all->device[i];

		if (d->virtio)
			d->virtio->ops->destroy(d->virtio);
		while (d->nthreads)
			loop_thread_stop(&d->thread[--d->nthreads]);
	}
	free(all);
}

/* --- one life of the guest --- */

static int plug(struct device *d, const struct devices_site *site, unsigned *slot, unsigned *page,
		struct err *e)
{
	const struct virtio_config *c = d->cfg;

	if (c->transport == TRANSPORT_MMIO) {
		const struct virtio_mmio_config mmio = {
			.dev = d->virtio,
			.mmio = site->mmio,
			.vmevent = site->vmevent,
			.index = (*page)++,
			.notify_exit = c->notify_exit,
			.irq_ioctl = c->irq_ioctl,
		};

		d->transport = virtio_mmio_new(&mmio, e);
	} else {
		const struct virtio_pci_config pci = {
			.dev = d->virtio,
			.pci = site->pci,
			.slot = (*slot)++,
			.vmevent = site->vmevent,
			.notify_exit = c->notify_exit,
			.irq_ioctl = c->irq_ioctl,
			.doorbell_pio = c->doorbell_pio,
		};

		d->transport = virtio_pci_new(&pci, e);
	}
	return d->transport ? 0 : err_prefix(e, "%s", d->name);
}

int devices_plug(struct devices *all, const struct devices_site *site, struct err *e)
{
	unsigned slot = 1, page = 0; /* slot 0 is the host bridge */
	int rc = 0;

	for (unsigned i = 0; !rc && i < all->n; i++)
		rc = plug(&all->device[i], site, &slot, &page, e);
	return rc;
}

void devices_unplug(struct devices *all)
{
	for (unsigned i = 0; all && i < all->n; i++) {
		struct device *d = &all->device[i];

		if (!d->transport)
			continue;
		virtio_lock(d->virtio);
		virtio_set_status(d->virtio, 0);
		virtio_unlock(d->virtio);
		d->transport->ops->destroy(d->transport);
		d->transport = NULL;
	}
}

unsigned devices_count_mmio(const struct devices *all)
{
	unsigned n = 0;

	for (unsigned i = 0; i < all->n; i++)
		n += all->device[i].cfg->transport == TRANSPORT_MMIO;
	return n;
}

/* --- while it runs --- */

size_t devices_input(struct devices *all, const void *data, size_t len)
{
	return virtio_console_input(all->console->virtio, 0, data, len);
}

void devices_console_room(struct devices *all)
{
	virtio_console_room(all->console->virtio, 0);
}

int devices_resize_disk(struct devices *all, const char *name, struct err *e)
{
	unsigned found = 0;

	for (unsigned i = 0; i < all->n; i++) {
		struct device *d = &all->device[i];
		int rc;

		if (!d->disk || (name && strcmp(name, d->name)))
			continue;
		found++;
		rc = d->disk->ops->refresh(d->disk);
		if (rc)
			return err_set(e, rc, "%s: %s", d->name, strerror(-rc));
	}
	if (found)
		return 0;
	return name ? err_set(e, -ENOENT, "no disk is called %s; they are disk0, disk1 and so on, as given",
			      name)
		    : err_set(e, -ENOENT, "this VM has no disk");
}

int devices_set_balloon(struct devices *all, uint64_t bytes, struct err *e)
{
	if (!all->balloon)
		return err_set(e, -ENOENT, "this VM has no balloon; start it with --balloon");
	virtio_balloon_set_target(all->balloon->virtio, bytes);
	return 0;
}

static void report_device(const struct device *d, struct device_report *r)
{
	r->name = d->name;
	r->type = d->virtio->ops->name;
	r->transport = d->cfg->transport == TRANSPORT_MMIO ? "mmio" : "pci";
	r->nqueues = d->virtio->nqueues;
	for (unsigned q = 0; q < r->nqueues; q++) {
		const struct queue_stats *s = &d->virtio->queue[q].stats;

		r->queue[q] = (struct queue_report){
			.kicks = s->kicks,
			.bursts = s->bursts,
			.chains = s->chains,
			.bytes = s->bytes,
			.interrupts = s->calls,
			.spared = s->calls_suppressed,
			.system_calls = s->syscalls,
		};
	}
}

static void report_balloon(struct virtio_device *v, struct balloon_report *r)
{
	struct balloon_stats s;

	r->wanted = virtio_balloon_target(v);
	r->actual = virtio_balloon_actual(v);
	r->returned = virtio_balloon_discarded(v);
	virtio_balloon_stats(v, &s);
	for (unsigned i = 0; s.seq && i < STATS_MAX_BALLOON; i++) {
		r->known |= s.known & (1u << i);
		r->value[i] = s.value[i];
	}
}

int devices_report(const struct devices *all, struct devices_report *out)
{
	*out = (struct devices_report){.n = all->n, .device = calloc(all->n, sizeof(*out->device))};
	if (all->balloon)
		out->balloon = calloc(1, sizeof(*out->balloon));
	if ((all->n && !out->device) || (all->balloon && !out->balloon)) {
		devices_report_free(out);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < all->n; i++)
		report_device(&all->device[i], &out->device[i]);
	if (all->balloon)
		report_balloon(all->balloon->virtio, out->balloon);
	return 0;
}

void devices_report_free(struct devices_report *r)
{
	free(r->device);
	free(r->balloon);
	*r = (struct devices_report){0};
}
