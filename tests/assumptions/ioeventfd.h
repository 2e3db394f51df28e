/* What the two programs about ioeventfds share. */
#ifndef TESTS_IOEVENTFD_H
#define TESTS_IOEVENTFD_H
#include "assume.h"

#define MMIO 0x90000u
#define PORT 0x700u
#define END  0x80

/* Four writes each, ended by a write to the end port; rax is the value of all. */
GUEST(mmio16, 16,
      "	mov $0x9000, %bx\n"
      "	mov %bx, %ds\n"
      "	movb %al, (0)\n"
      "	movw %ax, (0)\n"
      "	movl %eax, (0)\n"
      "	movl %eax, (0)\n"
      "	out %al, $0x80\n");
GUEST(mmio64, 64,
      "	mov $0x90000, %rdi\n"
      "	movb %al, (%rdi)\n"
      "	movw %ax, (%rdi)\n"
      "	movl %eax, (%rdi)\n"
      "	movq %rax, (%rdi)\n"
      "	out %al, $0x80\n");
GUEST(pio64, 64,
      "	mov $0x700, %dx\n"
      "	out %al, %dx\n"
      "	out %ax, %dx\n"
      "	out %eax, %dx\n"
      "	out %eax, %dx\n"
      "	out %al, $0x80\n");

static inline void ioeventfd(const struct vm *vm, int fd, uint64_t addr, uint32_t len, uint32_t flags,
			     uint64_t match)
{
	struct kvm_ioeventfd request = {.fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match};

	VM_IOCTL(vm->fd, KVM_IOEVENTFD, &request);
}

static inline void begin(const struct vm *vm, bool user, uint64_t value)
{
	struct kvm_regs regs;

	memset(&regs, 0, sizeof(regs));
	if (user)
		vm_enter_user64(vm);
	else
		vm_enter_real(vm);
	VM_IOCTL(vm->vcpu, KVM_GET_REGS, &regs);
	regs.rax = value;
	VM_IOCTL(vm->vcpu, KVM_SET_REGS, &regs);
}

/* Runs to the end port; each write that left instead of firing counts one digit of 10 ^ log2(width). */
static inline unsigned run_counting(const struct vm *vm, const char *what)
{
	static const unsigned digit[] = {[1] = 1, [2] = 10, [4] = 100, [8] = 1000};
	unsigned left = 0;

	for (;;) {
		int exit = vm_run(vm);

		if (vm_is_out(vm, exit, END))
			return left;
		if (exit == KVM_EXIT_MMIO && vm->run->mmio.is_write && vm->run->mmio.phys_addr == MMIO)
			left += digit[vm->run->mmio.len];
		else if (vm_is_out(vm, exit, PORT))
			left += digit[vm->run->io.size];
		else
			fail("%s: %s", what, vm_exit_text(vm, exit));
	}
}

static inline uint64_t fd_count(int fd)
{
	eventfd_t count = 0;

	if (eventfd_read(fd, &count) < 0)
		return 0;
	return count;
}
#endif
