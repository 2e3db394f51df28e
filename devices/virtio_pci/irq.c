#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/virtio_pci/internal.h"
#include "lib/cleanup.h"

/* --- the ISR register and INTx --- */

static void show(struct virtio_pci *t)
{
	pci_intx(&t->pci, t->isr && !t->msix_on);
}

void vpci_isr_set(struct virtio_pci *t, uint8_t bits)
{
	pthread_mutex_lock(&t->irq_lock);
	t->isr |= bits;
	show(t);
	pthread_mutex_unlock(&t->irq_lock);
}

uint8_t vpci_isr_take(struct virtio_pci *t)
{
	uint8_t isr;

	pthread_mutex_lock(&t->irq_lock);
	isr = t->isr;
	t->isr = 0;
	show(t);
	pthread_mutex_unlock(&t->irq_lock);
	return isr;
}

/* --- queues: an irqfd, or a watch on the device's loop --- */

static void on_call(struct ev_watch *w, uint32_t events)
{
	struct virtio_pci_queue *b = container_of(w, struct virtio_pci_queue, watch);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) != sizeof(n)) /* somebody else took it */
		return;
	if (b->t->msix_on)
		msix_fire(&b->t->msix, &b->source);
	else
		vpci_isr_set(b->t, VPCI_ISR_QUEUE);
}

static void watch_on_loop(void *arg)
{
	struct virtio_pci_queue *b = arg;

	b->watch = (struct ev_watch){.fd = b->call_fd, .fn = on_call};
	b->watched = !evloop_add(b->t->transport.dev->loop, &b->watch, EPOLLIN);
}

static void unwatch_on_loop(void *arg)
{
	struct virtio_pci_queue *b = arg;

	evloop_del(b->t->transport.dev->loop, &b->watch);
	b->watched = false;
}

static int plug(struct virtio_pci *t, struct virtio_pci_queue *b)
{
	int rc = 0;

	if (t->msix_on)
		rc = msix_map(&t->msix, &b->source, b->vector, t->irq_ioctl ? -1 : b->call_fd);
	if (!rc && (!t->msix_on || t->irq_ioctl)) {
		evloop_call(t->transport.dev->loop, watch_on_loop, b);
		rc = b->watched ? 0 : -EIO;
	}
	return rc;
}

static void unplug(struct virtio_pci *t, struct virtio_pci_queue *b)
{
	if (b->watched)
		evloop_call(t->transport.dev->loop, unwatch_on_loop, b);
	msix_unmap(&t->msix, &b->source);
}

int vpci_irq_bind(struct virtio_pci *t, unsigned q)
{
	int rc = plug(t, &t->queue[q]);

	if (rc)
		unplug(t, &t->queue[q]);
	return rc;
}

void vpci_irq_unbind(struct virtio_pci *t, unsigned q)
{
	unplug(t, &t->queue[q]);
}

static uint16_t checked(struct virtio_pci *t, uint16_t vector, bool fd)
{
	if (vector >= t->msix.nvectors || (fd && !msix_reserve(&t->msix, vector)))
		return VIRTIO_MSI_NO_VECTOR;
	return vector;
}

void vpci_set_queue_vector(struct virtio_pci *t, unsigned q, uint16_t vector)
{
	struct virtio_pci_queue *b = &t->queue[q];

	b->vector = checked(t, vector, true);
	if (!b->bound)
		return;
	unplug(t, b);
	if (plug(t, b))
		b->vector = VIRTIO_MSI_NO_VECTOR;
}

void vpci_set_config_vector(struct virtio_pci *t, uint16_t vector)
{
	t->config_vector = checked(t, vector, false);
	msix_unmap(&t->msix, &t->config_source);
	msix_map(&t->msix, &t->config_source, t->config_vector, -1);
}

void vpci_msix_control(struct virtio_pci *t, uint16_t flags, bool bus_master)
{
	bool on = flags & PCI_MSIX_FLAGS_ENABLE;

	if (on != t->msix_on) {
		for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
			if (t->queue[q].bound)
				unplug(t, &t->queue[q]);
		pthread_mutex_lock(&t->irq_lock);
		t->msix_on = on;
		show(t);
		pthread_mutex_unlock(&t->irq_lock);
		for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
			if (t->queue[q].bound && plug(t, &t->queue[q]))
				t->queue[q].vector = VIRTIO_MSI_NO_VECTOR;
	}
	msix_control(&t->msix, flags, bus_master);
}
