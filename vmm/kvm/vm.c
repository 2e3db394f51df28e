/* A new life of the guest is a new VM, of a /dev/kvm that was opened before. */
/* #syscalls[setup]: openat
 * #ioctls[main]: KVM_GET_API_VERSION KVM_CREATE_VM KVM_CHECK_EXTENSION KVM_GET_VCPU_MMAP_SIZE KVM_ENABLE_CAP
 * #ioctls[main]: KVM_SET_IDENTITY_MAP_ADDR KVM_SET_TSS_ADDR KVM_CREATE_IRQCHIP KVM_GET_IRQCHIP KVM_SET_IRQCHIP
 * #ioctls[main]: KVM_CREATE_PIT2 KVM_SET_USER_MEMORY_REGION KVM_REGISTER_COALESCED_MMIO
 * KVM_UNREGISTER_COALESCED_MMIO #ioctls[vcpu,data]: KVM_SET_USER_MEMORY_REGION -- the shadow of the serial port
 */
#include "vmm/kvm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/kvm/api.h"
#include "vmm/kvm/event.h"
#include "vmm/layout_x86.h"

static int open_kvm(struct err *e)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return err_set(e, -ENOENT,
			       "/dev/kvm is missing: this machine offers no virtualisation, or its "
			       "module is not loaded\nTry: modprobe kvm_intel || modprobe kvm_amd");
	if (errno == EACCES || errno == EPERM)
		return err_set(e, -errno,
			       "/dev/kvm: no permission\nTry: sudo adduser $USER kvm, then log in "
			       "again");
	return err_set(e, -errno, "/dev/kvm: %s", strerror(errno));
}

static int check_capabilities(struct vm *vm, struct err *e)
{
	struct kvm_api api;
	int rc = kvm_api_probe(vm->kvm_fd, &api);

	if (rc)
		return err_set(e, rc, "/dev/kvm: KVM_GET_API_VERSION: %s", strerror(-rc));
	if (api.version != api.expected)
		return err_set(e, -ENOTSUP, "/dev/kvm: API version %d found, %d expected", api.version,
			       api.expected);
	if (api.missing[0])
		return err_set(
			e, -ENOTSUP,
			"/dev/kvm: this KVM lacks %s\nDoes `uname -r` match the modules that are loaded?",
			api.missing);
	vm->readonly_mem = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) > 0;
	vm->coalesced = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) > 0 &&
			ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) > 0;
	return 0;
}

/* 32-bit destination ids without interrupt remapping, so that CPUs above 254 get interrupts. */
static bool enable_x2apic_api(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X2APIC_API,
		.args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
	};

	return !ioctl(vm->vm_fd, KVM_ENABLE_CAP, &cap);
}

/* As firmware leaves them: a kernel that goes by hardware-reduced ACPI never looks at the PICs, and an
 * unmasked line of theirs would arrive as a CPU exception (their vectors begin at 0). */
static int mask_pics(struct vm *vm)
{
	for (unsigned i = KVM_IRQCHIP_PIC_MASTER; i <= KVM_IRQCHIP_PIC_SLAVE; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip))
			return -errno;
		chip.chip.pic.imr = 0xff;
		if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip))
			return -errno;
	}
	return 0;
}

static int make_chips(struct vm *vm, struct err *e)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = LAYOUT_IDENTITY_MAP;

	/* Only Intel hosts without unrestricted guests use these pages; everybody accepts them. */
	if (ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map))
		return err_set(e, -errno, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(errno));
	if (ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_TSS))
		return err_set(e, -errno, "KVM_SET_TSS_ADDR: %s", strerror(errno));
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return err_set(e, -errno, "KVM_CREATE_IRQCHIP: %s", strerror(errno));
	if (mask_pics(vm))
		return err_set(e, -errno, "KVM_SET_IRQCHIP: %s", strerror(errno));
	if (ioctl(vm->vm_fd, KVM_CREATE_PIT2, &pit))
		return err_set(e, -errno, "KVM_CREATE_PIT2: %s", strerror(errno));
	return 0;
}

int vm_init(struct vm *vm, struct err *e)
{
	return vm_init_from(vm, -1, e);
}

int vm_init_from(struct vm *vm, int kvm_fd, struct err *e)
{
	int n, rc;

	memset(vm, 0, sizeof(*vm));
	vm->vm_fd = -1;
	pthread_mutex_init(&vm->ring_lock, NULL);
	pthread_mutex_init(&vm->route_lock, NULL);
	vm->first_msi_gsi = LAYOUT_IOAPIC_PINS;
	vm->event.ops = &kvm_event_ops;
	vm->kvm_fd = kvm_fd < 0 ? open_kvm(e) : fcntl(kvm_fd, F_DUPFD_CLOEXEC, 0);
	if (vm->kvm_fd < 0)
		return kvm_fd < 0 ? vm->kvm_fd : err_set(e, -errno, "/dev/kvm: %s", strerror(errno));
	rc = check_capabilities(vm, e);
	if (rc)
		return rc;
	do { /* a signal may interrupt the making of a VM */
		vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	} while (vm->vm_fd < 0 && errno == EINTR);
	if (vm->vm_fd < 0)
		return err_set(e, -errno, "KVM_CREATE_VM: %s%s", strerror(errno),
			       errno == EBUSY ? "\nAnother hypervisor (VirtualBox, VMware) holds the CPU's "
						"virtualisation; stop it"
					      : "");
	n = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n < 0)
		return err_set(e, -errno, "KVM_GET_VCPU_MMAP_SIZE: %s", strerror(errno));
	vm->run_size = (size_t)n;
	n = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	vm->max_vcpus = n > 0 ? (unsigned)n : 4; /* Documentation/virt/kvm/api.rst, 4.7 */
	vm->x2apic_api = enable_x2apic_api(vm);
	return make_chips(vm, e);
}

void vm_fini(struct vm *vm)
{
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->vm_fd = vm->kvm_fd = -1;
	pthread_mutex_destroy(&vm->ring_lock);
	pthread_mutex_destroy(&vm->route_lock);
}

int vm_map_mem(struct vm *vm, const struct guest_mem *mem, struct err *e)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = vm->nslots,
			.guest_phys_addr = mem->region[i].gpa,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].hva,
		};

		if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot))
			return err_set(e, -errno,
				       "KVM_SET_USER_MEMORY_REGION of %" PRIu64 " MiB at %#" PRIx64 ": %s",
				       mem->region[i].size >> 20, mem->region[i].gpa, strerror(errno));
		vm->nslots++;
	}
	vm->mem = mem;
	return 0;
}

int vm_slot(struct vm *vm)
{
	return (int)vm->nslots++;
}

int vm_map_readonly(struct vm *vm, int slot, gpa_t gpa, uint64_t size, const void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = (uint32_t)slot,
		.flags = KVM_MEM_READONLY,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	if (!vm->readonly_mem)
		return -ENOTSUP;
	return ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

int vm_coalesce(struct vm *vm, bool pio, uint64_t addr, unsigned len, bool on)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = addr, .size = len, .pio = pio};

	if (!vm->coalesced)
		return -ENOTSUP;
	return ioctl(vm->vm_fd, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone)
		       ? -errno
		       : 0;
}

unsigned vm_coalesced_drain(struct vm *vm,
			    void (*fn)(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len),
			    void *opaque)
{
	const uint32_t entries =
		(4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);
	unsigned n = 0;

	/* Unlocked look: first and last only move towards "something is there" under our feet. */
	if (!vm->ring || __atomic_load_n(&vm->ring->last, __ATOMIC_ACQUIRE) ==
				 __atomic_load_n(&vm->ring->first, __ATOMIC_RELAXED))
		return 0;
	pthread_mutex_lock(&vm->ring_lock);
	for (uint32_t first = vm->ring->first;
	     first != __atomic_load_n(&vm->ring->last, __ATOMIC_ACQUIRE) && n < entries; n++) {
		struct kvm_coalesced_mmio entry = vm->ring->coalesced_mmio[first % entries];

		if (entry.len && entry.len <= sizeof(entry.data))
			fn(opaque, entry.pio, entry.phys_addr, entry.data, entry.len);
		/* Not before fn is through: while the ring looks non-empty, another vCPU's exit waits
		 * for us and cannot overtake this write. */
		first = (first + 1) % entries;
		__atomic_store_n(&vm->ring->first, first, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&vm->ring_lock);
	return n;
}
