/* What the programs here share: one verdict each, and a VM of a few lines.  Header only, so that each
 * program stays one file that anybody can compile and send along with a report about a kernel. */
#ifndef TESTS_ASSUME_H
#define TESTS_ASSUME_H
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"

/* <linux/kvm.h> counts the ring's entries with it */
#define PAGE_SIZE 4096u
#define RING_MAX  ((uint32_t)KVM_COALESCED_MMIO_MAX)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

_Noreturn static inline void verdict(int status, const char *word, const char *fmt, va_list ap)
{
	printf("%s assumptions/%s%s", word, program_invocation_short_name, status == 77 ? " # SKIP " : ": ");
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
	_exit(status);
}

/* With a measurement worth knowing */
__attribute__((format(printf, 1, 2))) _Noreturn static inline void ok(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	verdict(0, "ok -", fmt, ap);
}

_Noreturn static inline void holds(void)
{
	printf("ok - assumptions/%s\n", program_invocation_short_name);
	fflush(stdout);
	_exit(0);
}

__attribute__((format(printf, 1, 2))) _Noreturn static inline void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	verdict(1, "not ok -", fmt, ap);
}

__attribute__((format(printf, 1, 2))) _Noreturn static inline void skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	verdict(77, "ok -", fmt, ap);
}

static inline void on_alarm(int unused)
{
	(void)unused;
	fail("still not done after 20 s");
}

static inline void sleep_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

#define MEM_LEN   0x80000u /* guest RAM: slot 0, from address 0 */
#define CODE      0x1000u
#define STACK_TOP 0x8000u
#define TABLES    0x10000u /* page tables for the 64-bit guests: 6 pages */

struct vm {
	int kvm, fd, vcpu;
	struct kvm_run *run;
	uint8_t *mem;

	struct kvm_coalesced_mmio_ring *ring;
};

/* Guest code is written in place, between NAME_start and NAME_end. */
#define GUEST(name, bits, text)                                                                                \
	extern const uint8_t name##_start[], name##_end[];                                                     \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name "_start:\n" text "\n" #name                     \
		"_end:\n.code64\n.popsection\n")

static inline int vm_ioctl(int fd, unsigned long request, uintptr_t arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		fail("%s: %s", what, strerror(errno));
	return r;
}
#define VM_IOCTL(fd, request, arg) vm_ioctl(fd, request, (uintptr_t)(arg), #request)

static inline int vm_cap(const struct vm *vm, long cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

static inline void vm_slot(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t len,
			   const void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uint64_t)(uintptr_t)host,
	};

	VM_IOCTL(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static inline void *map_pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	return p;
}

static inline int vm_add_vcpu(const struct vm *vm, unsigned id)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = {.head.nent = 256};
	int vcpu = VM_IOCTL(vm->fd, KVM_CREATE_VCPU, id);

	VM_IOCTL(vm->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	VM_IOCTL(vcpu, KVM_SET_CPUID2, &cpuid);
	return vcpu;
}

static inline void vm_init(struct vm *vm, bool irqchip)
{
	uint64_t identity = 0xfffbc000;
	int run_len;
	void *run;

	/* Nothing here may hang a test run. */
	signal(SIGALRM, on_alarm);
	alarm(20);

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		skip("/dev/kvm: %s", strerror(errno));
	vm->fd = VM_IOCTL(vm->kvm, KVM_CREATE_VM, 0);
	VM_IOCTL(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	VM_IOCTL(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (irqchip)
		VM_IOCTL(vm->fd, KVM_CREATE_IRQCHIP, 0);

	vm->mem = map_pages(MEM_LEN);
	vm_slot(vm, 0, 0, 0, MEM_LEN, vm->mem);
	vm->vcpu = vm_add_vcpu(vm, 0);

	run_len = VM_IOCTL(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, (size_t)run_len, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (run == MAP_FAILED)
		fail("mmap of the vCPU: %s", strerror(errno));
	vm->run = run;
	vm->ring = (void *)((char *)run + vm_cap(vm, KVM_CAP_COALESCED_MMIO) * sysconf(_SC_PAGESIZE));
}

static inline void vm_load(const struct vm *vm, const uint8_t *start, const uint8_t *end)
{
	memcpy(vm->mem + CODE, start, (size_t)(end - start));
}
#define VM_LOAD(vm, name) vm_load(vm, name##_start, name##_end)

/* 16-bit real mode, all segments 0 */
static inline void vm_enter_real(const struct vm *vm)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = STACK_TOP};
	struct kvm_sregs sregs;

	VM_IOCTL(vm->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
		(struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
	sregs.cs.type = 11;
	sregs.cr0 = 0x60000010;
	sregs.cr3 = sregs.cr4 = sregs.efer = 0;
	VM_IOCTL(vm->vcpu, KVM_SET_SREGS, &sregs);
	VM_IOCTL(vm->vcpu, KVM_SET_REGS, &regs);
}

/* 64-bit ring 3 with IOPL 3, the first 4 GiB mapped one to one.  Some hosts run ring 3 on the
 * processor and emulate everything else, so this is another way into KVM than vm_enter_real(). */
static inline void vm_enter_user64(const struct vm *vm)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 0x3002, .rsp = STACK_TOP};
	uint64_t *tables = (void *)(vm->mem + TABLES);
	struct kvm_sregs sregs;

	tables[0] = (TABLES + 0x1000) | 7;
	for (unsigned i = 0; i < 4; i++)
		tables[512 + i] = (TABLES + 0x2000 + i * 0x1000) | 7;
	for (unsigned i = 0; i < 4 * 512; i++)
		tables[1024 + i] = ((uint64_t)i << 21) | 0x87;

	VM_IOCTL(vm->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = (struct kvm_segment){.limit = 0xffffffff,
					.selector = 0x33,
					.type = 11,
					.present = 1,
					.dpl = 3,
					.s = 1,
					.l = 1,
					.g = 1};
	sregs.ds = (struct kvm_segment){.limit = 0xffffffff,
					.selector = 0x2b,
					.type = 3,
					.present = 1,
					.dpl = 3,
					.s = 1,
					.db = 1,
					.g = 1};
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x20;
	sregs.cr0 = 0x80010033;
	sregs.efer = 0x500;
	VM_IOCTL(vm->vcpu, KVM_SET_SREGS, &sregs);
	VM_IOCTL(vm->vcpu, KVM_SET_REGS, &regs);
}

/* The exit reason, or -errno */
static inline int vm_run(const struct vm *vm)
{
	return ioctl(vm->vcpu, KVM_RUN, 0) < 0 ? -errno : (int)vm->run->exit_reason;
}

/* What the last KVM_RUN came back with, in words for a message */
static inline const char *vm_exit_text(const struct vm *vm, int exit)
{
	static char text[160];
	const struct kvm_run *run = vm->run;
	struct kvm_regs regs = {0};

	ioctl(vm->vcpu, KVM_GET_REGS, &regs);
	if (exit < 0)
		snprintf(text, sizeof(text), "KVM_RUN: %s at rip 0x%llx", strerror(-exit), regs.rip);
	else if (exit == KVM_EXIT_IO)
		snprintf(text, sizeof(text), "a %s of port 0x%x, %u bytes",
			 run->io.direction ? "write" : "read", run->io.port, run->io.size);
	else if (exit == KVM_EXIT_MMIO)
		snprintf(text, sizeof(text), "a %s of address 0x%llx, %u bytes",
			 run->mmio.is_write ? "write" : "read", run->mmio.phys_addr, run->mmio.len);
	else if (exit == KVM_EXIT_INTERNAL_ERROR)
		snprintf(text, sizeof(text), "KVM_EXIT_INTERNAL_ERROR %u at rip 0x%llx", run->internal.suberror,
			 regs.rip);
	else
		snprintf(text, sizeof(text), "exit reason %d at rip 0x%llx", exit, regs.rip);
	return text;
}

static inline bool vm_is_out(const struct vm *vm, int exit, unsigned port)
{
	return exit == KVM_EXIT_IO && vm->run->io.direction == KVM_EXIT_IO_OUT && vm->run->io.port == port;
}

static inline uint8_t vm_out_byte(const struct vm *vm)
{
	return *((const uint8_t *)vm->run + vm->run->io.data_offset);
}

/* KVM's own interrupt controllers: one pin that sends one vector to vCPU 0 */
static inline void ioapic_pin(const struct vm *vm, unsigned pin, uint8_t vector, bool level)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	VM_IOCTL(vm->fd, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[pin].bits = vector | (level ? 1ull << 15 : 0);
	VM_IOCTL(vm->fd, KVM_SET_IRQCHIP, &chip);
}

static inline void lapic_enable(const struct vm *vm)
{
	struct kvm_lapic_state lapic;

	memset(&lapic, 0, sizeof(lapic));
	VM_IOCTL(vm->vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[0xf1] = 1;
	VM_IOCTL(vm->vcpu, KVM_SET_LAPIC, &lapic);
}

static inline bool lapic_requested(const struct vm *vm, uint8_t vector)
{
	struct kvm_lapic_state lapic;

	memset(&lapic, 0, sizeof(lapic));
	VM_IOCTL(vm->vcpu, KVM_GET_LAPIC, &lapic);
	return (lapic.regs[0x200 + vector / 32 * 16 + vector % 32 / 8] >> (vector % 8)) & 1;
}

/* An irqfd may inject from a worker thread: up to a second.  The request is taken out again. */
static inline bool lapic_take(const struct vm *vm, uint8_t vector, unsigned wait_ms)
{
	for (unsigned ms = 0; !lapic_requested(vm, vector); ms++) {
		if (ms >= wait_ms)
			return false;
		sleep_ms(1);
	}

	struct kvm_lapic_state lapic;

	memset(&lapic, 0, sizeof(lapic));
	VM_IOCTL(vm->vcpu, KVM_GET_LAPIC, &lapic);
	memset(lapic.regs + 0x200, 0, 0x80);
	VM_IOCTL(vm->vcpu, KVM_SET_LAPIC, &lapic);
	return true;
}

static inline void irqfd(const struct vm *vm, int fd, unsigned gsi, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = gsi, .flags = flags};

	VM_IOCTL(vm->fd, KVM_IRQFD, &request);
}

static inline void fd_signal(int fd)
{
	if (eventfd_write(fd, 1) < 0)
		fail("eventfd write: %s", strerror(errno));
}

static inline bool fd_readable(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static inline int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		fail("eventfd: %s", strerror(errno));
	return fd;
}
#endif
