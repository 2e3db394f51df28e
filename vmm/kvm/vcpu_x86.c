/* #ioctls[main]: KVM_GET_TSC_KHZ KVM_GET_SUPPORTED_CPUID KVM_SET_CPUID2 KVM_SET_MSRS KVM_GET_LAPIC
 * KVM_SET_LAPIC #ioctls[main]: KVM_SET_SREGS KVM_SET_REGS KVM_SET_MP_STATE #ioctls[vcpu]: KVM_GET_REGS
 * KVM_GET_SREGS */
/* What a vCPU shows of itself (CPUID) and the state it starts in. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/config.h"
#include "vmm/kvm/vcpu.h"

#define MAX_CPUID 256

struct cpu_model {
	uint32_t apic_id[CONFIG_MAX_CPUS];
	unsigned threads, cores;         /* as the guest sees them */
	unsigned thread_bits, core_bits; /* of the APIC id */
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[MAX_CPUID];
	} cpuid;
};

/* Feature bits; Intel SDM volume 2A, CPUID, and AMD APM volume 3, appendix E. */
#define LEAF1_ECX_X2APIC       (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR   (1u << 31)
#define LEAF1_EDX_HTT          (1u << 28)
#define AMD1_ECX_CMP_LEGACY    (1u << 1)
#define AMD1_ECX_TOPOEXT       (1u << 22)

#define KVM_LEAF_SIGNATURE     0x40000000u
#define KVM_LEAF_FEATURES      0x40000001u
#define KVM_LEAF_TIMING        0x40000010u /* VMware's convention: TSC kHz, APIC bus kHz */
#define KVM_FEATURE_MSI_EXT_ID (1u << 15)
#define KVM_APIC_BUS_KHZ       1000000u

static unsigned bits_for(unsigned n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

static struct kvm_cpuid_entry2 *leaf(struct cpu_model *m, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < m->cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *c = &m->cpuid.entry[i];

		if (c->function == function &&
		    (!(c->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || c->index == index))
			return c;
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *leaf_add(struct cpu_model *m, uint32_t function, uint32_t index, bool indexed)
{
	struct kvm_cpuid_entry2 *c = leaf(m, function, index);

	if (!c && m->cpuid.head.nent < MAX_CPUID)
		c = &m->cpuid.entry[m->cpuid.head.nent++];
	if (c)
		*c = (struct kvm_cpuid_entry2){.function = function,
					       .index = index,
					       .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0};
	return c;
}

static bool vendor_is(struct cpu_model *m, const char *name)
{
	const struct kvm_cpuid_entry2 *c = leaf(m, 0, 0);

	return c && !memcmp(&c->ebx, name, 4) && !memcmp(&c->edx, name + 4, 4) && !memcmp(&c->ecx, name + 8, 4);
}

/* Cache leaves tell how many APIC ids share a cache: threads of a core share L1 and L2, the package L3. */
static void share_caches(struct cpu_model *m, uint32_t function)
{
	for (unsigned i = 0; i < m->cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *c = &m->cpuid.entry[i];
		unsigned sharing;

		if (c->function != function || !(c->eax & 0x1f))
			continue;
		sharing =
			((c->eax >> 5) & 7) >= 3 ? 1u << (m->thread_bits + m->core_bits) : 1u << m->thread_bits;
		c->eax = (c->eax & 0x3fff) | ((sharing - 1) & 0xfff) << 14;
		if (function == 4)
			c->eax |= (((1u << m->core_bits) - 1) & 0x3f) << 26;
	}
}

static void extended_topology(struct cpu_model *m, uint32_t function)
{
	struct kvm_cpuid_entry2 *smt = leaf_add(m, function, 0, true);
	struct kvm_cpuid_entry2 *core = leaf_add(m, function, 1, true);
	struct kvm_cpuid_entry2 *end = leaf_add(m, function, 2, true);

	if (!smt || !core || !end)
		return;
	smt->eax = m->thread_bits;
	smt->ebx = m->threads;
	smt->ecx = 0 | 1u << 8;
	core->eax = m->thread_bits + m->core_bits;
	core->ebx = m->threads * m->cores;
	core->ecx = 1 | 2u << 8;
	end->ecx = 2;
}

static void set_topology(struct cpu_model *m)
{
	unsigned per_package = m->threads * m->cores;
	struct kvm_cpuid_entry2 *c;

	c = leaf(m, 1, 0);
	if (c) {
		c->ebx &= 0x0000ffff; /* the initial APIC id is set for each vCPU */
		c->ebx |= ((1u << (m->thread_bits + m->core_bits)) & 0xff) << 16;
		c->edx &= ~LEAF1_EDX_HTT;
		if (per_package > 1)
			c->edx |= LEAF1_EDX_HTT;
	}
	share_caches(m, 4);
	share_caches(m, 0x8000001d);
	c = leaf(m, 0, 0);
	if (c && c->eax < 0xb)
		c->eax = 0xb;
	extended_topology(m, 0xb);
	if (leaf(m, 0x1f, 0))
		extended_topology(m, 0x1f);
	c = leaf(m, 0x80000001, 0);
	if (c) {
		c->ecx &= ~AMD1_ECX_CMP_LEGACY;
		if (per_package > 1 && vendor_is(m, "AuthenticAMD"))
			c->ecx |= AMD1_ECX_CMP_LEGACY;
	}
	c = leaf(m, 0x80000008, 0);
	if (c && vendor_is(m, "AuthenticAMD"))
		c->ecx = ((per_package - 1) & 0xff) | (m->thread_bits + m->core_bits) << 12;
	c = leaf(m, 0x8000001e, 0);
	if (c) {
		c->ebx = (m->threads - 1) << 8;
		c->ecx = 0;
	}
}

/* So that the guest calibrates nothing by loops.  Leaf 0x15 is read on Intel CPUs only. */
static void set_frequencies(struct cpu_model *m, const struct vm *vm)
{
	struct kvm_cpuid_entry2 *c;
	int khz = ioctl(vm->vm_fd, KVM_GET_TSC_KHZ, 0);

	c = leaf(m, 1, 0);
	if (c && ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		c->ecx |= LEAF1_ECX_TSC_DEADLINE;
	if (khz <= 0)
		return;
	if (vendor_is(m, "GenuineIntel")) {
		c = leaf(m, 0, 0);
		if (c && c->eax < 0x16)
			c->eax = 0x16;
		c = leaf_add(m, 0x15, 0, false);
		if (c) { /* TSC = crystal * ebx / eax; Linux takes the crystal for the APIC's clock too */
			c->ecx = KVM_APIC_BUS_KHZ * 1000;
			c->eax = KVM_APIC_BUS_KHZ;
			c->ebx = (uint32_t)khz;
		}
		c = leaf_add(m, 0x16, 0, false);
		if (c)
			c->eax = c->ebx = (uint32_t)khz / 1000;
	}
	if (leaf(m, KVM_LEAF_FEATURES, 0)) {
		c = leaf(m, KVM_LEAF_SIGNATURE, 0);
		if (c && c->eax < KVM_LEAF_TIMING)
			c->eax = KVM_LEAF_TIMING;
		c = leaf_add(m, KVM_LEAF_TIMING, 0, false);
		if (c) {
			c->eax = (uint32_t)khz;
			c->ebx = KVM_APIC_BUS_KHZ;
		}
	}
}

int cpu_model_init(struct cpu_model **model, struct vm *vm, const struct cpu_config *cfg, struct err *e)
{
	struct cpu_model *m = calloc(1, sizeof(*m));
	struct kvm_cpuid_entry2 *c;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	*model = m;
	m->threads = cfg->threads;
	m->cores = cfg->cores;
	m->thread_bits = bits_for(m->threads);
	m->core_bits = bits_for(m->cores);
	for (unsigned i = 0; i < cfg->n; i++)
		m->apic_id[i] = (i / (m->threads * m->cores)) << (m->thread_bits + m->core_bits) |
				(i / m->threads % m->cores) << m->thread_bits | i % m->threads;
	if (cfg->n > vm->max_vcpus)
		return err_set(e, -EINVAL, "--cpus: %u vCPUs, but this host's KVM allows %u", cfg->n,
			       vm->max_vcpus);
	if (m->apic_id[cfg->n - 1] > 254 && !vm->x2apic_api)
		return err_set(e, -EINVAL,
			       "--cpus: APIC id %u needs KVM_CAP_X2APIC_API, which this KVM lacks; "
			       "use at most 255 vCPUs",
			       m->apic_id[cfg->n - 1]);
	m->cpuid.head.nent = MAX_CPUID;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, &m->cpuid.head))
		return err_set(e, -errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	set_topology(m);
	set_frequencies(m, vm);
	c = leaf(m, 1, 0);
	if (c)
		c->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
	c = leaf(m, KVM_LEAF_FEATURES, 0);
	if (c && vm->x2apic_api)
		c->eax |= KVM_FEATURE_MSI_EXT_ID;
	return 0;
}

void cpu_model_free(struct cpu_model *model)
{
	free(model);
}

uint32_t cpu_model_apic_id(const struct cpu_model *model, unsigned index)
{
	return model->apic_id[index];
}

uint8_t cpu_model_phys_bits(const struct cpu_model *model)
{
	for (unsigned i = 0; i < model->cpuid.head.nent; i++)
		if (model->cpuid.entry[i].function == 0x80000008)
			return (uint8_t)model->cpuid.entry[i].eax;
	return 36;
}

static int set_cpuid(struct vcpu *c, const struct cpu_model *model, struct err *e)
{
	CLEANUP_FREE struct cpu_model *m = malloc(sizeof(*m));
	const uint32_t id = c->cfg.apic_id;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	*m = *model;
	for (unsigned i = 0; i < m->cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *l = &m->cpuid.entry[i];

		if (l->function == 1)
			l->ebx |= (id & 0xff) << 24;
		else if (l->function == 0xb || l->function == 0x1f)
			l->edx = id;
		else if (l->function == 0x8000001e) {
			l->eax = id;
			l->ebx |= (id >> m->thread_bits) & 0xff;
		}
	}
	if (ioctl(c->fd, KVM_SET_CPUID2, &m->cpuid.head))
		return err_set(e, -errno, "KVM_SET_CPUID2: %s", strerror(errno));
	return 0;
}

static int set_msrs(struct vcpu *c, struct err *e)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.entry =
			{
				{.index = 0x1a0, .data = 1},            /* IA32_MISC_ENABLE: fast strings */
				{.index = 0x2ff, .data = 1u << 11 | 6}, /* MTRRdefType: on, write-back */
			},
	};

	/* One at a time: a KVM that knows only some of them still gets those. */
	for (unsigned i = 0; i < ARRAY_SIZE(msrs.entry); i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry = msrs.entry[i]};

		if (ioctl(c->fd, KVM_SET_MSRS, &one) < 0)
			return err_set(e, -errno, "KVM_SET_MSRS: %s", strerror(errno));
	}
	return 0;
}

/* The wiring of a PC without firmware: PIC to LINT0, NMI to LINT1. */
static int set_lapic(struct vcpu *c, struct err *e)
{
	struct kvm_lapic_state lapic;
	const uint32_t extint = 7 << 8, nmi = 4 << 8;

	if (ioctl(c->fd, KVM_GET_LAPIC, &lapic))
		return err_set(e, -errno, "KVM_GET_LAPIC: %s", strerror(errno));
	memcpy(lapic.regs + 0x350, &extint, sizeof(extint)); /* Intel SDM volume 3A, 11.5.1 */
	memcpy(lapic.regs + 0x360, &nmi, sizeof(nmi));
	if (ioctl(c->fd, KVM_SET_LAPIC, &lapic))
		return err_set(e, -errno, "KVM_SET_LAPIC: %s", strerror(errno));
	return 0;
}

int vcpu_setup(struct vcpu *c, const struct cpu_model *model, struct err *e)
{
	int rc = set_cpuid(c, model, e);

	if (!rc)
		rc = set_msrs(c, e);
	if (!rc)
		rc = set_lapic(c, e);
	return rc;
}

static struct kvm_segment flat_segment(uint16_t selector, bool code, bool lng)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = selector,
		.type = code ? 11 : 3, /* accessed; execute/read or read/write */
		.present = 1,
		.db = !lng,
		.s = 1,
		.l = lng,
		.g = 1,
	};
}

int vcpu_set_entry(struct vcpu *c, const struct boot_entry *entry, struct err *e)
{
	const bool lng = entry->mode == BOOT_LONG64;
	struct kvm_regs regs = {.rflags = 2, .rip = entry->rip};
	struct kvm_sregs s;

	if (ioctl(c->fd, KVM_GET_SREGS, &s))
		return err_set(e, -errno, "KVM_GET_SREGS: %s", strerror(errno));
	s.cs = flat_segment(lng ? 0x10 : 0x08, true, lng);
	s.ds = flat_segment(0x18, false, false);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	s.cr0 = 0x11; /* PE, ET */
	s.cr3 = s.cr4 = s.efer = 0;
	s.gdt.base = entry->gdt;
	s.gdt.limit = entry->gdt_limit;
	s.idt.base = 0;
	s.idt.limit = 0;
	if (lng) {                   /* Documentation/arch/x86/boot.rst, 64-bit boot protocol */
		s.cr0 |= 0x80000000; /* PG */
		s.cr4 = 0x20;        /* PAE */
		s.cr3 = entry->cr3;
		s.efer = 0x500; /* LME, LMA */
		regs.rsi = entry->arg;
	} else { /* PVH: Xen's docs/misc/pvh.pandoc */
		regs.rbx = entry->arg;
	}
	if (ioctl(c->fd, KVM_SET_SREGS, &s))
		return err_set(e, -errno, "KVM_SET_SREGS: %s", strerror(errno));
	if (ioctl(c->fd, KVM_SET_REGS, &regs))
		return err_set(e, -errno, "KVM_SET_REGS: %s", strerror(errno));
	return 0;
}

void vcpu_log_registers(struct vcpu *c)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(c->fd, KVM_GET_REGS, &r) || ioctl(c->fd, KVM_GET_SREGS, &s)) {
		log_error("vCPU %u: registers cannot be read: %s", c->cfg.index, strerror(errno));
		return;
	}
	log_error("rip %016llx rflags %08llx rsp %016llx rbp %016llx\n"
		  "rax %016llx rbx %016llx rcx %016llx rdx %016llx\n"
		  "rsi %016llx rdi %016llx r8  %016llx r9  %016llx\n"
		  "r10 %016llx r11 %016llx r12 %016llx r13 %016llx\n"
		  "r14 %016llx r15 %016llx\n"
		  "cs %04x base %llx l %u db %u dpl %u  cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx\n"
		  "gdt %llx/%x idt %llx/%x",
		  r.rip, r.rflags, r.rsp, r.rbp, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.r8, r.r9, r.r10,
		  r.r11, r.r12, r.r13, r.r14, r.r15, s.cs.selector, s.cs.base, s.cs.l, s.cs.db, s.cs.dpl, s.cr0,
		  s.cr2, s.cr3, s.cr4, s.efer, s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit);
}
