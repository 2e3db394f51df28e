/* #ioctls[vcpu]: KVM_RUN
 * #ioctls[main]: KVM_CREATE_VCPU
 * #syscalls[main]: rt_sigaction sched_setaffinity
 * #syscalls[vcpu]: prctl:0==PR_SET_NAME
 *
 * Theory of operation: a vCPU's thread sits in KVM_RUN.  To get it out for certain, the asker sets
 * run->immediate_exit and then sends VCPU_SIGNAL: the signal ends a KVM_RUN that is under way (or any
 * blocking call in a handler), the flag one that is about to begin.  The thread clears the flag before
 * it looks at what is wanted, so no request is lost. */
#include "vmm/kvm/vcpu.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/thread.h"

#define REFUSALS    10000
#define VCPU_SIGNAL SIGRTMIN

static void on_vcpu_signal(int sig)
{
	(void)sig; /* its only purpose is to make system calls return */
}

/* --- exits --- */

static void count(_Atomic uint64_t *counter)
{
	/* one writer: no locked instruction needed */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* Ports are bytes: an access wider than what lives there goes to each port by itself. */
static bool pio_bytes(struct bus *bus, uint16_t port, uint8_t *data, unsigned len, bool write)
{
	bool any = false;

	for (unsigned i = 0; i < len; i++) {
		uint64_t p = (uint16_t)(port + i);

		if (write) {
			any |= bus_write(bus, p, data + i, 1);
		} else {
			data[i] = 0xff;
			any |= bus_read(bus, p, data + i, 1);
		}
	}
	return any;
}

static enum vcpu_next exit_io(struct vcpu *c)
{
	const bool write = c->run->io.direction == KVM_EXIT_IO_OUT;
	const unsigned len = c->run->io.size;
	const uint16_t port = c->run->io.port;
	uint8_t *data = (uint8_t *)c->run + c->run->io.data_offset;
	bool found = true;

	for (uint32_t i = 0; i < c->run->io.count; i++, data += len) {
		bool ok =
			write ? bus_write(c->cfg.pio, port, data, len) : bus_read(c->cfg.pio, port, data, len);

		if (!ok)
			found &= pio_bytes(c->cfg.pio, port, data, len, write);
	}
	if (!found)
		count(&c->stats.pio_unhandled);
	return VCPU_RUN;
}

static enum vcpu_next exit_mmio(struct vcpu *c)
{
	uint8_t *data = c->run->mmio.data;
	const unsigned len = c->run->mmio.len;
	const uint64_t addr = c->run->mmio.phys_addr;
	bool found;

	if (c->run->mmio.is_write) {
		found = bus_write(c->cfg.mmio, addr, data, len);
	} else {
		memset(data, 0xff, len);
		found = bus_read(c->cfg.mmio, addr, data, len);
	}
	if (found)
		return VCPU_RUN;
	/* Where KVM emulates, RAM that is gone looks like this, and not like EFAULT. */
	if (c->cfg.vm->mem && guest_mem_ptr(c->cfg.vm->mem, addr, 1))
		return VCPU_MEMORY;
	count(&c->stats.mmio_unhandled);
	return VCPU_RUN;
}

static enum vcpu_next exit_shutdown(struct vcpu *c)
{
	log_info("vCPU %u: triple fault", c->cfg.index);
	return VCPU_RESET;
}

static enum vcpu_next exit_system_event(struct vcpu *c)
{
	switch (c->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return VCPU_SHUTDOWN;
	case KVM_SYSTEM_EVENT_RESET:
		return VCPU_RESET;
	default:
		log_error("vCPU %u: system event %u", c->cfg.index, c->run->system_event.type);
		return VCPU_FAILED;
	}
}

static enum vcpu_next exit_nothing(struct vcpu *c)
{
	(void)c;
	return VCPU_RUN;
}

static enum vcpu_next (*const on_exit_table[VCPU_EXIT_REASONS])(struct vcpu *c) = {
	[KVM_EXIT_IO] = exit_io,
	[KVM_EXIT_MMIO] = exit_mmio,
	[KVM_EXIT_SHUTDOWN] = exit_shutdown,
	[KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
	[KVM_EXIT_INTR] = exit_nothing,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = exit_nothing,
};

static const char *const exit_names[VCPU_EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "KVM_EXIT_UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "KVM_EXIT_EXCEPTION",
	[KVM_EXIT_HYPERCALL] = "KVM_EXIT_HYPERCALL",
	[KVM_EXIT_DEBUG] = "KVM_EXIT_DEBUG",
	[KVM_EXIT_HLT] = "KVM_EXIT_HLT",
	[KVM_EXIT_FAIL_ENTRY] = "KVM_EXIT_FAIL_ENTRY",
	[KVM_EXIT_INTERNAL_ERROR] = "KVM_EXIT_INTERNAL_ERROR",
	[KVM_EXIT_OSI] = "KVM_EXIT_OSI",
	[KVM_EXIT_NMI] = "KVM_EXIT_NMI",
};

static enum vcpu_next exit_unhandled(struct vcpu *c)
{
	const struct kvm_run *run = c->run;
	const char *name = run->exit_reason < VCPU_EXIT_REASONS ? exit_names[run->exit_reason] : NULL;
	char detail[160] = "";

	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		size_t n = (size_t)snprintf(detail, sizeof(detail), ", suberror %u%s", run->internal.suberror,
					    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
						    ? " (an instruction KVM cannot emulate)"
						    : "");

		for (unsigned i = 0; i < run->internal.ndata && i < 4 && n < sizeof(detail); i++)
			n += (size_t)snprintf(detail + n, sizeof(detail) - n, " %#llx",
					      (unsigned long long)run->internal.data[i]);
	} else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
		snprintf(detail, sizeof(detail), ", hardware reason %#llx",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	}
	log_error("vCPU %u: exit %u (%s) that nobody handles%s", c->cfg.index, run->exit_reason,
		  name ? name : "unknown to Ringlet", detail);
	vcpu_log_registers(c);
	return VCPU_FAILED;
}

/* --- the thread --- */

static void coalesced_write(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len)
{
	struct vcpu *c = opaque;

	bus_write(pio ? c->cfg.pio : c->cfg.mmio, addr, data, len);
	count(&c->stats.coalesced);
}

/* Clears the request flag, then sees what is wanted.  VCPU_RUN: go (back) into the guest. */
static enum vcpu_next obey(struct vcpu *c)
{
	enum vcpu_next next = VCPU_RUN;

	pthread_mutex_lock(&c->lock);
	__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	while (c->pause && !c->stop) {
		c->outside = true;
		pthread_cond_broadcast(&c->changed);
		pthread_cond_wait(&c->changed, &c->lock);
	}
	c->outside = false;
	if (c->stop)
		next = VCPU_STOPPED;
	pthread_mutex_unlock(&c->lock);
	return next;
}

/* One that waits to be started gets EAGAIN whenever something wakes it.  At every turn it means that KVM, which
 * makes a thread of its own when a VM first runs, may not. */
static enum vcpu_next refused(struct vcpu *c)
{
	if (c->refused++ < REFUSALS)
		return obey(c);
	log_error(
		"vCPU %u: KVM_RUN: %s, %d times: KVM can start no thread of its own\n"
		"How many there may be: ulimit -u; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max",
		c->cfg.index, strerror(EAGAIN), REFUSALS);
	return VCPU_FAILED;
}

static enum vcpu_next run_once(struct vcpu *c)
{
	enum vcpu_next (*handler)(struct vcpu * c) = NULL;
	int rc = ioctl(c->fd, KVM_RUN, 0), error = errno;

	/* A reader that does not read stops the guest here, where it can still be stopped for good. */
	while (c->cfg.ready && !c->cfg.ready(c->cfg.opaque) &&
	       !__atomic_load_n(&c->run->immediate_exit, __ATOMIC_SEQ_CST))
		;
	vm_coalesced_drain(c->cfg.vm, coalesced_write, c);
	if (rc < 0) {
		if (error == EAGAIN)
			return refused(c);
		c->refused = 0;
		if (error == EINTR)
			return obey(c);
		if (error == EFAULT)
			return VCPU_MEMORY;
		log_error("vCPU %u: KVM_RUN: %s", c->cfg.index, strerror(error));
		return VCPU_FAILED;
	}
	c->refused = 0;
	if (c->run->exit_reason < VCPU_EXIT_REASONS) {
		count(&c->stats.exits[c->run->exit_reason]);
		handler = on_exit_table[c->run->exit_reason];
	}
	return handler ? handler(c) : exit_unhandled(c);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *c = arg;
	enum vcpu_next next;
	char name[16];
	sigset_t set;

	thread_begin(THREAD_VCPU);
	/* Whoever started us may have left it blocked, and then nothing would end KVM_RUN. */
	sigemptyset(&set);
	sigaddset(&set, VCPU_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	next = obey(c);

	snprintf(name, sizeof(name), "vcpu%u", c->cfg.index);
	pthread_setname_np(pthread_self(), name);
	if (c->cfg.index == 0) {
		c->stats.first_run_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		c->stats.first_run_ns = clock_ns(CLOCK_MONOTONIC);
	}
	/* Requests are obeyed only where KVM_RUN returned EINTR: an exit whose completion is still owed
	 * (PIO or MMIO read data, string I/O) is then finished, as api.rst asks for (KVM_RUN). */
	while (next == VCPU_RUN)
		next = run_once(c);
	pthread_mutex_lock(&c->lock);
	c->why = next;
	c->outside = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (next != VCPU_STOPPED)
		c->cfg.ended(c->cfg.opaque, c->cfg.index, next);
	return NULL;
}

static int set_affinity(const struct vcpu *c, pthread_attr_t *attr)
{
	cpu_set_t set;

	if (c->cfg.pin < 0)
		return 0;
	if (c->cfg.pin >= CPU_SETSIZE)
		return EINVAL;
	CPU_ZERO(&set);
	CPU_SET((size_t)c->cfg.pin, &set);
	return pthread_attr_setaffinity_np(attr, sizeof(set), &set);
}

int vcpu_start(struct vcpu *c, struct err *e)
{
	struct sigaction sa = {.sa_handler = on_vcpu_signal};
	pthread_attr_t attr;
	int rc;

	sigaction(VCPU_SIGNAL, &sa, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	rc = set_affinity(c, &attr);
	/* Under the lock, so that a stop that comes now finds a thread to signal. */
	pthread_mutex_lock(&c->lock);
	if (!rc)
		rc = pthread_create(&c->thread, &attr, vcpu_thread, c);
	c->started = !rc;
	pthread_mutex_unlock(&c->lock);
	pthread_attr_destroy(&attr);
	if (rc && c->cfg.pin >= 0)
		return err_set(e, -rc,
			       "--cpus: pin=: cannot run vCPU %u on host CPU %d: %s\nSee which are "
			       "allowed: taskset -pc $$",
			       c->cfg.index, c->cfg.pin, strerror(rc));
	if (rc)
		return err_set(e, -rc, "cannot start the thread of vCPU %u: %s", c->cfg.index, strerror(rc));
	return 0;
}

/* With c->lock held. */
static void kick(struct vcpu *c)
{
	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (c->started && c->why == VCPU_RUN)
		pthread_kill(c->thread, VCPU_SIGNAL);
	pthread_cond_broadcast(&c->changed);
}

void vcpu_stop(struct vcpu *c)
{
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	kick(c);
	pthread_mutex_unlock(&c->lock);
}

void vcpu_pause(struct vcpu *c)
{
	pthread_mutex_lock(&c->lock);
	c->pause++;
	kick(c);
	while (!c->outside)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void vcpu_resume(struct vcpu *c)
{
	pthread_mutex_lock(&c->lock);
	c->pause--;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

enum vcpu_next vcpu_join(struct vcpu *c)
{
	if (c->started)
		pthread_join(c->thread, NULL);
	c->started = false;
	return c->why;
}

int vcpu_init(struct vcpu *c, const struct vcpu_config *cfg, struct err *e)
{
	memset(c, 0, sizeof(*c));
	c->cfg = *cfg;
	c->run = MAP_FAILED;
	c->outside = true;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->fd = ioctl(cfg->vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)cfg->apic_id);
	if (c->fd < 0)
		return err_set(e, -errno, "KVM_CREATE_VCPU %u (APIC id %u): %s", cfg->index, cfg->apic_id,
			       strerror(errno));
	c->run = mmap(NULL, cfg->vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->run == MAP_FAILED)
		return err_set(e, -errno, "mapping of vCPU %u: %s", cfg->index, strerror(errno));
	if (cfg->vm->coalesced && !cfg->vm->ring)
		cfg->vm->ring = (void *)((char *)c->run + KVM_COALESCED_MMIO_PAGE_OFFSET * 4096);
	return 0;
}

void vcpu_fini(struct vcpu *c)
{
	const struct vm *vm = c->cfg.vm;

	if (vm && vm->ring && (void *)vm->ring == (char *)c->run + KVM_COALESCED_MMIO_PAGE_OFFSET * 4096)
		c->cfg.vm->ring = NULL;
	if (c->run != MAP_FAILED && vm)
		munmap(c->run, vm->run_size);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->run = MAP_FAILED;
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}
