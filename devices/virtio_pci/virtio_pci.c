#include "devices/virtio_pci/virtio_pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio_pci/internal.h"
#include "lib/cleanup.h"

#define VENDOR      0x1af4
#define DEVICE_BASE 0x1040
/* The subsystem that drivers for Windows are signed for. */
#define SUBSYSTEM 0x1100

_Static_assert(MSIX_MAX_VECTORS > VIRTIO_MAX_QUEUES, "a vector a queue and one for the configuration");
_Static_assert(VPCI_NOTIFY_LEN <= 256, "an I/O BAR holds all doorbells");

static struct virtio_pci *vpci_of(struct virtio_transport *t)
{
	return container_of(t, struct virtio_pci, transport);
}

/* --- doorbells --- */

static int doorbells_at(struct virtio_pci *t, unsigned q, bool pio, uint64_t base, bool add)
{
	struct doorbell d = {.pio = pio, .match = -1};
	int fd = t->queue[q].kick_fd;

	if (base == PCI_BAR_NOWHERE || t->notify_exit)
		return 0;
	d.addr = base + (pio ? 0 : VPCI_NOTIFY) + q * VPCI_NOTIFY_MULT;
	if (add)
		return t->vmevent->ops->doorbell_add(t->vmevent, &d, fd);
	t->vmevent->ops->doorbell_del(t->vmevent, &d, fd);
	return 0;
}

/* A BAR goes elsewhere, and every doorbell in it: all or none. */
static int move_doorbells(struct virtio_pci *t, bool pio, uint64_t *base, uint64_t to)
{
	unsigned q;
	int rc = 0;

	virtio_lock(t->transport.dev);
	for (q = 0; q < VIRTIO_MAX_QUEUES && !rc; q++)
		if (t->queue[q].bound)
			rc = doorbells_at(t, q, pio, to, true);
	if (rc) {
		for (q--; q-- > 0;) /* the last one failed */
			if (t->queue[q].bound)
				doorbells_at(t, q, pio, to, false);
	} else {
		for (q = 0; q < VIRTIO_MAX_QUEUES; q++)
			if (t->queue[q].bound)
				doorbells_at(t, q, pio, *base, false);
		*base = to;
	}
	virtio_unlock(t->transport.dev);
	return rc;
}

static void notify(struct virtio_pci *t, uint64_t off)
{
	if (off % VPCI_NOTIFY_MULT) /* no doorbell there, whoever looks: KVM compares addresses */
		return;
	virtio_lock(t->transport.dev);
	virtio_queue_notify(t->transport.dev, (uint32_t)(off / VPCI_NOTIFY_MULT));
	virtio_unlock(t->transport.dev);
}

static void io_read(struct pci_bar *b, uint64_t off, void *data, unsigned len)
{
	(void)b;
	(void)off;
	memset(data, 0, len);
}

static void io_write(struct pci_bar *b, uint64_t off, const void *data, unsigned len)
{
	(void)data;
	(void)len;
	notify(container_of(b, struct virtio_pci, io), off);
}

static int io_move(struct pci_bar *b, uint64_t to)
{
	struct virtio_pci *t = container_of(b, struct virtio_pci, io);

	return move_doorbells(t, true, &t->io_addr, to);
}

/* --- the memory BAR --- */

static void mem_read(struct pci_bar *b, uint64_t off, void *data, unsigned len)
{
	struct virtio_pci *t = container_of(b, struct virtio_pci, mem);
	struct virtio_device *dev = t->transport.dev;
	uint64_t at = off & 0xfff;

	memset(data, 0, len);
	switch (off & ~0xfffull) {
	case VPCI_COMMON:
		virtio_lock(dev);
		vpci_common_read(t, at, data, len);
		virtio_unlock(dev);
		return;
	case VPCI_ISR:
		if (!at)
			*(uint8_t *)data = vpci_isr_take(t);
		return;
	case VPCI_DEVICE:
		virtio_lock(dev);
		virtio_config_read(dev, at, data, len);
		virtio_unlock(dev);
		return;
	case VPCI_MSIX_TABLE:
		msix_table_read(&t->msix, at, data, len);
		return;
	case VPCI_MSIX_PBA:
		msix_pba_read(&t->msix, at, data, len);
		return;
	}
}

static void mem_write(struct pci_bar *b, uint64_t off, const void *data, unsigned len)
{
	struct virtio_pci *t = container_of(b, struct virtio_pci, mem);
	struct virtio_device *dev = t->transport.dev;
	uint64_t at = off & 0xfff;

	switch (off & ~0xfffull) {
	case VPCI_COMMON:
		virtio_lock(dev);
		vpci_common_write(t, at, data, len);
		virtio_unlock(dev);
		return;
	case VPCI_DEVICE:
		virtio_lock(dev);
		virtio_config_write(dev, at, data, len);
		virtio_unlock(dev);
		return;
	case VPCI_NOTIFY:
		notify(t, at);
		return;
	case VPCI_MSIX_TABLE:
		msix_table_write(&t->msix, at, data, len);
		return;
	}
}

static int mem_move(struct pci_bar *b, uint64_t to)
{
	struct virtio_pci *t = container_of(b, struct virtio_pci, mem);

	return move_doorbells(t, false, &t->mem_addr, to);
}

/* --- configuration space --- */

/* The window onto the BARs (4.1.4.9): what it means now, or NULL.  MSI-X is not reached through it. */
static struct pci_bar *window(struct virtio_pci *t, uint32_t *off, uint32_t *len)
{
	const uint8_t *cap = t->pci.config + t->window_cap;
	struct pci_bar *bar = NULL;
	uint32_t end = 0;

	if (cap[VIRTIO_PCI_CAP_BAR] == VPCI_BAR_MEM) {
		bar = &t->mem;
		end = VPCI_MSIX_TABLE;
	} else if (cap[VIRTIO_PCI_CAP_BAR] == VPCI_BAR_IO && t->doorbell_pio) {
		bar = &t->io;
		end = VPCI_NOTIFY_LEN;
	}
	*off = pci_get32(cap + VIRTIO_PCI_CAP_OFFSET);
	*len = pci_get32(cap + VIRTIO_PCI_CAP_LENGTH);
	if ((*len != 1 && *len != 2 && *len != 4) || *off % *len || *off >= end || *len > end - *off)
		return NULL;
	return bar;
}

static bool is_window_data(const struct virtio_pci *t, unsigned off, unsigned len)
{
	return pci_touches(off, len, t->window_cap + sizeof(struct virtio_pci_cap), 4);
}

static void config_read(struct pci_device *d, unsigned off, unsigned len)
{
	struct virtio_pci *t = container_of(d, struct virtio_pci, pci);
	struct pci_bar *bar;
	uint32_t at, n;

	if (!is_window_data(t, off, len))
		return;
	bar = window(t, &at, &n);
	if (bar)
		bar->ops->read(bar, at, d->config + t->window_cap + sizeof(struct virtio_pci_cap), n);
}

static void command_written(struct virtio_pci *t)
{
	struct virtio_device *dev = t->transport.dev;
	uint16_t flags = pci_get16(t->pci.config + t->msix_cap + PCI_MSIX_FLAGS);

	virtio_lock(dev);
	t->bus_master = t->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER;
	if (!t->bus_master && virtio_status(dev) & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_set_status(dev, 0);
	vpci_msix_control(t, flags, t->bus_master);
	virtio_unlock(dev);
}

static void config_written(struct pci_device *d, unsigned off, unsigned len)
{
	struct virtio_pci *t = container_of(d, struct virtio_pci, pci);
	struct pci_bar *bar;
	uint32_t at, n;

	if (pci_touches(off, len, PCI_COMMAND, 2) || pci_touches(off, len, t->msix_cap + PCI_MSIX_FLAGS, 2))
		command_written(t);
	if (!is_window_data(t, off, len))
		return;
	bar = window(t, &at, &n);
	if (bar)
		bar->ops->write(bar, at, d->config + t->window_cap + sizeof(struct virtio_pci_cap), n);
}

/* --- what the core asks for --- */

static int bind(struct virtio_transport *transport, unsigned q, int kick_fd, int call_fd)
{
	struct virtio_pci *t = vpci_of(transport);
	struct virtio_pci_queue *b = &t->queue[q];
	int rc;

	b->kick_fd = kick_fd;
	b->call_fd = call_fd;
	rc = doorbells_at(t, q, false, t->mem_addr, true);
	if (rc)
		return rc;
	rc = doorbells_at(t, q, true, t->io_addr, true);
	if (rc)
		goto no_io;
	rc = vpci_irq_bind(t, q);
	if (rc)
		goto no_irq;
	b->bound = true;
	return 0;
no_irq:
	doorbells_at(t, q, true, t->io_addr, false);
no_io:
	doorbells_at(t, q, false, t->mem_addr, false);
	return rc;
}

static void unbind(struct virtio_transport *transport, unsigned q)
{
	struct virtio_pci *t = vpci_of(transport);

	if (!t->queue[q].bound)
		return;
	t->queue[q].bound = false;
	vpci_irq_unbind(t, q);
	doorbells_at(t, q, true, t->io_addr, false);
	doorbells_at(t, q, false, t->mem_addr, false);
}

static void config_irq(struct virtio_transport *transport)
{
	struct virtio_pci *t = vpci_of(transport);

	vpci_isr_set(t, VIRTIO_PCI_ISR_CONFIG);
	if (t->msix_on)
		msix_fire(&t->msix, &t->config_source);
}

static void reset(struct virtio_transport *transport)
{
	struct virtio_pci *t = vpci_of(transport);

	t->device_feature_select = t->driver_feature_select = 0;
	t->queue_select = 0;
	vpci_set_config_vector(t, VIRTIO_MSI_NO_VECTOR);
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		vpci_set_queue_vector(t, q, VIRTIO_MSI_NO_VECTOR);
	vpci_isr_take(t);
}

static void destroy(struct virtio_transport *transport)
{
	struct virtio_pci *t = vpci_of(transport);

	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		unbind(transport, q);
	pci_remove(&t->pci);
	msix_unmap(&t->msix, &t->config_source);
	msix_fini(&t->msix);
	pthread_mutex_destroy(&t->irq_lock);
	free(t);
}

/* --- construction --- */

/* Base class and subclass (PCI Code and ID Assignment 1.11), as other hypervisors give them. */
static uint16_t class_of(uint32_t id)
{
	switch (id) {
	case VIRTIO_ID_NET:
		return 0x0200; /* Ethernet */
	case VIRTIO_ID_BLOCK:
	case VIRTIO_ID_SCSI:
		return 0x0100; /* SCSI */
	case VIRTIO_ID_FS:
		return 0x0180; /* other mass storage */
	case VIRTIO_ID_GPU:
		return 0x0380; /* other display */
	case VIRTIO_ID_CONSOLE:
	case VIRTIO_ID_VSOCK:
		return 0x0780; /* other communication */
	case VIRTIO_ID_INPUT:
		return 0x0980; /* other input */
	default:
		return 0x00ff; /* none of these */
	}
}

static int add_cap(struct virtio_pci *t, uint8_t type, unsigned bar, uint32_t off, uint32_t len, unsigned extra)
{
	unsigned size = (unsigned)sizeof(struct virtio_pci_cap) + extra;
	int at = pci_add_capability(&t->pci, PCI_CAP_ID_VNDR, size);
	uint8_t *cap = t->pci.config + at;

	if (at < 0)
		return at;
	cap[VIRTIO_PCI_CAP_LEN] = (uint8_t)size;
	cap[VIRTIO_PCI_CAP_CFG_TYPE] = type;
	cap[VIRTIO_PCI_CAP_BAR] = (uint8_t)bar;
	pci_put32(cap + VIRTIO_PCI_CAP_OFFSET, off);
	pci_put32(cap + VIRTIO_PCI_CAP_LENGTH, len);
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		pci_put32(cap + VIRTIO_PCI_NOTIFY_CAP_MULT, VPCI_NOTIFY_MULT);
	return at;
}

static void add_window(struct virtio_pci *t)
{
	uint8_t *writable;

	t->window_cap = (unsigned)add_cap(t, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 4);
	writable = t->pci.writable + t->window_cap;
	writable[VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(writable + VIRTIO_PCI_CAP_OFFSET, 0xff,
	       sizeof(struct virtio_pci_cfg_cap) - VIRTIO_PCI_CAP_OFFSET);
}

/* They fit: the list is the same for every device. */
static void add_caps(struct virtio_pci *t)
{
	size_t config_len = t->transport.dev->ops->config_size(t->transport.dev);

	t->msix_cap =
		(unsigned)msix_add_capability(&t->msix, &t->pci, VPCI_BAR_MEM, VPCI_MSIX_TABLE, VPCI_MSIX_PBA);
	add_cap(t, VIRTIO_PCI_CAP_COMMON_CFG, VPCI_BAR_MEM, VPCI_COMMON, VPCI_COMMON_LEN, 0);
	if (t->doorbell_pio) /* the better one comes first */
		add_cap(t, VIRTIO_PCI_CAP_NOTIFY_CFG, VPCI_BAR_IO, 0, VPCI_NOTIFY_LEN, 4);
	add_cap(t, VIRTIO_PCI_CAP_NOTIFY_CFG, VPCI_BAR_MEM, VPCI_NOTIFY, VPCI_NOTIFY_LEN, 4);
	add_cap(t, VIRTIO_PCI_CAP_ISR_CFG, VPCI_BAR_MEM, VPCI_ISR, 1, 0);
	if (config_len)
		add_cap(t, VIRTIO_PCI_CAP_DEVICE_CFG, VPCI_BAR_MEM, VPCI_DEVICE,
			(uint32_t)(config_len < 0x1000 ? config_len : 0x1000), 0);
	add_window(t);
	assert(t->pci.cap_end <= PCI_CFG_SPACE_SIZE);
}

static void fill_header(struct virtio_pci *t, uint32_t id)
{
	uint8_t *c = t->pci.config;

	pci_put16(c + PCI_VENDOR_ID, VENDOR);
	pci_put16(c + PCI_DEVICE_ID, (uint16_t)(DEVICE_BASE + id));
	c[PCI_REVISION_ID] = 1;
	pci_put16(c + PCI_CLASS_DEVICE, class_of(id));
	pci_put16(c + PCI_SUBSYSTEM_VENDOR_ID, VENDOR);
	pci_put16(c + PCI_SUBSYSTEM_ID, SUBSYSTEM);
	t->pci.writable[PCI_COMMAND] |= PCI_COMMAND_MASTER;
	t->pci.writable[PCI_CACHE_LINE_SIZE] = 0xff;
}

static int add_bars(struct virtio_pci *t)
{
	static const struct pci_bar_ops mem_ops = {.read = mem_read, .write = mem_write, .move = mem_move};
	static const struct pci_bar_ops io_ops = {.read = io_read, .write = io_write, .move = io_move};
	const char *name = t->transport.dev->name;
	int rc;

	t->mem = (struct pci_bar){.name = name, .size = VPCI_MEM_SIZE, .ops = &mem_ops};
	t->io = (struct pci_bar){.name = name, .size = VPCI_NOTIFY_LEN, .io = true, .ops = &io_ops};
	t->mem_addr = t->io_addr = PCI_BAR_NOWHERE;
	rc = pci_bar_add(&t->pci, VPCI_BAR_MEM, &t->mem);
	if (!rc && t->doorbell_pio)
		rc = pci_bar_add(&t->pci, VPCI_BAR_IO, &t->io);
	return rc;
}

struct virtio_transport *virtio_pci_new(const struct virtio_pci_config *c, struct err *e)
{
	static const struct virtio_transport_ops ops = {
		.bind = bind,
		.unbind = unbind,
		.config_irq = config_irq,
		.reset = reset,
		.destroy = destroy,
	};
	struct virtio_pci *t = calloc(1, sizeof(*t));
	int slot = c->slot ? (int)c->slot : pci_free_slot(c->pci);
	int rc;

	if (!t) {
		err_set(e, -ENOMEM, "%s: out of memory", c->dev->name);
		return NULL;
	}
	t->transport = (struct virtio_transport){.ops = &ops, .dev = c->dev};
	t->vmevent = c->vmevent;
	t->notify_exit = c->notify_exit;
	t->irq_ioctl = c->irq_ioctl;
	t->doorbell_pio = c->doorbell_pio;
	t->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++) {
		t->queue[q].t = t;
		t->queue[q].vector = VIRTIO_MSI_NO_VECTOR;
	}
	pthread_mutex_init(&t->irq_lock, NULL);
	msix_init(&t->msix, c->dev->nqueues + 1, c->vmevent, !c->irq_ioctl);
	t->pci.name = c->dev->name;
	t->pci.vmevent = c->vmevent;
	t->pci.config_read = config_read;
	t->pci.config_written = config_written;
	fill_header(t, c->dev->ops->id);
	rc = slot < 0 ? slot : pci_add(c->pci, &t->pci, (unsigned)slot);
	if (rc) {
		err_set(e, rc, "%s: no place on the PCI bus: %s", c->dev->name,
			slot < 0       ? "all slots are taken"
			: rc == -EBUSY ? "that slot is taken"
				       : "no such slot");
		goto fail;
	}
	rc = add_bars(t);
	if (rc) {
		err_set(e, rc, "%s: no address left for its PCI BAR: %s", c->dev->name, strerror(-rc));
		goto fail;
	}
	add_caps(t);
	c->dev->transport = &t->transport;
	return &t->transport;
fail:
	destroy(&t->transport);
	return NULL;
}

unsigned virtio_pci_slot(const struct virtio_transport *t)
{
	return container_of(t, struct virtio_pci, transport)->pci.slot;
}
