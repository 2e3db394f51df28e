#include "vmm/machine_devices.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "backends/file_disk.h"
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
#include "vmm/loop_thread.h"

#define MAX_DEVICES (CONFIG_MAX_NETS + CONFIG_MAX_DISKS + 3)
#define BIT(n)      (UINT64_C(1) << (n))

struct device {
	char name[16];
	const struct virtio_config *cfg;
	struct virtio_device *virtio;
	struct virtio_transport *transport; /* of this life, or NULL */
	struct disk *disk;                  /* the device's; NULL: no disk */
	unsigned nthreads;
	struct loop_thread thread[CONFIG_MAX_QUEUES + 1]; /* the last: control, of many pairs */
};

struct devices {
	struct guest_mem *mem;
	unsigned n;
	struct device device[MAX_DEVICES];
	struct device *balloon, *console; /* NULL: none */
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

static int add_console(struct devices *all, const struct simple_options *o, const struct devices_console *ends,
		       struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "console", 0);
	const struct console_port_config port = {
		.console = true,
		.output = ends->output,
		.ready = ends->ready,
		.room = ends->room,
		.opaque = ends->opaque,
	};
	struct console_device_config c = {
		.name = d->name,
		.mem = all->mem,
		.nports = 1,
		.port = &port,
		.multiport = true, /* what is typed while the guest starts is kept */
		.hidden = hidden_ring_bits(&o->virtio),
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	d->virtio = virtio_console_new(&c, e);
	all->console = d;
	return d->virtio ? 0 : e->code;
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
		rc = add_console(all, &cfg->console, console, e);
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
	for (unsigned i = 0; i < all->n; i++) {
		struct device *d = &all->device[i];

		if (d->virtio) {
			virtio_fini(d->virtio);
			d->virtio->ops->destroy(d->virtio);
		}
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

static void print_count(FILE *out, const char *what, uint64_t n)
{
	if (n != QUEUE_STAT_UNSEEN)
		fprintf(out, "  %s %" PRIu64, what, n);
}

static void print_balloon(struct virtio_device *v, FILE *out)
{
	/* VIRTIO_BALLOON_S_*, in their order */
	static const char *const names[] = {"swapped in",  "swapped out",  "major faults", "minor faults",
					    "free memory", "total memory", "available",    "disk caches"};
	struct balloon_stats s;

	fprintf(out,
		"balloon: wanted %" PRIu64 " MiB, is %" PRIu64 " MiB; given back to the host %" PRIu64 " MiB\n",
		virtio_balloon_target(v) >> 20, virtio_balloon_actual(v) >> 20,
		virtio_balloon_discarded(v) >> 20);
	virtio_balloon_stats(v, &s);
	if (!s.seq)
		return;
	fprintf(out, "the guest says:");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (s.known & (1u << i))
			fprintf(out, "  %s %" PRIu64, names[i], s.value[i]);
	fputc('\n', out);
}

void devices_print_stats(struct devices *all, FILE *out)
{
	for (unsigned i = 0; i < all->n; i++) {
		struct virtio_device *v = all->device[i].virtio;

		for (unsigned q = 0; q < v->nqueues; q++) {
			struct queue_stats *s = &v->queue[q].stats;

			if (!s->kicks && !s->chains)
				continue;
			fprintf(out, "%s queue %u:", all->device[i].name, q);
			print_count(out, "kicks", s->kicks);
			print_count(out, "bursts", s->bursts);
			print_count(out, "chains", s->chains);
			print_count(out, "bytes", s->bytes);
			print_count(out, "interrupts", s->calls);
			print_count(out, "spared", s->calls_suppressed);
			print_count(out, "system calls", s->syscalls);
			fputc('\n', out);
		}
	}
	if (all->balloon)
		print_balloon(all->balloon->virtio, out);
}
