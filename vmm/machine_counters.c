/* Collects what programs ask a running VM for.  A device's registers are looked at under its lock, which its
 * driver may hold for seconds while a back end does not answer: then what is written under it is left out, and
 * so is what KVM counts, for which the vCPUs would have to stand still. */
#include "vmm/machine_counters.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/virtio/virtio.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "vmm/devices_parts.h"
#include "vmm/machine_parts.h"
#include "vmm/pci_bar.h"

#define BUSY_AFTER_NS 300000000

/* virtio 1.3, 4.1.4: a vendor capability that says where the doorbells are. */
#define CAP_TYPE   3
#define CAP_BAR    4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_NOTIFY 2

_Static_assert(STATS_UNSEEN == QUEUE_STAT_UNSEEN, "unseen by one is unseen by the other");
_Static_assert(STATS_MAX_QUEUES == VIRTIO_MAX_QUEUES, "a report has room for all queues");

/* --- where the doorbells are --- */

static void add_doorbell(struct counted_device *c, bool pio, uint64_t address, uint64_t length)
{
	if (c->ndoorbells < STATS_MAX_DOORBELLS)
		c->doorbell[c->ndoorbells++] = (struct doorbell_report){pio, address, length};
}

static void add_pci_doorbells(struct pci_device *p, struct counted_device *c)
{
	unsigned at;

	pthread_mutex_lock(&p->lock);
	at = p->config[PCI_CAPABILITY_LIST];
	for (unsigned n = 0; at && n < 48; n++, at = p->config[at + PCI_CAP_LIST_NEXT]) {
		const uint8_t *cap = p->config + at;
		const struct pci_bar *bar = cap[CAP_BAR] < PCI_BARS ? p->bar[cap[CAP_BAR]] : NULL;

		if (cap[PCI_CAP_LIST_ID] == PCI_CAP_ID_VNDR && cap[CAP_TYPE] == CAP_NOTIFY && bar &&
		    bar->addr != PCI_BAR_NOWHERE)
			add_doorbell(c, bar->io, bar->addr + pci_get32(cap + CAP_OFFSET),
				     pci_get32(cap + CAP_LENGTH));
	}
	pthread_mutex_unlock(&p->lock);
}

/* A device's only range on this bus. */
static void add_mmio_doorbell(struct bus *bus, const char *name, struct counted_device *c)
{
	pthread_rwlock_rdlock(&bus->lock);
	for (unsigned i = 0; i < bus->nranges; i++)
		if (bus->range[i]->name && !strcmp(bus->range[i]->name, name))
			add_doorbell(c, false, bus->range[i]->base + VIRTIO_MMIO_QUEUE_NOTIFY, 4);
	pthread_rwlock_unlock(&bus->lock);
}

static void add_doorbells(struct machine *m, const struct device *d, struct counted_device *c)
{
	if (d->cfg->transport == TRANSPORT_MMIO) {
		add_mmio_doorbell(&m->inst->mmio, d->name, c);
		return;
	}
	for (unsigned slot = 0; slot < PCI_MAX_DEVICES; slot++) {
		struct pci_device *p = m->inst->pci.device[slot];

		if (p && p->name && !strcmp(p->name, d->name))
			add_pci_doorbells(p, c);
	}
}

/* --- queues --- */

static void count_queue(const struct virtio_queue *q, bool here, struct queue_report *r)
{
	const struct queue_stats *s = &q->stats;

	*r = (struct queue_report){
		.kicks = s->kicks,
		.bursts = s->bursts,
		.chains = s->chains,
		.bytes = s->bytes,
		.interrupts = s->calls,
		.spared = s->calls_suppressed,
		.system_calls = s->syscalls == STATS_UNSEEN ? 0 : s->syscalls,
	};
	if (!here) /* not every datapath says itself that nobody sees what it does */
		r->kicks = r->bursts = r->chains = r->bytes = r->interrupts = r->spared = STATS_UNSEEN;
}

/* One that is busy says enough: the next are not waited for. */
static bool lock_for_a_while(struct virtio_device *v, bool busy)
{
	struct timespec end;

	if (busy)
		return !pthread_mutex_trylock(&v->lock);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += BUSY_AFTER_NS;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	return !pthread_mutex_clocklock(&v->lock, CLOCK_MONOTONIC, &end);
}

/* False: the device is busy.  busy: one before was. */
static bool collect(struct machine *m, const struct device *d, bool busy, struct counted_device *c)
{
	struct virtio_device *v = d->virtio;
	const bool idle = lock_for_a_while(v, busy);
	uint64_t here = v->remote ? 0 : UINT64_MAX;

	if (idle) {
		here |= v->local_queues;
		virtio_unlock(v);
		add_doorbells(m, d, c);
	}
	c->report.name = d->name;
	c->report.type = v->ops->name;
	c->report.transport = d->cfg->transport == TRANSPORT_MMIO ? "mmio" : "pci";
	c->report.nqueues = v->nqueues;
	c->remote = v->remote;
	/* Two of the names are subjects of sentences. */
	c->datapath = !v->remote                                   ? "in-process"
		      : strstr(v->remote->ops->name, "vhost-user") ? "vhost-user"
								   : v->remote->ops->name;
	c->notify_exit = d->cfg->notify_exit;
	for (unsigned i = 0; i < v->nqueues; i++) {
		c->here[i] = here & (UINT64_C(1) << i);
		c->exit_kicks[i] = v->queue[i].exit_kicks;
		count_queue(&v->queue[i], c->here[i], &c->report.queue[i]);
	}
	return idle;
}

/* --- all --- */

static void collect_vm(struct machine *m, struct counters_report *c)
{
	int rc = c->busy ? -EBUSY : kvm_stats_collect(m->inst->vcpu, m->inst->nvcpus, &c->kvm);

	c->run = m->stats; /* of earlier lives */
	machine_count(m, &c->run);
	c->run.console_bytes = m->console_bytes;
	c->run.run_ns = clock_ns(CLOCK_MONOTONIC) - m->started_ns - c->run.first_run_ns;
	c->kvm_missing = !rc             ? NULL
			 : c->busy       ? "a vCPU waits for a back end and cannot be asked"
			 : rc == -ENOTTY ? "this KVM has no statistics; Linux 5.14 has"
					 : strerror(-rc);
}

int machine_counters(struct machine *m, const char *device, char *text, size_t size)
{
	CLEANUP_FREE struct counted_device *d = calloc(m->devices->n + 1, sizeof(*d));
	struct counters_report c = {.device = d};
	int rc;

	for (unsigned i = 0; d && i < m->devices->n; i++)
		if (!device || !strcmp(device, m->devices->device[i].name))
			c.busy |= !collect(m, &m->devices->device[i], c.busy, &d[c.ndevices++]);
	if (d && device && !c.ndevices)
		return snprintf(text, size, "no device is called %s; they are net0, disk0 and so on, as given",
				device),
		       -ENOENT;
	if (d)
		collect_vm(m, &c);
	rc = d ? stats_counters_json(&c, text, size) : -ENOMEM;
	if (rc == -EMSGSIZE)
		snprintf(text, size, "that is too much for one answer; ask for one device: counters net0");
	else if (rc)
		snprintf(text, size, "%s", strerror(-rc));
	return rc;
}
