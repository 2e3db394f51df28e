/* Collects what vmm/explain.h tells.  Everything that lives longer than a register access is written on this
 * thread; a device's registers are looked at under its lock, which its driver may hold for seconds while a back
 * end does not answer: then they are left out. */
#include "vmm/machine_explain.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/tap.h"
#include "backends/vhost_user.h"
#include "backends/vhost_user_msg.h"
#include "devices/blk/disk.h"
#include "devices/net/net_port.h"
#include "devices/virtio/feature_names.h"
#include "devices/virtio/ledger.h"
#include "devices/virtio/virtio.h"
#include "lib/cleanup.h"
#include "vmm/devices_parts.h"
#include "vmm/explain.h"
#include "vmm/machine_parts.h"

#define BIT(n)       (UINT64_C(1) << (n))
#define BUSY_AFTER_S 1

_Static_assert(STATS_UNSEEN == QUEUE_STAT_UNSEEN, "unseen by one is unseen by the other");

/* A word for columns; the names are subjects of sentences. */
static const char *word_for(const char *datapath)
{
	return strstr(datapath, "vhost-user") ? "vhost-user" : datapath;
}

/* --- bits --- */

/* What turns a bit off: explicitly, or by its default. */
static const char *key_of(uint32_t id, unsigned bit)
{
	switch (bit) {
	case VIRTIO_F_RING_PACKED:
		return "packed=off";
	case VIRTIO_F_IN_ORDER:
		return "in_order=off";
	case VIRTIO_RING_F_EVENT_IDX:
		return "event_idx=off";
	case VIRTIO_RING_F_INDIRECT_DESC:
		return "indirect=off";
	}
	if (id == VIRTIO_ID_NET && (BIT(bit) & (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM))))
		return "csum=off";
	if (id == VIRTIO_ID_NET && bit >= VIRTIO_NET_F_GUEST_TSO4 && bit <= VIRTIO_NET_F_HOST_UFO)
		return "tso=off";
	if (id == VIRTIO_ID_NET && bit >= VIRTIO_NET_F_GUEST_USO4 && bit <= VIRTIO_NET_F_HOST_USO)
		return "uso=off";
	if (id == VIRTIO_ID_NET && bit == VIRTIO_NET_F_MRG_RXBUF)
		return "mrg_rxbuf=off";
	return "bits=common";
}

static void add_word(char *buf, size_t size, const char *word)
{
	const size_t len = strlen(buf);

	snprintf(buf + len, size - len, "%s%s", len ? ", " : "", word);
}

/* A card has the offloads of where its frames go, so that is who has not got them. */
static const char *who_lacks(const struct device *d, unsigned bit)
{
	const uint64_t of_port = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
				 BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_GUEST_USO4) |
				 BIT(VIRTIO_NET_F_GUEST_USO6) |
				 (BIT(VIRTIO_NET_F_HOST_UFO + 1) - BIT(VIRTIO_NET_F_GUEST_TSO4));

	const bool net = d->virtio->ops->id == VIRTIO_ID_NET;

	if (net && (of_port & BIT(bit)) && d->port[0])
		return d->port[0]->ops->name;
	if (net && bit == VIRTIO_NET_F_MTU)
		return "no mtu=";
	if ((net && bit == VIRTIO_NET_F_MQ) || (d->disk_options && bit == VIRTIO_BLK_F_MQ))
		return "queues=1";
	return "the device";
}

static void fill_bit(const struct device *d, const struct ledger *l, const struct ledger_line *line,
		     struct explain_bit *b)
{
	static const enum explain_say says[] = {
		[LEDGER_SILENT] = EXPLAIN_SILENT, [LEDGER_NO] = EXPLAIN_NO, [LEDGER_YES] = EXPLAIN_YES};
	const uint32_t id = d->virtio->ops->id;

	feature_names(id, BIT(b->bit), b->name, sizeof(b->name));
	b->device = says[line->device];
	b->datapath = says[line->datapath];
	b->user_off = line->user_off;
	b->offered = line->offered;
	if (line->user_off)
		add_word(b->removed_by, sizeof(b->removed_by),
			 d->cfg->has_most && !(d->cfg->most & BIT(b->bit)) ? "features=" : key_of(id, b->bit));
	for (unsigned i = 0; i < l->nparts; i++)
		if (line->by_part[i])
			add_word(b->removed_by, sizeof(b->removed_by), word_for(l->part[i].who));
	if (line->by_device)
		add_word(b->removed_by, sizeof(b->removed_by), who_lacks(d, b->bit));
}

static void fill_bits(const struct device *d, struct explain_device *x)
{
	const struct ledger *l = &d->virtio->ledger;
	struct ledger_line line;

	for (unsigned bit = 0; bit < EXPLAIN_MAX_BITS; bit++) {
		if (!ledger_line(l, bit, &line))
			continue;
		x->bit[x->nbits].bit = bit;
		fill_bit(d, l, &line, &x->bit[x->nbits++]);
	}
}

/* --- queues --- */

/* Not every datapath says itself that nobody sees what it does. */
static void forget_unseen(struct queue_report *r)
{
	r->kicks = r->bursts = r->chains = r->bytes = r->interrupts = r->spared = STATS_UNSEEN;
}

static void fill_counts(const struct virtio_device *v, struct explain_device *x)
{
	x->nqueues = v->nqueues;
	for (unsigned i = 0; i < v->nqueues; i++) {
		const struct queue_stats *s = &v->queue[i].stats;
		struct explain_queue *q = &x->queue[i];

		q->max_size = v->queue[i].max_size;
		q->exit_kicks = v->queue[i].exit_kicks;
		q->counts = (struct queue_report){
			.kicks = s->kicks,
			.bursts = s->bursts,
			.chains = s->chains,
			.bytes = s->bytes,
			.interrupts = s->calls,
			.spared = s->calls_suppressed,
			.system_calls = s->syscalls == STATS_UNSEEN ? 0 : s->syscalls,
		};
		if (!q->here)
			forget_unseen(&q->counts);
	}
}

static enum explain_driver driver_state(uint8_t status)
{
	if (status & VIRTIO_CONFIG_S_FAILED)
		return EXPLAIN_GAVE_UP;
	if (status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return EXPLAIN_NEEDS_RESET;
	if (status & VIRTIO_CONFIG_S_DRIVER_OK)
		return EXPLAIN_RUNS;
	return status & VIRTIO_CONFIG_S_DRIVER ? EXPLAIN_NEGOTIATES : EXPLAIN_NO_DRIVER;
}

static bool lock_for_a_while(struct virtio_device *v)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += BUSY_AFTER_S;
	return !pthread_mutex_clocklock(&v->lock, CLOCK_MONOTONIC, &end);
}

static void fill_registers(struct virtio_device *v, struct explain_device *x)
{
	const uint64_t refused = v->refused;
	uint8_t status = v->status;

	for (unsigned i = 0; i < v->nqueues; i++)
		x->queue[i].here = !v->remote;
	x->busy = !lock_for_a_while(v);
	if (!x->busy) {
		status = v->status;
		x->taken = v->accepted;
		for (unsigned i = 0; i < v->nqueues; i++) {
			x->queue[i].size = v->queue[i].size;
			x->queue[i].running = v->running_queues & BIT(i);
			x->queue[i].here |= (v->local_queues & BIT(i)) != 0;
		}
		virtio_unlock(v);
	}
	x->driver = v->let_go_due ? EXPLAIN_RESETTING : driver_state(status);
	x->negotiated = !x->busy && (status & VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; x->negotiated && i < x->nbits; i++)
		x->bit[i].taken = x->taken & BIT(x->bit[i].bit);
	if (refused && !x->negotiated)
		feature_names(v->ops->id, refused, x->refused, sizeof(x->refused));
}

/* --- who serves it --- */

static const struct net_options *net_options_of(const struct device *d)
{
	return d->words ? &d->words->run.dev.net[0] : d->net;
}

static const struct disk_options *disk_options_of(const struct device *d)
{
	return d->words ? &d->words->run.dev.disk[0] : d->disk_options;
}

static const char *remote_path(const struct machine *m, const struct device *d)
{
	const char *path = NULL;

	if (d->net)
		path = net_options_of(d)->remote.path;
	else if (d->disk_options)
		path = disk_options_of(d)->remote.path;
	for (unsigned i = 0; i < m->cfg->dev.ngeneric; i++)
		if (d->cfg == &m->cfg->dev.generic[i].virtio)
			path = m->cfg->dev.generic[i].remote.path;
	return path;
}

static void add(struct explain_device *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct explain_device *x, const char *fmt, ...)
{
	const size_t len = strlen(x->served_by);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->served_by + len, sizeof(x->served_by) - len, fmt, ap);
	va_end(ap);
}

static void say_protocol(uint64_t protocol, struct explain_device *x)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{VHOST_USER_PROTOCOL_F_MQ, "MQ"},
		{VHOST_USER_PROTOCOL_F_REPLY_ACK, "REPLY_ACK"},
		{VHOST_USER_PROTOCOL_F_NET_MTU, "NET_MTU"},
		{VHOST_USER_PROTOCOL_F_BACKEND_REQ, "BACKEND_REQ"},
		{VHOST_USER_PROTOCOL_F_CONFIG, "CONFIG"},
		{VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD, "INFLIGHT_SHMFD"},
		{VHOST_USER_PROTOCOL_F_RESET_DEVICE, "RESET_DEVICE"},
		{VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS, "CONFIGURE_MEM_SLOTS"},
		{VHOST_USER_PROTOCOL_F_STATUS, "STATUS"},
	};

	add(x, "; of the protocol:");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (protocol & BIT(names[i].bit))
			add(x, " %s", names[i].name);
	if (!protocol)
		add(x, " nothing");
}

static void say_vhost_user(const struct machine *m, const struct device *d, struct explain_device *x)
{
	const char *path = remote_path(m, d);
	struct vhost_user_info info;

	if (x->busy) { /* it would not answer either */
		add(x, " at %s, which has not answered yet", path ? path : "?");
		return;
	}
	vhost_user_info(d->virtio->remote, &info);
	x->away = !info.connected;
	add(x, " at %s, %s", path ? path : "?", info.connected ? "connected" : "away");
	if (info.returns)
		add(x, ", has come back %u time%s", info.returns, info.returns == 1 ? "" : "s");
	say_protocol(info.protocol, x);
}

static void say_remote(const struct machine *m, const struct device *d, struct explain_device *x)
{
	const char *path = remote_path(m, d);

	add(x, "%s", x->datapath);
	if (!strcmp(x->datapath, "vhost-user"))
		say_vhost_user(m, d, x);
	else if (path)
		add(x, " at %s", path);
	else
		add(x, ", a thread of the kernel");
	if (d->net && d->net_kind == NET_TAP)
		add(x, ", with tap %s", d->ifname);
}

static void say_local(const struct device *d, struct explain_device *x)
{
	add(x, "this process, in %s%s", d->nthreads > 1 ? "threads " : "thread ", d->name);
	if (d->nthreads > 1)
		add(x, ".0 and so on");
	if (d->net && d->net_kind == NET_TAP)
		add(x, ", with tap %s", d->ifname);
	else if (d->net)
		add(x, ", with the helper process of --net user");
	else if (d->disk)
		add(x, ", with %s by %s", disk_options_of(d)->path, d->disk->ops->name);
}

/* --- the path --- */

static bool has_msix(const struct machine *m, const struct device *d)
{
	bool on = false;

	for (unsigned slot = 0; slot < PCI_MAX_DEVICES; slot++) {
		struct pci_device *p = m->inst->pci.device[slot];
		unsigned at;

		if (!p || !p->name || strcmp(p->name, d->name))
			continue;
		pthread_mutex_lock(&p->lock);
		at = p->config[PCI_CAPABILITY_LIST];
		for (unsigned n = 0; at && n < 48; n++, at = p->config[at + PCI_CAP_LIST_NEXT])
			if (p->config[at + PCI_CAP_LIST_ID] == PCI_CAP_ID_MSIX)
				on = pci_get16(p->config + at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE;
		pthread_mutex_unlock(&p->lock);
	}
	return on;
}

static void fill_path(const struct machine *m, const struct device *d, struct explain_device *x)
{
	const bool mmio = d->cfg->transport == TRANSPORT_MMIO;

	x->interrupt = mmio ? EXPLAIN_SHARED : has_msix(m, d) ? EXPLAIN_MSIX : EXPLAIN_INTX;
	x->notify_exit = d->cfg->notify_exit;
	x->irq_ioctl = d->cfg->irq_ioctl;
	x->lingers = d->virtio->lingers;
	if (d->net) {
		x->parallel = d->net->queues;
		x->slirp = d->net_kind == NET_USER;
		x->rated = !x->remote && (d->net->rate_bytes || d->net->rate_packets);
		x->tap_gone = d->net_kind == NET_TAP && !tap_alive(d->port[0]);
	} else if (d->disk_options) {
		x->parallel = d->disk_options->queues;
		x->writethrough = d->disk && d->disk_options->writethrough;
		x->sync_file = d->disk && !strcmp(d->disk->ops->name, "sync");
	}
}

static void collect(const struct machine *m, const struct device *d, struct explain_device *x)
{
	struct virtio_device *v = d->virtio;

	memset(x, 0, sizeof(*x));
	snprintf(x->name, sizeof(x->name), "%s", d->name);
	x->type = v->ops->name;
	x->id = v->ops->id;
	x->remote = v->remote;
	x->datapath = word_for(v->remote ? v->remote->ops->name : v->local->ops->name);
	fill_bits(d, x);
	fill_registers(v, x);
	fill_counts(v, x);
	fill_path(m, d, x);
	if (v->remote)
		say_remote(m, d, x);
	else
		say_local(d, x);
}

/* --- all --- */

static void collect_vm(struct machine *m, bool busy, struct explain_vm *vm)
{
	int rc = busy ? -EBUSY : kvm_stats_collect(m->inst->vcpu, m->inst->nvcpus, &vm->kvm);

	vm->nvcpus = m->inst->nvcpus;
	vm->mem_bytes = m->mem.size;
	vm->mem_private = !m->cfg->mem.share;
	vm->paused = m->paused;
	machine_count(m, &vm->run); /* of this life, as KVM's are */
	vm->kvm_missing = !rc             ? NULL
			  : busy          ? "a vCPU waits for a back end and cannot be asked"
			  : rc == -ENOTTY ? "this KVM has no statistics; Linux 5.14 has"
					  : strerror(-rc);
}

static int cut(const char *all, char *text, size_t size)
{
	static const char more[] = "...\nThat is not all.  Ask for one device: ringlet explain NAME DEVICE\n";
	char *end;

	snprintf(text, size - sizeof(more), "%s", all);
	end = strrchr(text, '\n');
	strcpy(end ? end + 1 : text, more);
	return 0;
}

static int explain(struct machine *m, struct explain_device *x, unsigned n, char *text, size_t size)
{
	CLEANUP_FREE char *all = NULL;
	struct explain_vm vm = {0};
	bool busy = false;
	size_t len;
	FILE *out;

	for (unsigned i = 0; i < n; i++)
		busy |= x[i].busy;
	collect_vm(m, busy, &vm);
	out = open_memstream(&all, &len);
	if (!out)
		return -errno;
	explain_print_vm(&vm, out);
	for (unsigned i = 0; i < n; i++)
		explain_print_device(&vm, &x[i], out);
	explain_print_notes(x, n, out);
	if (fclose(out))
		return -ENOMEM;
	if (len >= size)
		return cut(all, text, size);
	memcpy(text, all, len + 1);
	return 0;
}

int machine_explain(struct machine *m, const char *device, char *text, size_t size)
{
	CLEANUP_FREE struct explain_device *x = calloc(m->devices->n + 1, sizeof(*x));
	unsigned n = 0;
	int rc = x ? 0 : -ENOMEM;

	for (unsigned i = 0; x && i < m->devices->n; i++)
		if (!device || !strcmp(device, m->devices->device[i].name))
			collect(m, &m->devices->device[i], &x[n++]);
	if (device && !n && !rc)
		return snprintf(text, size, "no device is called %s; they are net0, disk0 and so on, as given",
				device),
		       -ENOENT;
	rc = rc ? rc : explain(m, x, n, text, size);
	if (rc)
		snprintf(text, size, "%s", strerror(-rc));
	return rc;
}
