/* A read-only slot answers reads from memory with no exit, while writes leave as MMIO; with a coalesced
 * zone over it writes leave no more either.  Shown in real mode and in 64-bit ring 3, since hosts differ
 * in which of them they emulate. */
#include "assume.h"

#define SLOT     0x80000u
#define SLOT_LEN 0x1000u
#define END      0x80
#define ROUNDS   5000u

/* Two halves, each ending in a write to the end port: reads into registers, then writes of every width */
GUEST(real16, 16,
      "	mov $0x8000, %ax\n"
      "	mov %ax, %ds\n"
      "	mov (0x10), %bl\n"
      "	mov (0x20), %cx\n"
      "	mov (0x30), %esi\n"
      "	out %al, $0x80\n"
      "	movb $0x11, (0x10)\n"
      "	movw $0x2211, (0x20)\n"
      "	movl $0x44332211, (0x30)\n"
      "	mov (0x30), %esi\n"
      "	out %al, $0x80\n");
GUEST(user64, 64,
      "	mov $0x80000, %rdi\n"
      "	mov 0x10(%rdi), %bl\n"
      "	mov 0x20(%rdi), %cx\n"
      "	mov 0x30(%rdi), %esi\n"
      "	mov 0x40(%rdi), %r8\n"
      "	out %al, $0x80\n"
      "	movb $0x11, 0x10(%rdi)\n"
      "	movw $0x2211, 0x20(%rdi)\n"
      "	movl $0x44332211, 0x30(%rdi)\n"
      "	movabs $0x8877665544332211, %rax\n"
      "	mov %rax, 0x40(%rdi)\n"
      "	mov 0x30(%rdi), %esi\n"
      "	out %al, $0x80\n");
GUEST(reads64, 64,
      "	mov $0x80000, %rdi\n"
      "1:	mov 0x10(%rdi), %eax\n"
      "	dec %ecx\n"
      "	jnz 1b\n"
      "	out %al, $0x80\n");
GUEST(writes64, 64,
      "	mov $0x80000, %rdi\n"
      "1:	mov %ecx, 0x10(%rdi)\n"
      "	dec %ecx\n"
      "	jnz 1b\n"
      "	out %al, $0x80\n");

static const struct {
	uint32_t at, len;
} writes[] = {{0x10, 1}, {0x20, 2}, {0x30, 4}, {0x40, 8}};
static const uint8_t bytes[] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};

static struct vm vm;
static uint8_t *slot;

static void begin(bool user, uint64_t count)
{
	struct kvm_regs regs;

	if (user)
		vm_enter_user64(&vm);
	else
		vm_enter_real(&vm);
	VM_IOCTL(vm.vcpu, KVM_GET_REGS, &regs);
	regs.rcx = count;
	VM_IOCTL(vm.vcpu, KVM_SET_REGS, &regs);
}

static void reads(const char *what, bool user)
{
	struct kvm_regs regs;
	int exit;

	memset(slot, 0, SLOT_LEN);
	for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
		memset(slot + writes[i].at, (int)(0xa1 + i), writes[i].len);
	begin(user, 0);
	exit = vm_run(&vm);
	if (!vm_is_out(&vm, exit, END))
		fail("%s, reads: %s", what, vm_exit_text(&vm, exit));
	VM_IOCTL(vm.vcpu, KVM_GET_REGS, &regs);
	if ((regs.rbx & 0xff) != 0xa1 || (regs.rcx & 0xffff) != 0xa2a2 || (uint32_t)regs.rsi != 0xa3a3a3a3 ||
	    (user && regs.r8 != 0xa4a4a4a4a4a4a4a4))
		fail("%s, reads gave 0x%llx 0x%llx 0x%llx 0x%llx", what, regs.rbx, regs.rcx, regs.rsi, regs.r8);
}

static void unchanged(const char *what)
{
	struct kvm_regs regs;

	VM_IOCTL(vm.vcpu, KVM_GET_REGS, &regs);
	if (slot[0x10] != 0xa1 || (uint32_t)regs.rsi != 0xa3a3a3a3)
		fail("%s, a write changed the slot: 0x%x 0x%llx", what, slot[0x10], regs.rsi);
}

static void writes_exit(const char *what, unsigned n)
{
	int exit;

	for (unsigned i = 0; i < n; i++) {
		exit = vm_run(&vm);
		if (exit != KVM_EXIT_MMIO || !vm.run->mmio.is_write || vm.run->mmio.len != writes[i].len ||
		    vm.run->mmio.phys_addr != SLOT + writes[i].at ||
		    memcmp(vm.run->mmio.data, bytes, writes[i].len) != 0)
			fail("%s, write of %u bytes: %s", what, writes[i].len, vm_exit_text(&vm, exit));
	}
	exit = vm_run(&vm);
	if (!vm_is_out(&vm, exit, END))
		fail("%s, after the writes: %s", what, vm_exit_text(&vm, exit));
	unchanged(what);
}

static void writes_ring(const char *what, unsigned n)
{
	struct kvm_coalesced_mmio_ring *ring = vm.ring;
	int exit = vm_run(&vm);

	if (!vm_is_out(&vm, exit, END))
		fail("%s, writes into the zone: %s", what, vm_exit_text(&vm, exit));
	for (unsigned i = 0; i < n; i++) {
		const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->first];

		if (ring->first == ring->last)
			fail("%s, %u of %u writes are in the ring", what, i, n);
		if (entry->pio != 0 || entry->phys_addr != SLOT + writes[i].at || entry->len != writes[i].len ||
		    memcmp(entry->data, bytes, entry->len) != 0)
			fail("%s, entry %u: pio %u address 0x%llx len %u", what, i, entry->pio,
			     entry->phys_addr, entry->len);
		ring->first = (ring->first + 1) % RING_MAX;
	}
	if (ring->first != ring->last)
		fail("%s, more entries than writes", what);
	unchanged(what);
}

/* Nanoseconds an access; *exits counts the MMIO exits there were. */
static uint64_t measure(unsigned *exits)
{
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	*exits = 0;
	for (;;) {
		int exit = vm_run(&vm);

		vm.ring->first = vm.ring->last;
		if (exit == KVM_EXIT_MMIO)
			++*exits;
		else if (vm_is_out(&vm, exit, END))
			return (clock_ns(CLOCK_MONOTONIC) - start) / ROUNDS;
		else
			fail("measuring: %s", vm_exit_text(&vm, exit));
	}
}

int main(void)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = SLOT, .size = SLOT_LEN};
	uint64_t read_ns, ring_ns, exit_ns;
	unsigned exits, full;

	vm_init(&vm, false);
	if (vm_cap(&vm, KVM_CAP_READONLY_MEM) <= 0)
		skip("no KVM_CAP_READONLY_MEM");
	if (vm_cap(&vm, KVM_CAP_COALESCED_MMIO) <= 0)
		skip("no KVM_CAP_COALESCED_MMIO");
	slot = map_pages(SLOT_LEN);
	vm_slot(&vm, 1, KVM_MEM_READONLY, SLOT, SLOT_LEN, slot);

	VM_LOAD(&vm, real16);
	reads("real mode", false);
	writes_exit("real mode", 3);
	VM_LOAD(&vm, user64);
	reads("ring 3", true);
	writes_exit("ring 3", 4);

	VM_LOAD(&vm, writes64);
	begin(true, ROUNDS);
	exit_ns = measure(&exits);
	if (exits != ROUNDS)
		fail("%u of %u writes left KVM_RUN without a zone", exits, ROUNDS);

	VM_IOCTL(vm.fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	VM_LOAD(&vm, real16);
	reads("real mode", false);
	writes_ring("real mode", 3);
	VM_LOAD(&vm, user64);
	reads("ring 3", true);
	writes_ring("ring 3", 4);

	VM_LOAD(&vm, writes64);
	begin(true, ROUNDS);
	ring_ns = measure(&full);
	if (full > ROUNDS / (RING_MAX - 1))
		fail("%u of %u writes left KVM_RUN in spite of the zone", full, ROUNDS);
	VM_LOAD(&vm, reads64);
	begin(true, ROUNDS);
	read_ns = measure(&exits);
	if (exits != 0)
		fail("%u of %u reads left KVM_RUN", exits, ROUNDS);
	ok("%llu ns a read, %llu ns a write, %llu ns a write as an exit", (unsigned long long)read_ns,
	   (unsigned long long)ring_ns, (unsigned long long)exit_ns);
}
