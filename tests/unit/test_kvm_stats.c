/* KVM's own counters: the file's form, and a real vCPU's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/log.h"
#include "vmm/config.h"
#include "vmm/kvm/kvm_stats.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define NAME_SIZE 48

static struct { /* as Documentation/virt/kvm/api.rst has it, its blocks not in the order of their fields */
	struct kvm_stats_header h;
	char id[NAME_SIZE];
	uint64_t value[4];
	struct {
		struct kvm_stats_desc d;
		char name[NAME_SIZE];
	} desc[4];
} f;

static struct kvm_stats s;
static int file = -1;

static void describe(unsigned i, const char *name, uint64_t value)
{
	f.desc[i].d.size = 1;
	f.desc[i].d.offset = (uint32_t)(i * sizeof(uint64_t));
	strcpy(f.desc[i].name, name);
	f.value[i] = value;
}

static void setup(void)
{
	f.h = (struct kvm_stats_header){
		.name_size = NAME_SIZE,
		.num_desc = 4,
		.id_offset = sizeof(f.h),
		.desc_offset = (uint32_t)((char *)f.desc - (char *)&f),
		.data_offset = (uint32_t)((char *)f.value - (char *)&f),
	};
	describe(0, "pf_taken", 5);
	describe(1, "exits", 1000);
	describe(2, "irq_injections", 77);
	describe(3, "exits_of_another_kind", 3);
	memset(&s, 0xff, sizeof(s));
}

static void teardown(void)
{
	if (file >= 0)
		close(file);
}

TestSuite(kvm_stats, .init = setup, .fini = teardown, .timeout = 60);

static int read_it(size_t len)
{
	if (file >= 0)
		close(file);
	file = memfd_create("stats", 0);
	cr_assert_eq(write(file, &f, len), (ssize_t)len);
	return kvm_stats_read(file, &s);
}

Test(kvm_stats, takes_what_it_knows_by_name)
{
	cr_assert_eq(read_it(sizeof(f)), 0);
	cr_expect_eq(s.exits, 1000);
	cr_expect_eq(s.irq_injections, 77);
	cr_expect_eq(s.halt_exits, KVM_STATS_UNKNOWN, "it is not in the file");
}

Test(kvm_stats, several_add_up)
{
	cr_assert_eq(read_it(sizeof(f)), 0);
	f.value[1] = 234;
	cr_assert_eq(read_it(sizeof(f)), 0);
	cr_expect_eq(s.exits, 1234);
	cr_expect_eq(s.irq_injections, 2 * 77);
}

Test(kvm_stats, a_name_is_as_long_as_the_header_says)
{
	memset(f.desc[0].name, 'x', NAME_SIZE); /* no end */
	cr_assert_eq(read_it(sizeof(f)), 0);
	cr_expect_eq(s.exits, 1000);
}

Test(kvm_stats, a_counter_of_no_values_is_none)
{
	f.desc[1].d.size = 0;
	cr_assert_eq(read_it(sizeof(f)), 0);
	cr_expect_eq(s.exits, KVM_STATS_UNKNOWN);
}

Test(kvm_stats, what_is_no_such_file)
{
	cr_expect_eq(read_it(3), -EPROTO);
	cr_expect_eq(read_it(sizeof(f) - 1), -EPROTO);
	f.h.name_size = 1 << 20;
	cr_expect_eq(read_it(sizeof(f)), -EPROTO);
	f.h.name_size = 0;
	cr_expect_eq(read_it(sizeof(f)), -EPROTO);
	f.h.name_size = NAME_SIZE;
	f.h.num_desc = UINT32_MAX;
	cr_expect_eq(read_it(sizeof(f)), -EPROTO);
	f.h.num_desc = 4;
	f.h.data_offset = 1 << 30;
	cr_expect_eq(read_it(sizeof(f)), -EPROTO);
	cr_expect_eq(kvm_stats_read(-1, &s), -EBADF);
}

/* --- a real one --- */

#define CODE   0x1000u
#define PORT   0x70
#define WRITES 1000

static _Atomic unsigned writes;
static _Atomic bool over;

static void port_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	(void)r;
	(void)data;
	(void)len;
	if (off)
		over = true;
	else
		writes++;
}

static void on_ended(void *opaque, unsigned index, enum vcpu_next why)
{
	(void)opaque;
	(void)index;
	(void)why;
}

Test(kvm_stats, of_a_running_guest)
{
	/* mov $1000, %cx; 1: out %al, $0x70; loop 1b; out %al, $0x71; 2: jmp 2b */
	static const uint8_t code[] = {0xb9, WRITES & 0xff, WRITES >> 8, 0xe6, 0x70, 0xe2,
				       0xfc, 0xe6,          0x71,        0xeb, 0xfe};
	static const struct bus_ops ops = {.write = port_write};
	struct bus_range range = {.name = "port", .base = PORT, .size = 2, .ops = &ops};
	const struct mem_config mem_cfg = {.size = 2u << 20, .share = true};
	const struct cpu_config cpu_cfg = {.n = 1, .sockets = 1, .cores = 1, .threads = 1};
	static struct guest_mem mem;
	static struct bus pio, mmio;
	static struct vm vm;
	static struct vcpu vcpu;
	struct vcpu_config c = {.vm = &vm, .pin = -1, .pio = &pio, .mmio = &mmio, .ended = on_ended};
	struct cpu_model *model;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct err e = {0};
	int rc;

	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("no /dev/kvm");
	cr_assert_eq(guest_mem_init(&mem, &mem_cfg, 3ull << 30, 4ull << 30, &e), 0, "%s", e.text);
	memcpy(guest_mem_ptr(&mem, CODE, sizeof(code)), code, sizeof(code));
	cr_assert_eq(vm_init(&vm, &e), 0, "%s", e.text);
	cr_assert_eq(vm_map_mem(&vm, &mem, &e), 0, "%s", e.text);
	bus_init(&pio);
	bus_init(&mmio);
	cr_assert_eq(bus_map(&pio, &range), 0);
	cr_assert_eq(cpu_model_init(&model, &vm, &cpu_cfg, &e), 0, "%s", e.text);
	cr_assert_eq(vcpu_init(&vcpu, &c, &e), 0, "%s", e.text);
	cr_assert_eq(ioctl(vcpu.fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = sregs.cs.selector = 0;
	cr_assert_eq(ioctl(vcpu.fd, KVM_SET_SREGS, &sregs), 0);
	cr_assert_eq(ioctl(vcpu.fd, KVM_SET_REGS, &regs), 0);
	cr_assert_eq(vcpu_start(&vcpu, &e), 0, "%s", e.text);
	while (!over)
		usleep(1000);

	/* It spins in KVM_RUN, which is when KVM gives nobody the file. */
	memset(&s, 0x11, sizeof(s));
	rc = kvm_stats_collect(&vcpu, 1, &s);
	if (rc != -ENOTTY) {
		cr_assert_eq(rc, 0, "%s", strerror(-rc));
		cr_expect_geq(s.exits, WRITES);
		cr_expect_lt(s.exits, UINT64_C(1) << 40);
	}
	cr_expect_eq(writes, WRITES);
	vcpu_stop(&vcpu);
	vcpu_join(&vcpu);
	vcpu_fini(&vcpu);
	cpu_model_free(model);
	vm_fini(&vm);
	bus_fini(&pio);
	bus_fini(&mmio);
	guest_mem_fini(&mem);
	if (rc == -ENOTTY)
		cr_skip_test("this KVM has no statistics");
}
