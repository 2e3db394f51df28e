/* vCPU threads on real KVM: getting them out of the guest, and what their exits mean. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/config.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define MIB       (1ull << 20)
#define CODE      0x1000u
#define COUNT     0x2000u /* a counter of 32 bits for each vCPU, 4 KiB apart */
#define MAX_VCPUS 3
#define MMIO      0xd0000000u

#define PORT_BLOCK 0x70 /* a read of it waits on an eventfd */
#define PORT_COUNT 0x71 /* reads count up; writes are kept */
#define PORT_DONE  0x72
#define PORT_ERRNO 0x73 /* its handler leaves another errno */

/* 16-bit guests, position independent; ds and es have base 0 unless a test says otherwise. */
#define GUEST(name, text)                                                                                      \
	extern const uint8_t name[], name##_end[];                                                             \
	__asm__(".pushsection .rodata\n.code16\n" #name ":\n" text "\n" #name "_end:\n"                        \
		".code64\n.popsection\n")

GUEST(guest_spin, "1: incl (%bx)\n jmp 1b");
GUEST(guest_hlt, "cli\n 1: hlt\n jmp 1b");
GUEST(guest_blocked, "1: in $0x70, %al\n incl (%bx)\n jmp 1b");
GUEST(guest_fault, "ud2");
GUEST(guest_string, "cld\n 3: mov $0x71, %dx\n mov $0x4000, %di\n mov $0x4000, %cx\n rep insb\n"
		    "mov $0x4000, %si\n mov $0x4000, %cx\n rep outsb\n out %al, $0x72\n 1: jmp 1b");
GUEST(guest_words, "cld\n mov $0x71, %dx\n mov $0x4000, %di\n mov $0x1000, %cx\n rep insw\n"
		   "out %al, $0x72\n 1: jmp 1b");
GUEST(guest_done, "out %al, $0x72\n 1: jmp 1b");
GUEST(guest_errno, "1: out %al, $0x73\n incl (%bx)\n jmp 1b");
GUEST(guest_nobody, "mov $0x9000, %dx\n in %dx, %eax\n mov %eax, (%bx)\n out %al, $0x72\n 1: jmp 1b");
GUEST(guest_straddle, "mov $0x6f, %dx\n mov $0x11223344, %eax\n out %eax, %dx\n out %al, $0x72\n 1: jmp 1b");
GUEST(guest_mmio, "mov %es:0x100, %eax\n mov %eax, (%bx)\n mov %eax, %es:0x10\n mov %es:0x10, %eax\n"
		  "mov %eax, 4(%bx)\n out %al, $0x72\n 1: jmp 1b");
GUEST(guest_queue, "mov $100, %cx\n 1: mov %cl, %al\n out %al, $0x71\n in $0x74, %al\n loop 1b\n"
		   "out %al, $0x72\n 1: jmp 1b");

static struct guest_mem mem;
static struct vm vm;
static struct bus pio, mmio;
static struct vcpu vcpu[MAX_VCPUS];
static unsigned nvcpus;
static struct err e;

/* --- devices --- */

static struct {
	struct bus_range range, device;
	int block_fd;
	_Atomic bool blocked, done;
	_Atomic unsigned reads, writes;
	uint8_t written[0x5000];
	unsigned missing; /* queued writes that an access after them overtook */
} dev;

static void port_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	uint64_t n;

	(void)r;
	switch (off + PORT_BLOCK) {
	case PORT_BLOCK:
		dev.blocked = true;
		if (read(dev.block_fd, &n, sizeof(n)) < 0)
			cr_assert_eq(errno, EINTR);
		dev.blocked = false;
		memset(data, 0, len);
		break;
	case PORT_COUNT:
		for (unsigned i = 0; i < len; i++)
			((uint8_t *)data)[i] = (uint8_t)dev.reads++;
		break;
	default:
		dev.missing += dev.writes != ++dev.reads;
		memset(data, 0, len);
		break;
	}
}

static void port_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	(void)r;
	switch (off + PORT_BLOCK) {
	case PORT_COUNT:
		for (unsigned i = 0; i < len && dev.writes < sizeof(dev.written); i++)
			dev.written[dev.writes++] = ((const uint8_t *)data)[i];
		break;
	case PORT_DONE:
		dev.done = true;
		break;
	case PORT_ERRNO:
		dev.writes++;
		errno = ENOSPC;
		break;
	default:
		dev.written[dev.writes++] = *(const uint8_t *)data;
		break;
	}
}

static uint32_t latch;

static void latch_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	(void)r;
	(void)off;
	cr_assert_eq(len, 4);
	memcpy(data, &latch, len);
}

static void latch_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	(void)r;
	(void)off;
	cr_assert_eq(len, 4);
	memcpy(&latch, data, len);
	latch ^= 0x0f0f0f0f;
}

static struct {
	pthread_mutex_t lock;
	unsigned calls;
	enum vcpu_next why;
	_Atomic bool told;
} end = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_ended(void *opaque, unsigned index, enum vcpu_next why)
{
	(void)opaque;
	(void)index;
	pthread_mutex_lock(&end.lock);
	end.calls++;
	end.why = why;
	pthread_mutex_unlock(&end.lock);
	end.told = true;
}

/* --- a VM --- */

static void setup(void)
{
	static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
	static const struct bus_ops latch_ops = {.read = latch_read, .write = latch_write};
	const struct mem_config cfg = {.size = 2 * MIB, .share = true};

	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("no /dev/kvm");
	log_set_level((enum log_level) - 1);
	cr_assert_eq(guest_mem_init(&mem, &cfg, 3ull << 30, 4ull << 30, &e), 0, "%s", e.text);
	cr_assert_eq(vm_init(&vm, &e), 0, "%s", e.text);
	cr_assert_eq(vm_map_mem(&vm, &mem, &e), 0, "%s", e.text);
	bus_init(&pio);
	bus_init(&mmio);
	dev.block_fd = eventfd(0, EFD_CLOEXEC);
	dev.range = (struct bus_range){.name = "ports", .base = PORT_BLOCK, .size = 5, .ops = &port_ops};
	dev.device = (struct bus_range){.name = "latch", .base = MMIO, .size = 0x20, .ops = &latch_ops};
	cr_assert_eq(bus_map(&pio, &dev.range), 0);
	cr_assert_eq(bus_map(&mmio, &dev.device), 0);
}

static void teardown(void)
{
	for (unsigned i = 0; i < nvcpus; i++)
		vcpu_stop(&vcpu[i]);
	for (unsigned i = 0; i < nvcpus; i++)
		vcpu_join(&vcpu[i]);
	for (unsigned i = 0; i < nvcpus; i++)
		vcpu_fini(&vcpu[i]);
	if (!mem.nregions)
		return;
	vm_fini(&vm);
	bus_fini(&pio);
	bus_fini(&mmio);
	guest_mem_fini(&mem);
}

TestSuite(vcpu, .init = setup, .fini = teardown, .timeout = 60);

static volatile uint32_t *counter(unsigned i)
{
	return guest_mem_ptr(&mem, COUNT + i * 0x400, 8);
}

static struct vcpu *add_vcpu(const uint8_t *code, const uint8_t *code_end)
{
	struct vcpu_config cfg = {.vm = &vm,
				  .index = nvcpus,
				  .apic_id = nvcpus,
				  .pin = -1,
				  .pio = &pio,
				  .mmio = &mmio,
				  .ended = on_ended};
	struct kvm_regs regs = {.rflags = 2, .rip = CODE, .rbx = COUNT + nvcpus * 0x400, .rsp = 0x8000};
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct vcpu *c = &vcpu[nvcpus++];
	struct kvm_sregs s;

	cr_assert_eq(guest_mem_write(&mem, CODE, code, (size_t)(code_end - code)), 0);
	cr_assert_eq(vcpu_init(c, &cfg, &e), 0, "%s", e.text);
	cr_assert_eq(ioctl(c->fd, KVM_GET_SREGS, &s), 0);
	s.cs.base = 0;
	s.cs.selector = 0;
	s.es.base = MMIO;
	cr_assert_eq(ioctl(c->fd, KVM_SET_SREGS, &s), 0);
	cr_assert_eq(ioctl(c->fd, KVM_SET_REGS, &regs), 0);
	cr_assert_eq(ioctl(c->fd, KVM_SET_MP_STATE, &state), 0);
	return c;
}

#define ADD(guest) add_vcpu(guest, guest##_end)

static void set_es(struct vcpu *c, uint64_t base)
{
	struct kvm_sregs s;

	cr_assert_eq(ioctl(c->fd, KVM_GET_SREGS, &s), 0);
	s.es.base = base;
	cr_assert_eq(ioctl(c->fd, KVM_SET_SREGS, &s), 0);
}

/* Protected mode without an interrupt table: a fault leads to a double fault and that to a triple one.
 * (In real mode KVM's emulator does not look at the table's limit.) */
static struct vcpu *add_triple(void)
{
	struct vcpu *c = ADD(guest_fault);
	struct kvm_sregs s;

	cr_assert_eq(ioctl(c->fd, KVM_GET_SREGS, &s), 0);
	s.cs = (struct kvm_segment){
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
	s.ds = s.cs;
	s.ds.selector = 16;
	s.ds.type = 3;
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.cr0 |= 1;
	s.idt.limit = 0;
	cr_assert_eq(ioctl(c->fd, KVM_SET_SREGS, &s), 0);
	return c;
}

static void start(struct vcpu *c)
{
	cr_assert_eq(vcpu_start(c, &e), 0, "%s", e.text);
}

static void wait_for_count(unsigned i)
{
	uint32_t before = *counter(i);

	while (*counter(i) == before && !end.told)
		sched_yield();
}

static void wait_for_done(void)
{
	while (!dev.done)
		usleep(100);
}

/* --- stop --- */

Test(vcpu, stops_a_spinning_guest)
{
	struct vcpu *c = ADD(guest_spin);

	start(c);
	wait_for_count(0);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_eq(end.calls, 0);
}

Test(vcpu, stops_a_halted_guest)
{
	struct vcpu *c = ADD(guest_hlt);

	start(c);
	usleep(50000);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
}

Test(vcpu, stops_a_cpu_that_nobody_started)
{
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_UNINITIALIZED};
	struct vcpu *c;

	ADD(guest_spin);
	c = ADD(guest_spin);
	cr_assert_eq(ioctl(c->fd, KVM_SET_MP_STATE, &state), 0);
	start(c);
	usleep(20000);
	vcpu_pause(c);
	vcpu_resume(c);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_eq(*counter(1), 0);
}

Test(vcpu, stops_a_handler_that_is_blocked)
{
	struct vcpu *c = ADD(guest_blocked);

	start(c);
	while (!dev.blocked)
		usleep(100);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_eq(*counter(0), 0, "it went on after its read");
}

Test(vcpu, stop_before_start)
{
	struct vcpu *c = ADD(guest_spin);

	vcpu_stop(c);
	start(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_eq(*counter(0), 0);
}

Test(vcpu, stop_at_any_moment_after_start)
{
	struct vcpu *c = ADD(guest_spin);

	for (unsigned i = 0; i < 500; i++) {
		start(c);
		for (volatile unsigned j = 0; j < i * 100; j++)
			;
		vcpu_stop(c);
		cr_assert_eq(vcpu_join(c), VCPU_STOPPED);
		c->stop = false; /* one more life */
		c->why = VCPU_RUN;
	}
}

Test(vcpu, stop_of_a_paused_guest)
{
	struct vcpu *c = ADD(guest_spin);

	start(c);
	wait_for_count(0);
	vcpu_pause(c);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
}

static void *stop_it(void *arg)
{
	vcpu_stop(arg);
	return NULL;
}

Test(vcpu, stop_by_many_threads)
{
	struct vcpu *c = ADD(guest_spin);
	pthread_t t[4];

	start(c);
	wait_for_count(0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		cr_assert_eq(pthread_create(&t[i], NULL, stop_it, c), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
}

/* Whoever started us may have left signals blocked: the mask is inherited. */
Test(vcpu, stops_though_its_signal_is_blocked, .timeout = 10)
{
	struct vcpu *c = ADD(guest_spin);
	sigset_t set;

	sigemptyset(&set);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		sigaddset(&set, sig);
	cr_assert_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	start(c);
	wait_for_count(0);
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
}

/* --- pause --- */

Test(vcpu, a_paused_guest_stands_still)
{
	struct vcpu *c = ADD(guest_spin);
	uint32_t before;

	start(c);
	wait_for_count(0);
	vcpu_pause(c);
	before = *counter(0);
	usleep(20000);
	cr_expect_eq(*counter(0), before);
	vcpu_resume(c);
	wait_for_count(0);
}

Test(vcpu, pause_before_start)
{
	struct vcpu *c = ADD(guest_spin);

	vcpu_pause(c);
	start(c);
	usleep(20000);
	cr_expect_eq(*counter(0), 0);
	vcpu_resume(c);
	wait_for_count(0);
}

Test(vcpu, two_pauses_need_two_resumes)
{
	struct vcpu *c = ADD(guest_spin);
	uint32_t before;

	start(c);
	vcpu_pause(c);
	vcpu_pause(c);
	vcpu_resume(c);
	before = *counter(0);
	usleep(20000);
	cr_expect_eq(*counter(0), before);
	vcpu_resume(c);
	wait_for_count(0);
}

Test(vcpu, paused_a_thousand_times)
{
	struct vcpu *c[MAX_VCPUS];

	for (unsigned i = 0; i < MAX_VCPUS; i++) {
		c[i] = ADD(guest_spin);
		start(c[i]);
	}
	for (unsigned n = 0; n < 1000; n++) {
		uint32_t before[MAX_VCPUS];

		for (unsigned i = 0; i < MAX_VCPUS; i++)
			vcpu_pause(c[i]);
		for (unsigned i = 0; i < MAX_VCPUS; i++)
			before[i] = *counter(i);
		sched_yield();
		for (unsigned i = 0; i < MAX_VCPUS; i++) {
			cr_assert_eq(*counter(i), before[i], "vCPU %u ran while paused", i);
			vcpu_resume(c[i]);
		}
	}
	for (unsigned i = 0; i < MAX_VCPUS; i++)
		wait_for_count(i);
	cr_expect_eq(end.calls, 0);
}

static void *pause_often(void *arg)
{
	for (unsigned i = 0; i < 300; i++) {
		vcpu_pause(arg);
		vcpu_resume(arg);
	}
	return NULL;
}

Test(vcpu, paused_by_many_threads)
{
	struct vcpu *c = ADD(guest_spin);
	pthread_t t[4];

	start(c);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		cr_assert_eq(pthread_create(&t[i], NULL, pause_often, c), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	wait_for_count(0);
	cr_expect_eq(c->pause, 0);
}

Test(vcpu, pause_waits_for_the_handler)
{
	struct vcpu *c = ADD(guest_blocked);

	start(c);
	while (!dev.blocked)
		usleep(100);
	vcpu_pause(c);
	cr_expect(!dev.blocked);
	vcpu_resume(c);
	while (!dev.blocked)
		usleep(100);
}

Test(vcpu, pause_of_a_guest_that_ended)
{
	struct vcpu *c = add_triple();

	start(c);
	while (!end.told)
		usleep(100);
	vcpu_pause(c);
	vcpu_resume(c);
	cr_expect_eq(vcpu_join(c), VCPU_RESET);
	vcpu_pause(c); /* there is no thread any more */
	vcpu_resume(c);
	vcpu_stop(c);
}

/* --- exits --- */

Test(vcpu, triple_fault_is_a_reset)
{
	struct vcpu *c = add_triple();

	start(c);
	cr_expect_eq(vcpu_join(c), VCPU_RESET);
	cr_expect_eq(end.calls, 1);
	cr_expect_eq(end.why, VCPU_RESET);
}

Test(vcpu, an_exit_nobody_handles_is_a_failure)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	struct vcpu *c = ADD(guest_spin);

	cr_assert_eq(ioctl(c->fd, KVM_SET_GUEST_DEBUG, &debug), 0);
	start(c);
	cr_expect_eq(vcpu_join(c), VCPU_FAILED);
	cr_expect_eq(end.calls, 1);
	cr_expect_eq(c->stats.exits[KVM_EXIT_DEBUG], 1);
}

Test(vcpu, a_jump_to_nowhere_is_a_failure)
{
	struct vcpu *c = ADD(guest_spin);
	struct kvm_sregs s;

	cr_assert_eq(ioctl(c->fd, KVM_GET_SREGS, &s), 0);
	s.cs.base = 0xc8000000;
	cr_assert_eq(ioctl(c->fd, KVM_SET_SREGS, &s), 0);
	start(c);
	cr_expect_eq(vcpu_join(c), VCPU_FAILED);
}

Test(vcpu, a_port_without_a_device_reads_as_ones)
{
	struct vcpu *c = ADD(guest_nobody);

	start(c);
	wait_for_done();
	vcpu_stop(c);
	vcpu_join(c);
	cr_expect_eq(*counter(0), 0xffffffff);
	cr_expect_eq(c->stats.pio_unhandled, 1);
}

Test(vcpu, a_wide_access_goes_to_each_port)
{
	struct vcpu *c = ADD(guest_straddle);

	start(c); /* ports 0x6f..0x72: nobody, 0x70 (33), 0x71 (22), 0x72 */
	wait_for_done();
	vcpu_stop(c);
	vcpu_join(c);
	cr_expect_eq(dev.writes, 2);
	cr_expect_eq(dev.written[0], 0x33);
	cr_expect_eq(dev.written[1], 0x22);
}

Test(vcpu, mmio)
{
	struct vcpu *c = ADD(guest_mmio);

	start(c);
	wait_for_done();
	vcpu_stop(c);
	vcpu_join(c);
	cr_expect_eq(counter(0)[0], 0xffffffff, "nobody is there");
	cr_expect_eq(counter(0)[1], 0xf0f0f0f0);
	cr_expect_eq(c->stats.mmio_unhandled, 1);
	cr_expect_eq(c->stats.exits[KVM_EXIT_MMIO], 3);
}

/* --- string I/O --- */

static void check_strings(struct vcpu *c, unsigned len)
{
	uint8_t *got = guest_mem_ptr(&mem, 0x4000, len);

	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_eq(dev.reads, len);
	for (unsigned i = 0; i < len; i++)
		cr_assert_eq(got[i], (uint8_t)i, "read element %u", i);
}

Test(vcpu, string_io)
{
	struct vcpu *c = ADD(guest_string);

	set_es(c, 0);
	start(c);
	wait_for_done();
	check_strings(c, 0x4000);
	cr_expect_eq(dev.writes, 0x4000);
	for (unsigned i = 0; i < 0x4000; i++)
		cr_assert_eq(dev.written[i], (uint8_t)i, "written element %u", i);
}

Test(vcpu, string_io_of_words)
{
	struct vcpu *c = ADD(guest_words);

	set_es(c, 0);
	start(c);
	wait_for_done();
	/* each element is two ports wide and offered to the device as one */
	check_strings(c, 0x2000);
}

Test(vcpu, string_io_loses_nothing_when_paused)
{
	struct vcpu *c = ADD(guest_string);
	unsigned pauses = 0;

	set_es(c, 0);
	start(c);
	for (; !dev.done; pauses++) {
		vcpu_pause(c);
		vcpu_resume(c);
		usleep(20); /* or the next pause begins before the guest has run at all */
	}
	check_strings(c, 0x4000);
	cr_expect_gt(pauses, 0);
	cr_expect_eq(dev.writes, 0x4000);
	for (unsigned i = 0; i < 0x4000; i++)
		cr_assert_eq(dev.written[i], (uint8_t)i, "written element %u", i);
}

/* --- queued writes --- */

Test(vcpu, queued_writes_come_before_what_follows_them)
{
	struct vcpu *c = ADD(guest_queue);

	if (vm_coalesce(&vm, true, PORT_COUNT, 1, true))
		cr_skip_test("no coalesced port writes");
	start(c);
	wait_for_done();
	cr_expect_eq(dev.missing, 0);
	for (unsigned i = 0; i < 100; i++)
		cr_expect_eq(dev.written[i], 100 - i);
	cr_expect_eq(c->stats.coalesced, 100);
}

Test(vcpu, many_queued_writes)
{
	struct vcpu *c = ADD(guest_string);

	if (vm_coalesce(&vm, true, PORT_COUNT, 1, true))
		cr_skip_test("no coalesced port writes");
	set_es(c, 0);
	start(c);
	wait_for_done();
	check_strings(c, 0x4000);
	cr_expect_eq(dev.writes, 0x4000);
	for (unsigned i = 0; i < 0x4000; i++)
		cr_assert_eq(dev.written[i], (uint8_t)i, "written element %u", i);
}

/* Queued writes are handed out between KVM_RUN and the look at its errno; handlers make system calls. */
Test(vcpu, a_handler_may_change_errno)
{
	struct vcpu *c = ADD(guest_errno);

	if (vm_coalesce(&vm, true, PORT_ERRNO, 1, true))
		cr_skip_test("no coalesced port writes");
	start(c);
	for (unsigned i = 0; i < 200 && !end.told; i++) {
		wait_for_count(0);
		vcpu_pause(c);
		vcpu_resume(c);
	}
	vcpu_stop(c);
	cr_expect_eq(vcpu_join(c), VCPU_STOPPED);
	cr_expect_gt(dev.writes, 0);
}

/* --- what it leaves behind --- */

Test(vcpu, leaves_no_descriptor_open)
{
	int before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 20; i++) {
		struct vm other;

		cr_assert_eq(vm_init(&other, &e), 0, "%s", e.text);
		vm_fini(&other);
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}

Test(vcpu, pinned_to_a_cpu_that_is_not_there)
{
	struct vcpu *c = ADD(guest_spin);

	c->cfg.pin = 100000;
	cr_expect_eq(vcpu_start(c, &e), -EINVAL);
	cr_expect(strstr(e.text, "100000"));
	c->cfg.pin = 0;
	start(c);
	wait_for_count(0);
}
