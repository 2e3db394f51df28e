#include "vmm/kvm/speed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"

#define PAGE_LEN      4096U
#define TSS_ADDR      0xfffbd000UL
#define LIMIT_NS      INT64_C(2000000000)
#define ENOUGH_NS     INT64_C(5000000) /* a round this long drowns the cost of entry and exit */
#define FIRST_LOOPS   1000U
#define MOST_LOOPS    50000000U
#define BEST_OF       3U
#define INSN_PER_LOOP 2U

/* 0: dec ecx; jnz 0b; hlt, for 16-bit code */
static const uint8_t guest_code[] = {0x66, 0x49, 0x75, 0xfc, 0xf4};

struct bare_guest {
	int kvm_fd, vm_fd, vcpu_fd;
	uint8_t *page;
	struct kvm_run *run;
	size_t run_len;
	timer_t timer;
	bool timer_made;
	int signal;
	sigset_t old_mask;
};

static int ioctl_failed(struct err *e, const char *name)
{
	return err_set(e, -errno, "%s: %s", name, strerror(errno));
}

static int make_vm(struct bare_guest *g, struct err *e)
{
	struct kvm_userspace_memory_region region = {.memory_size = PAGE_LEN};
	int len;

	g->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm_fd < 0)
		return ioctl_failed(e, "/dev/kvm");
	g->vm_fd = ioctl(g->kvm_fd, KVM_CREATE_VM, 0UL);
	if (g->vm_fd < 0)
		return ioctl_failed(e, "KVM_CREATE_VM");
	/* Intel's first generations run real mode through a task of their own. */
	if (ioctl(g->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return ioctl_failed(e, "KVM_SET_TSS_ADDR");
	g->page = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->page == MAP_FAILED)
		return ioctl_failed(e, "mmap of guest memory");
	memcpy(g->page, guest_code, sizeof(guest_code));
	region.userspace_addr = (uint64_t)(uintptr_t)g->page;
	if (ioctl(g->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return ioctl_failed(e, "KVM_SET_USER_MEMORY_REGION");
	g->vcpu_fd = ioctl(g->vm_fd, KVM_CREATE_VCPU, 0UL);
	if (g->vcpu_fd < 0)
		return ioctl_failed(e, "KVM_CREATE_VCPU");
	len = ioctl(g->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	if (len < (int)sizeof(*g->run))
		return ioctl_failed(e, "KVM_GET_VCPU_MMAP_SIZE");
	g->run_len = (size_t)len;
	g->run = mmap(NULL, g->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu_fd, 0);
	if (g->run == MAP_FAILED)
		return ioctl_failed(e, "mmap of the vCPU");
	return 0;
}

/* At the end of the time a signal is pending for this thread.  It is blocked everywhere but inside
 * KVM_RUN, so it ends that call and needs no handler. */
static int make_alarm(struct bare_guest *g, struct err *e)
{
	union {
		struct kvm_signal_mask head;
		uint8_t room[sizeof(struct kvm_signal_mask) + 8];
	} mask = {.head = {.len = 8}};
	struct itimerspec limit = {.it_value.tv_sec = LIMIT_NS / 1000000000};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = g->signal};
	sigset_t inside = g->old_mask;

	sigdelset(&inside, g->signal);
	/* The kernel's signal set is the first 64 bits of the C library's. */
	memcpy(mask.room + offsetof(struct kvm_signal_mask, sigset), &inside, 8);
	if (ioctl(g->vcpu_fd, KVM_SET_SIGNAL_MASK, &mask) < 0)
		return ioctl_failed(e, "KVM_SET_SIGNAL_MASK");
	event._sigev_un._tid = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &g->timer) < 0)
		return ioctl_failed(e, "timer_create");
	g->timer_made = true;
	if (timer_settime(g->timer, 0, &limit, NULL) < 0)
		return ioctl_failed(e, "timer_settime");
	return 0;
}

static int start_at_zero(struct bare_guest *g, uint32_t loops, struct err *e)
{
	struct kvm_regs regs = {.rcx = loops, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(g->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return ioctl_failed(e, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(g->vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return ioctl_failed(e, "KVM_SET_SREGS");
	if (ioctl(g->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return ioctl_failed(e, "KVM_SET_REGS");
	return 0;
}

static int explain_exit(const struct kvm_run *run, struct err *e)
{
	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		return err_set(e, -EIO,
			       "KVM_EXIT_INTERNAL_ERROR (suberror %u) for a loop of two "
			       "instructions",
			       run->internal.suberror);
	case KVM_EXIT_FAIL_ENTRY:
		return err_set(e, -EIO, "the CPU refused to enter the guest (reason 0x%" PRIx64 ")",
			       (uint64_t)run->fail_entry.hardware_entry_failure_reason);
	default:
		return err_set(e, -EIO, "the guest ended with exit reason %u instead of HLT", run->exit_reason);
	}
}

/* One run of the loop.  1: it ended; 0: the time did; or -errno. */
static int run_round(struct bare_guest *g, uint32_t loops, int64_t *ns, uint32_t *done, struct err *e)
{
	struct kvm_regs regs;
	int64_t start;
	int r = start_at_zero(g, loops, e);

	if (r < 0)
		return r;
	start = (int64_t)clock_ns(CLOCK_MONOTONIC);
	r = ioctl(g->vcpu_fd, KVM_RUN, 0UL);
	*ns = (int64_t)clock_ns(CLOCK_MONOTONIC) - start;
	*done = loops;
	if (r == 0)
		return g->run->exit_reason == KVM_EXIT_HLT ? 1 : explain_exit(g->run, e);
	if (errno != EINTR && errno != EAGAIN)
		return ioctl_failed(e, "KVM_RUN");
	if (ioctl(g->vcpu_fd, KVM_GET_REGS, &regs) < 0)
		return ioctl_failed(e, "KVM_GET_REGS");
	*done = loops - (uint32_t)regs.rcx;
	return 0;
}

/* Longer and longer rounds, until entry and exit no longer count; then the best of a few. */
static int measure(struct bare_guest *g, struct kvm_speed *speed, struct err *e)
{
	int64_t end = (int64_t)clock_ns(CLOCK_MONOTONIC) + LIMIT_NS, ns;
	uint32_t loops = FIRST_LOOPS, done;
	unsigned rounds = 0;

	while (rounds < BEST_OF && (int64_t)clock_ns(CLOCK_MONOTONIC) < end) {
		int r = run_round(g, loops, &ns, &done, e);
		double rate;

		if (r < 0)
			return r;
		rate = (double)done * INSN_PER_LOOP * 1e9 / (double)(ns > 0 ? ns : 1);
		if (rate > speed->per_second)
			speed->per_second = rate;
		if (r == 0) {
			speed->cut_short = true;
			return 0;
		}
		if (ns >= ENOUGH_NS || loops > MOST_LOOPS / 4)
			rounds++;
		else
			loops *= 4;
	}
	return 0;
}

int kvm_speed_measure(struct kvm_speed *speed, struct err *e)
{
	struct bare_guest g = {
		.kvm_fd = -1,
		.vm_fd = -1,
		.vcpu_fd = -1,
		.page = MAP_FAILED,
		.run = MAP_FAILED,
		.signal = SIGRTMAX - 1,
	};
	struct timespec none = {0};
	sigset_t alarm_only;
	int r;

	memset(speed, 0, sizeof(*speed));
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, g.signal);
	pthread_sigmask(SIG_BLOCK, &alarm_only, &g.old_mask);
	r = make_vm(&g, e);
	if (r == 0)
		r = make_alarm(&g, e);
	if (r == 0)
		r = measure(&g, speed, e);
	if (g.timer_made)
		timer_delete(g.timer);
	while (sigtimedwait(&alarm_only, NULL, &none) > 0)
		;
	pthread_sigmask(SIG_SETMASK, &g.old_mask, NULL);
	if (g.run != MAP_FAILED)
		munmap(g.run, g.run_len);
	if (g.page != MAP_FAILED)
		munmap(g.page, PAGE_LEN);
	if (g.vcpu_fd >= 0)
		close(g.vcpu_fd);
	if (g.vm_fd >= 0)
		close(g.vm_fd);
	if (g.kvm_fd >= 0)
		close(g.kvm_fd);
	return r;
}
