/* #ioctls[vcpu,data]: KVM_IOEVENTFD KVM_IRQFD KVM_SET_GSI_ROUTING KVM_IRQ_LINE KVM_SIGNAL_MSI */
/* Interrupt routes: KVM_SET_GSI_ROUTING replaces the whole table, the IOAPIC and PIC lines that
 * KVM_CREATE_IRQCHIP installed included, so these stand at its head every time. */
#include "vmm/kvm/event.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"
#include "vmm/kvm/vm.h"
#include "vmm/layout_x86.h"

static struct vm *vm_of(struct vmevent *v)
{
	return container_of(v, struct vm, event);
}

static int doorbell(struct vmevent *v, const struct doorbell *d, int fd, uint32_t flags)
{
	struct kvm_ioeventfd io = {
		.addr = d->addr,
		.len = d->len,
		.fd = fd,
		.flags = flags | (d->pio ? KVM_IOEVENTFD_FLAG_PIO : 0),
	};

	if (d->match >= 0) {
		io.datamatch = (uint64_t)d->match;
		io.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	}
	return ioctl(vm_of(v)->vm_fd, KVM_IOEVENTFD, &io) ? -errno : 0;
}

static int doorbell_add(struct vmevent *v, const struct doorbell *d, int fd)
{
	return doorbell(v, d, fd, 0);
}

static void doorbell_del(struct vmevent *v, const struct doorbell *d, int fd)
{
	doorbell(v, d, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

/* With route_lock held. */
static int set_routes(struct vm *vm)
{
	CLEANUP_FREE struct kvm_irq_routing *table = NULL;
	struct kvm_irq_routing_entry *r;

	table = calloc(1, sizeof(*table) + (16 + LAYOUT_IOAPIC_PINS + VM_MSI_ROUTES) * sizeof(*r));
	if (!table)
		return -ENOMEM;
	r = table->entries;
	for (unsigned i = 0; i < 16; i++)
		*r++ = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				      .pin = i % 8},
		};
	for (unsigned i = 0; i < LAYOUT_IOAPIC_PINS; i++)
		*r++ = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = i},
		};
	for (unsigned i = 0; i < VM_MSI_ROUTES; i++)
		if (vm->msi[i].set)
			*r++ = (struct kvm_irq_routing_entry){
				.gsi = vm->first_msi_gsi + i,
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi = {.address_lo = (uint32_t)vm->msi[i].msg.addr,
					  .address_hi = (uint32_t)(vm->msi[i].msg.addr >> 32),
					  .data = vm->msi[i].msg.data},
			};
	table->nr = (uint32_t)(r - table->entries);
	return ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, table) ? -errno : 0;
}

static int msi_alloc(struct vmevent *v)
{
	struct vm *vm = vm_of(v);
	int gsi = -ENOSPC;

	pthread_mutex_lock(&vm->route_lock);
	for (unsigned i = 0; i < VM_MSI_ROUTES; i++)
		if (!vm->msi[i].used) {
			vm->msi[i].used = true;
			gsi = (int)(vm->first_msi_gsi + i);
			break;
		}
	pthread_mutex_unlock(&vm->route_lock);
	return gsi;
}

static int msi_change(struct vmevent *v, int gsi, const struct msi_msg *m, bool free_it)
{
	struct vm *vm = vm_of(v);
	unsigned i = (unsigned)gsi - vm->first_msi_gsi;
	struct vm_msi before;
	int rc;

	if (i >= VM_MSI_ROUTES)
		return -EINVAL;
	pthread_mutex_lock(&vm->route_lock);
	before = vm->msi[i];
	vm->msi[i].used = !free_it;
	vm->msi[i].set = m;
	if (m)
		vm->msi[i].msg = *m;
	rc = set_routes(vm);
	/* A message that KVM does not take would make it refuse the whole table from now on. */
	if (rc && m)
		vm->msi[i] = before;
	pthread_mutex_unlock(&vm->route_lock);
	return rc;
}

static int msi_set(struct vmevent *v, int gsi, const struct msi_msg *m)
{
	return msi_change(v, gsi, m, false);
}

static void msi_free(struct vmevent *v, int gsi)
{
	msi_change(v, gsi, NULL, true);
}

static int irqfd(struct vmevent *v, int gsi, int fd, uint32_t flags)
{
	struct kvm_irqfd irq = {.fd = (uint32_t)fd, .gsi = (uint32_t)gsi, .flags = flags};

	return ioctl(vm_of(v)->vm_fd, KVM_IRQFD, &irq) ? -errno : 0;
}

static int irq_attach(struct vmevent *v, int gsi, int fd)
{
	return irqfd(v, gsi, fd, 0);
}

static void irq_detach(struct vmevent *v, int gsi, int fd)
{
	irqfd(v, gsi, fd, KVM_IRQFD_FLAG_DEASSIGN);
}

static int irq_line(struct vmevent *v, int gsi, bool level)
{
	struct kvm_irq_level irq = {.irq = (uint32_t)gsi, .level = level};

	return ioctl(vm_of(v)->vm_fd, KVM_IRQ_LINE, &irq) ? -errno : 0;
}

static int msi_send(struct vmevent *v, const struct msi_msg *m)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)m->addr,
		.address_hi = (uint32_t)(m->addr >> 32),
		.data = m->data,
	};

	return ioctl(vm_of(v)->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

const struct vmevent_ops kvm_event_ops = {
	.doorbell_add = doorbell_add,
	.doorbell_del = doorbell_del,
	.msi_alloc = msi_alloc,
	.msi_free = msi_free,
	.msi_set = msi_set,
	.irq_attach = irq_attach,
	.irq_detach = irq_detach,
	.irq_line = irq_line,
	.msi_send = msi_send,
};
