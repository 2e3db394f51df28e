/* struct shadow on KVM: a read-only memory slot.  Which writes wait is coalesced MMIO's business, for
 * good (vm_coalesce()); the slot changes nothing about that. */
#ifndef VMM_KVM_SHADOW_H
#define VMM_KVM_SHADOW_H
#include "vmm/kvm/vm.h"
#include "vmm/shadow.h"

struct kvm_shadow {
	struct shadow shadow;
	struct vm *vm;
	int slot;
	gpa_t gpa;
};

/* -ENOTSUP where this KVM has no read-only slots or no coalesced MMIO. */
int kvm_shadow_init(struct kvm_shadow *s, struct vm *vm, gpa_t gpa);
void kvm_shadow_fini(struct kvm_shadow *s);
#endif
