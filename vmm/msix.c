#include "vmm/msix.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <string.h>

#include "lib/log.h"

void msix_init(struct msix *m, unsigned nvectors, struct vmevent *vmevent, bool irqfd)
{
	assert(nvectors <= MSIX_MAX_VECTORS);
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	m->vmevent = vmevent;
	m->irqfd = irqfd;
	m->nvectors = nvectors;
	for (unsigned i = 0; i < nvectors; i++) {
		m->vector[i].gsi = -1;
		m->vector[i].entry[PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
}

void msix_fini(struct msix *m)
{
	for (unsigned i = 0; i < m->nvectors; i++)
		if (m->vector[i].gsi >= 0)
			m->vmevent->ops->msi_free(m->vmevent, m->vector[i].gsi);
	pthread_mutex_destroy(&m->lock);
}

int msix_add_capability(const struct msix *m, struct pci_device *d, unsigned bar, uint32_t table, uint32_t pba)
{
	int at = pci_add_capability(d, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);

	if (at < 0)
		return at;
	pci_put16(d->config + at + PCI_MSIX_FLAGS, (uint16_t)(m->nvectors - 1));
	pci_put16(d->writable + at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_put32(d->config + at + PCI_MSIX_TABLE, table | bar);
	pci_put32(d->config + at + PCI_MSIX_PBA, pba | bar);
	return at;
}

/* --- what follows runs with m->lock held, up to the public functions --- */

static bool may_fire(const struct msix *m, const struct msix_vector *v)
{
	return m->on && !(v->entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static struct msi_msg message(const struct msix_vector *v)
{
	return (struct msi_msg){
		.addr = pci_get32(v->entry + PCI_MSIX_ENTRY_LOWER_ADDR) |
			(uint64_t)pci_get32(v->entry + PCI_MSIX_ENTRY_UPPER_ADDR) << 32,
		.data = pci_get32(v->entry + PCI_MSIX_ENTRY_DATA),
	};
}

static void detach(struct msix *m, const struct msix_vector *v, struct msix_source *s)
{
	/* An irqfd takes every count as it comes; what detaching empties was injected. */
	if (s->attached)
		m->vmevent->ops->irq_detach(m->vmevent, v->gsi, s->fd);
	s->attached = false;
}

static int route(struct msix *m, struct msix_vector *v)
{
	struct msi_msg msg = message(v);
	int rc;

	if (v->routed && msg.addr == v->msg.addr && msg.data == v->msg.data)
		return 0;
	rc = m->vmevent->ops->msi_set(m->vmevent, v->gsi, &msg);
	v->routed = !rc;
	v->msg = msg;
	return rc;
}

static int attach_all(struct msix *m, struct msix_vector *v)
{
	int rc = 0, worst = 0;

	for (struct msix_source *s = v->sources; s; s = s->next) {
		if (s->fd < 0 || s->attached)
			continue;
		rc = m->vmevent->ops->irq_attach(m->vmevent, v->gsi, s->fd);
		s->attached = !rc;
		worst = rc ? rc : worst;
	}
	return worst;
}

/* Makes what KVM has agree with the registers.  0, or -errno: not everything that may fire can. */
static int update(struct msix *m, struct msix_vector *v)
{
	bool live = may_fire(m, v), fds = false;
	int rc = 0;

	for (const struct msix_source *s = v->sources; s; s = s->next)
		fds = fds || s->fd >= 0;
	if (live && m->irqfd && fds)
		rc = route(m, v);
	if (!live || rc)
		for (struct msix_source *s = v->sources; s; s = s->next)
			detach(m, v, s);
	else if (m->irqfd && fds)
		rc = attach_all(m, v);
	if (live && v->latched) {
		struct msi_msg msg = message(v);

		v->latched = false;
		m->vmevent->ops->msi_send(m->vmevent, &msg);
	}
	if (rc)
		log_guest("msix: vector %td: %s", v - m->vector, strerror(-rc));
	return rc;
}

static bool pending(const struct msix *m, const struct msix_vector *v)
{
	if (may_fire(m, v))
		return false;
	for (const struct msix_source *s = v->sources; s; s = s->next) {
		struct pollfd p = {.fd = s->fd, .events = POLLIN};

		if (m->irqfd && s->fd >= 0 && poll(&p, 1, 0) == 1 && p.revents & POLLIN)
			return true;
	}
	return v->latched;
}

static bool reserve(struct msix *m, uint16_t vector)
{
	struct msix_vector *v = &m->vector[vector];

	if (vector >= m->nvectors)
		return false;
	if (m->irqfd && v->gsi < 0)
		v->gsi = m->vmevent->ops->msi_alloc(m->vmevent);
	return !m->irqfd || v->gsi >= 0;
}

static void unmap(struct msix *m, struct msix_source *s)
{
	struct msix_vector *v = &m->vector[s->vector];
	struct msix_source **at = &v->sources;

	detach(m, v, s);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (!v->sources)
		v->latched = false;
	s->mapped = false;
	s->next = NULL;
}

/* --- any thread --- */

void msix_control(struct msix *m, uint16_t flags, bool bus_master)
{
	bool on = flags & PCI_MSIX_FLAGS_ENABLE && !(flags & PCI_MSIX_FLAGS_MASKALL) && bus_master;

	pthread_mutex_lock(&m->lock);
	if (m->on != on) {
		m->on = on;
		for (unsigned i = 0; i < m->nvectors; i++)
			update(m, &m->vector[i]);
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_table_read(struct msix *m, uint64_t off, void *data, unsigned len)
{
	uint8_t *p = data;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < len; i++, off++)
		p[i] = off < m->nvectors * (uint64_t)PCI_MSIX_ENTRY_SIZE
			       ? m->vector[off / PCI_MSIX_ENTRY_SIZE].entry[off % PCI_MSIX_ENTRY_SIZE]
			       : 0;
	pthread_mutex_unlock(&m->lock);
}

void msix_table_write(struct msix *m, uint64_t off, const void *data, unsigned len)
{
	static const uint8_t mask[PCI_MSIX_ENTRY_SIZE] = {
		0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0x01, /* the mask bit; the rest is reserved */
	};
	const uint8_t *p = data;
	uint64_t first = off / PCI_MSIX_ENTRY_SIZE, last = (off + len - 1) / PCI_MSIX_ENTRY_SIZE;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < len; i++, off++)
		if (off / PCI_MSIX_ENTRY_SIZE < m->nvectors)
			m->vector[off / PCI_MSIX_ENTRY_SIZE].entry[off % PCI_MSIX_ENTRY_SIZE] =
				p[i] & mask[off % PCI_MSIX_ENTRY_SIZE];
	for (uint64_t i = first; i <= last && i < m->nvectors; i++)
		update(m, &m->vector[i]);
	pthread_mutex_unlock(&m->lock);
}

void msix_pba_read(struct msix *m, uint64_t off, void *data, unsigned len)
{
	uint8_t *p = data;

	memset(p, 0, len);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < len; i++, off++)
		for (unsigned bit = 0; bit < 8 && off * 8 + bit < m->nvectors; bit++)
			p[i] |= (uint8_t)(pending(m, &m->vector[off * 8 + bit]) << bit);
	pthread_mutex_unlock(&m->lock);
}

bool msix_reserve(struct msix *m, uint16_t vector)
{
	bool ok;

	pthread_mutex_lock(&m->lock);
	ok = reserve(m, vector);
	pthread_mutex_unlock(&m->lock);
	return ok;
}

int msix_map(struct msix *m, struct msix_source *s, uint16_t vector, int fd)
{
	int rc;

	pthread_mutex_lock(&m->lock);
	*s = (struct msix_source){.vector = vector, .fd = fd};
	if (vector == MSIX_NO_VECTOR) {
		pthread_mutex_unlock(&m->lock);
		return 0;
	}
	if (vector >= m->nvectors || (fd >= 0 && !reserve(m, vector))) {
		pthread_mutex_unlock(&m->lock);
		return -ENOSPC;
	}
	s->mapped = true;
	s->next = m->vector[vector].sources;
	m->vector[vector].sources = s;
	rc = update(m, &m->vector[vector]);
	if (rc)
		unmap(m, s);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

void msix_unmap(struct msix *m, struct msix_source *s)
{
	pthread_mutex_lock(&m->lock);
	if (s->mapped)
		unmap(m, s);
	pthread_mutex_unlock(&m->lock);
}

void msix_fire(struct msix *m, struct msix_source *s)
{
	pthread_mutex_lock(&m->lock);
	if (s->mapped) {
		struct msix_vector *v = &m->vector[s->vector];

		v->latched = true;
		update(m, v);
	}
	pthread_mutex_unlock(&m->lock);
}
