#include "vmm/machine_devices.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "backends/socket_port.h"
#include "devices/balloon/balloon.h"
#include "devices/blk/disk.h"
#include "devices/console/virtio_console.h"
#include "devices/net/net.h"
#include "devices/rng/rng.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio_mmio/virtio_mmio.h"
#include "devices/virtio_pci/virtio_pci.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/devices_parts.h"

#define BIT(n) (UINT64_C(1) << (n))

_Static_assert(STATS_UNSEEN == QUEUE_STAT_UNSEEN, "unseen by one is unseen by the other");
_Static_assert(STATS_MAX_QUEUES >= VIRTIO_MAX_QUEUES, "every queue is reported");
_Static_assert(STATS_MAX_BALLOON <= BALLOON_STATS, "what is reported was told");

/* --- what every device has --- */

int start_threads(struct device *d, unsigned n, struct evloop **loops, struct err *e)
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

int start_control(struct device *d, unsigned n, struct evloop **loop, struct err *e)
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

uint64_t hidden_ring_bits(const struct virtio_config *c, bool moves)
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
	if (moves && !c->all_bits)
		hidden |= BIT(VIRTIO_F_RING_RESET);
	if (c->has_most)
		hidden |= ~c->most & ~BIT(VIRTIO_F_VERSION_1);
	return hidden;
}

struct device *next_device(struct devices *all, const struct virtio_config *cfg, const char *kind,
			   unsigned number)
{
	struct device *d = &all->device[all->n++];

	snprintf(d->name, sizeof(d->name), "%s%u", kind, number);
	d->cfg = cfg;
	return d;
}

/* --- the simple kinds --- */

static int add_rng(struct devices *all, const struct simple_options *o, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "rng", 0);
	struct rng_config c = {.name = d->name, .mem = all->mem, .hidden = hidden_ring_bits(&o->virtio, false)};
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
		.hidden = hidden_ring_bits(&o->virtio, false),
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	d->virtio = balloon_new(&c, e);
	all->balloon = d;
	return d->virtio ? 0 : e->code;
}

static void say_what_is_not_served(const struct device *d)
{
	const struct virtio_device *v = d->virtio;
	const struct {
		bool wanted;
		unsigned bit;
		const char *key;
	} bits[] = {
		{d->cfg->packed && !d->cfg->all_bits, VIRTIO_F_RING_PACKED, "packed"},
		{d->cfg->in_order && !d->cfg->all_bits, VIRTIO_F_IN_ORDER, "in_order"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		if (bits[i].wanted && (!d->cfg->has_most || d->cfg->most & BIT(bits[i].bit)) &&
		    !(v->offered & BIT(bits[i].bit)))
			log_warn("%s: %s=on: %s does not serve it, so the driver is not offered it", d->name,
				 bits[i].key, v->remote ? v->remote->ops->name : v->local->ops->name);
}

int devices_open(struct devices **out, const struct devices_config *cfg, struct guest_mem *mem,
		 const struct devices_console *console, struct err *e)
{
	struct devices *all = calloc(1, sizeof(*all));
	unsigned number[GENERIC_VHOST_USER + 1] = {0}; /* of each kind so far */
	int rc = 0;

	*out = all;
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->mem = mem;
	for (unsigned i = 0; !rc && i < cfg->ndisk; i++)
		rc = add_disk(all, &cfg->disk[i], i, e);
	for (unsigned i = 0; !rc && i < cfg->nnet; i++)
		rc = add_net(all, &cfg->net[i], i, e);
	for (unsigned i = 0; !rc && i < cfg->ngeneric; i++)
		rc = add_generic(all, &cfg->generic[i], number[cfg->generic[i].kind]++, e);
	if (!rc && (cfg->console.on || console->port))
		rc = add_console(all, cfg, console, e);
	if (!rc && cfg->rng.on)
		rc = add_rng(all, &cfg->rng, e);
	if (!rc && cfg->balloon.on)
		rc = add_balloon(all, &cfg->balloon, e);
	for (unsigned i = 0; !rc && i < all->n; i++)
		say_what_is_not_served(&all->device[i]);
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
		if (d->words)
			config_free(d->words);
		free(d->words);
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

static bool reset(struct virtio_device *dev)
{
	bool done;

	virtio_lock(dev);
	if (virtio_status(dev))
		virtio_set_status(dev, 0);
	done = !virtio_status(dev);
	virtio_unlock(dev);
	return done;
}

bool devices_quiet(struct devices *all)
{
	bool quiet = true;

	for (unsigned i = 0; i < all->n; i++)
		quiet &= reset(all->device[i].virtio);
	return quiet;
}

void devices_unplug(struct devices *all)
{
	for (unsigned i = 0; all && i < all->n; i++) {
		struct device *d = &all->device[i];

		if (!d->transport)
			continue;
		reset(d->virtio);
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
	if (all->console)
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
