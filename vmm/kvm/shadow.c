#include "vmm/kvm/shadow.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/cleanup.h"

#define PAGE 4096u

static int shadow_set(struct shadow *base, bool on)
{
	struct kvm_shadow *s = container_of(base, struct kvm_shadow, shadow);

	return vm_map_readonly(s->vm, s->slot, s->gpa, on ? PAGE : 0, s->shadow.page);
}

int kvm_shadow_init(struct kvm_shadow *s, struct vm *vm, gpa_t gpa)
{
	memset(s, 0, sizeof(*s));
	if (!vm->readonly_mem || !vm->coalesced)
		return -ENOTSUP;
	s->vm = vm;
	s->gpa = gpa;
	s->slot = vm_slot(vm);
	s->shadow.set = shadow_set;
	s->shadow.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->shadow.page == MAP_FAILED) {
		s->shadow.page = NULL;
		return -errno;
	}
	return 0;
}

void kvm_shadow_fini(struct kvm_shadow *s)
{
	if (s->shadow.page)
		munmap(s->shadow.page, PAGE);
	s->shadow.page = NULL;
}
