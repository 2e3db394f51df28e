/* A virtual machine as KVM knows it: /dev/kvm, the VM fd, memory slots, the interrupt chips, doorbells
 * and interrupt routes. */
#ifndef VMM_KVM_VM_H
#define VMM_KVM_VM_H
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/guest_mem.h"
#include "vmm/vmevent.h"

#define VM_MSI_ROUTES 1024

/* Writes that KVM queues instead of leaving the guest.  The queue is one ring for the whole VM; who
 * takes an entry out hands it to the bus. */
struct vm {
	int kvm_fd, vm_fd;
	size_t run_size; /* of struct kvm_run and what follows it */
	unsigned max_vcpus;
	bool readonly_mem; /* KVM_CAP_READONLY_MEM */
	bool coalesced;    /* KVM_CAP_COALESCED_MMIO and _PIO */
	bool x2apic_api;   /* 32-bit APIC ids */
	unsigned nslots;
	const struct guest_mem *mem;          /* what vm_map_mem() was given */
	struct kvm_coalesced_mmio_ring *ring; /* in the first vCPU's mapping */
	pthread_mutex_t ring_lock;
	struct vmevent event;
	pthread_mutex_t route_lock;
	struct vm_msi {
		bool used, set;
		struct msi_msg msg;
	} msi[VM_MSI_ROUTES];
	unsigned first_msi_gsi;
};

/* Opens /dev/kvm, checks every capability we build on (a missing one is named), makes the VM with its
 * in-kernel PIC, IOAPIC and PIT.  0 or -errno. */
int vm_init(struct vm *vm, struct err *e);
/* The same with a /dev/kvm that is open; -1: opens it. */
int vm_init_from(struct vm *vm, int kvm_fd, struct err *e);
void vm_fini(struct vm *vm);

/* Every region of mem becomes a slot; mem must outlive the VM. */
int vm_map_mem(struct vm *vm, const struct guest_mem *mem, struct err *e);
/* One page-aligned piece of our memory as guest RAM that the guest can only read: reads do not leave
 * the guest, writes do.  `slot` comes from vm_slot(); size 0 takes it away. */
int vm_slot(struct vm *vm);
int vm_map_readonly(struct vm *vm, int slot, gpa_t gpa, uint64_t size, const void *hva);

/* Queue writes to [addr, addr + len) instead of leaving the guest. */
int vm_coalesce(struct vm *vm, bool pio, uint64_t addr, unsigned len, bool on);
/* Hands every queued write to fn, in order.  Any thread.  Returns how many. */
unsigned vm_coalesced_drain(struct vm *vm,
			    void (*fn)(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len),
			    void *opaque);
#endif
