/* With immediate_exit set KVM_RUN completes the access that was under way, runs nothing and returns
 * EINTR: how a vCPU is stopped with its registers consistent. */
#include "assume.h"

GUEST(read16, 16,
      "	in $0x70, %al\n"
      "	mov $0x77, %bl\n"
      "	out %al, $0x80\n");

int main(void)
{
	struct kvm_regs regs;
	struct vm vm;
	int exit;

	memset(&regs, 0, sizeof(regs));
	vm_init(&vm, false);
	if (vm_cap(&vm, KVM_CAP_IMMEDIATE_EXIT) <= 0)
		skip("no KVM_CAP_IMMEDIATE_EXIT");
	VM_LOAD(&vm, read16);
	vm_enter_real(&vm);

	vm.run->immediate_exit = 1;
	exit = vm_run(&vm);
	if (exit != -EINTR)
		fail("before the first instruction: %s", vm_exit_text(&vm, exit));
	vm.run->immediate_exit = 0;

	exit = vm_run(&vm);
	if (exit != KVM_EXIT_IO || vm.run->io.direction != KVM_EXIT_IO_IN || vm.run->io.port != 0x70)
		fail("a port read: %s", vm_exit_text(&vm, exit));
	*((uint8_t *)vm.run + vm.run->io.data_offset) = 0x5a;
	vm.run->immediate_exit = 1;
	exit = vm_run(&vm);
	if (exit != -EINTR)
		fail("with a port read to complete: %s", vm_exit_text(&vm, exit));
	VM_IOCTL(vm.vcpu, KVM_GET_REGS, &regs);
	if ((regs.rax & 0xff) != 0x5a || regs.rip != CODE + 2 || (regs.rbx & 0xff) != 0)
		fail("the read is not completed: rax 0x%llx rbx 0x%llx rip 0x%llx", regs.rax, regs.rbx,
		     regs.rip);

	vm.run->immediate_exit = 0;
	exit = vm_run(&vm);
	if (!vm_is_out(&vm, exit, 0x80) || vm_out_byte(&vm) != 0x5a)
		fail("afterwards: %s", vm_exit_text(&vm, exit));
	holds();
}
