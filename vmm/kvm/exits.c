#include "vmm/kvm/exits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"

#define PAGE_LEN 4096U
#define TSS_ADDR 0xfffbd000UL
#define LIMIT_NS UINT64_C(200000000)
#define ROUND    200U /* exits */
#define ROUNDS   20U

/* 0: out 0x80, al; jmp 0b, for 16-bit code */
static const uint8_t guest_code[] = {0xe6, 0x80, 0xeb, 0xfc};

struct one_page {
	int kvm_fd, vm_fd, vcpu_fd;
	uint8_t *page;
	struct kvm_run *run;
	size_t run_len;
};

static int failed(struct err *e, const char *what)
{
	return err_set(e, -errno, "%s: %s", what, strerror(errno));
}

static int make_vm(struct one_page *g, struct err *e)
{
	struct kvm_userspace_memory_region region = {.memory_size = PAGE_LEN};
	int len;

	g->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm_fd < 0)
		return failed(e, "/dev/kvm");
	g->vm_fd = ioctl(g->kvm_fd, KVM_CREATE_VM, 0UL);
	if (g->vm_fd < 0)
		return failed(e, "KVM_CREATE_VM");
	if (ioctl(g->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return failed(e, "KVM_SET_TSS_ADDR");
	g->page = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->page == MAP_FAILED)
		return failed(e, "mmap of guest memory");
	memcpy(g->page, guest_code, sizeof(guest_code));
	region.userspace_addr = (uint64_t)(uintptr_t)g->page;
	if (ioctl(g->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return failed(e, "KVM_SET_USER_MEMORY_REGION");
	g->vcpu_fd = ioctl(g->vm_fd, KVM_CREATE_VCPU, 0UL);
	if (g->vcpu_fd < 0)
		return failed(e, "KVM_CREATE_VCPU");
	len = ioctl(g->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	if (len < (int)sizeof(*g->run))
		return failed(e, "KVM_GET_VCPU_MMAP_SIZE");
	g->run_len = (size_t)len;
	g->run = mmap(NULL, g->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu_fd, 0);
	return g->run == MAP_FAILED ? failed(e, "mmap of the vCPU") : 0;
}

static int start_at_zero(struct one_page *g, struct err *e)
{
	struct kvm_regs regs = {.rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(g->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return failed(e, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(g->vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return failed(e, "KVM_SET_SREGS");
	return ioctl(g->vcpu_fd, KVM_SET_REGS, &regs) < 0 ? failed(e, "KVM_SET_REGS") : 0;
}

static int measure(struct one_page *g, double *best, struct err *e)
{
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + LIMIT_NS;

	*best = 0;
	for (unsigned round = 0; round < ROUNDS && (!round || clock_ns(CLOCK_MONOTONIC) < end); round++) {
		const uint64_t start = clock_ns(CLOCK_MONOTONIC);
		unsigned n = 0;
		double ns;

		while (n < ROUND && (!n || clock_ns(CLOCK_MONOTONIC) < end)) {
			if (ioctl(g->vcpu_fd, KVM_RUN, 0UL) < 0) {
				if (errno == EINTR || errno == EAGAIN)
					continue;
				return failed(e, "KVM_RUN");
			}
			if (g->run->exit_reason != KVM_EXIT_IO)
				return err_set(e, -EIO, "a port write ended with exit reason %u",
					       g->run->exit_reason);
			n++;
		}
		ns = (double)(clock_ns(CLOCK_MONOTONIC) - start) / n;
		if (!round || ns < *best)
			*best = ns;
	}
	return 0;
}

int kvm_exits_measure(double *ns, struct err *e)
{
	struct one_page g = {.kvm_fd = -1, .vm_fd = -1, .vcpu_fd = -1, .page = MAP_FAILED, .run = MAP_FAILED};
	int rc = make_vm(&g, e);

	if (!rc)
		rc = start_at_zero(&g, e);
	if (!rc)
		rc = measure(&g, ns, e);
	if (g.run != MAP_FAILED)
		munmap(g.run, g.run_len);
	if (g.page != MAP_FAILED)
		munmap(g.page, PAGE_LEN);
	for (int i = 0; i < 3; i++) {
		const int fd = (int[]){g.vcpu_fd, g.vm_fd, g.kvm_fd}[i];

		if (fd >= 0)
			close(fd);
	}
	return rc;
}
