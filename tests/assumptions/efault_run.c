/* A guest that touches RAM whose file was truncated makes KVM_RUN fail with EFAULT: no signal, no hang.
 * The VMM can then say whose memory is lost. */
#include "assume.h"

#define SLOT     0x100000u
#define SLOT_LEN 0x10000u

GUEST(touch64, 64,
      "	mov $0x108000, %rdi\n"
      "	mov (%rdi), %eax\n"
      "	out %al, $0x80\n"
      "	mov (%rdi), %eax\n"
      "	out %al, $0x80\n");

int main(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	struct vm vm;
	uint8_t *p;
	int exit;

	if (fd < 0 || ftruncate(fd, SLOT_LEN) < 0)
		fail("memfd: %s", strerror(errno));
	p = mmap(NULL, SLOT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	p[0x8000] = 0x5a;
	vm_init(&vm, false);
	vm_slot(&vm, 1, 0, SLOT, SLOT_LEN, p);
	VM_LOAD(&vm, touch64);
	vm_enter_user64(&vm);

	exit = vm_run(&vm);
	if (!vm_is_out(&vm, exit, 0x80) || vm_out_byte(&vm) != 0x5a)
		fail("with the file whole: %s", vm_exit_text(&vm, exit));
	if (ftruncate(fd, 0) < 0)
		fail("ftruncate: %s", strerror(errno));
	exit = vm_run(&vm);
	if (exit != -EFAULT)
		fail("with the file truncated: %s", vm_exit_text(&vm, exit));
	exit = vm_run(&vm);
	if (exit != -EFAULT)
		fail("once more: %s", vm_exit_text(&vm, exit));
	holds();
}
