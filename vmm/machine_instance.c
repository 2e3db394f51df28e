/* One life of the guest. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/layout_x86.h"
#include "vmm/machine_parts.h"

static int init_serials(struct machine *m, struct vm_instance *inst, struct err *e)
{
	struct vmevent *v = &inst->vm.event;
	int rc;

	rc = serial_init(&inst->com1, LAYOUT_COM1, LAYOUT_UART_MMIO);
	rc = rc ? rc : serial_init(&inst->com2, LAYOUT_COM2, 0);
	inst->com1.opaque = inst->com2.opaque = m;
	inst->com1.send = machine_on_com1;
	inst->com1.room = machine_on_room;
	inst->com2.send = machine_on_com2;
	inst->com2.room = machine_on_com2_room;
	rc = rc ? rc : bus_map(&inst->pio, &inst->com1.pio);
	rc = rc ? rc : bus_map(&inst->mmio, &inst->com1.mmio);
	rc = rc ? rc : v->ops->irq_attach(v, LAYOUT_GSI_COM1, inst->com1.irq_fd);
	if (!rc && m->command.channel) {
		rc = bus_map(&inst->pio, &inst->com2.pio);
		rc = rc ? rc : v->ops->irq_attach(v, LAYOUT_GSI_COM2, inst->com2.irq_fd);
	}
	if (rc)
		return err_set(e, rc, "serial port: %s", strerror(-rc));
	/* From here on it is about speed only: nothing is lost where KVM offers less. */
	if (!kvm_shadow_init(&inst->shadow, &inst->vm, LAYOUT_UART_MMIO))
		inst->com1.shadow = &inst->shadow.shadow;
	vm_coalesce(&inst->vm, true, LAYOUT_COM1, 1, true);
	vm_coalesce(&inst->vm, false, LAYOUT_UART_MMIO, 1, true);
	if (m->command.channel)
		vm_coalesce(&inst->vm, true, LAYOUT_COM2, 1, true);
	return 0;
}

static int plug_devices(struct machine *m, struct vm_instance *inst, struct err *e)
{
	const struct devices_site site = {
		.pci = &inst->pci,
		.pio = &inst->pio,
		.mmio = &inst->mmio,
		.vmevent = &inst->vm.event,
	};

	return devices_plug(m->devices, &site, e);
}

static int init_vcpus(struct machine *m, struct vm_instance *inst, struct err *e)
{
	const struct cpu_config *cpu = &m->cfg->cpu;
	int rc;

	inst->vcpu = calloc(cpu->n, sizeof(*inst->vcpu));
	if (!inst->vcpu)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < cpu->n; i++) {
		struct vcpu_config c = {
			.vm = &inst->vm,
			.index = i,
			.apic_id = cpu_model_apic_id(inst->model, i),
			.pin = cpu->npin ? cpu->pin[i % cpu->npin] : -1,
			.pio = &inst->pio,
			.mmio = &inst->mmio,
			.ended = machine_on_vcpu_ended,
			.ready = machine_on_ready,
			.opaque = m,
		};

		inst->nvcpus++;
		rc = vcpu_init(&inst->vcpu[i], &c, e);
		if (!rc)
			rc = vcpu_setup(&inst->vcpu[i], inst->model, e);
		if (rc)
			return rc;
	}
	return 0;
}

static int load(struct machine *m, struct vm_instance *inst, struct err *e)
{
	struct boot_config boot = {
		.kernel = &m->payload.kernel,
		.initrd = m->payload.initrd,
		.ninitrd = m->payload.ninitrd,
		.cmdline = m->payload.cmdline,
		.unpack = m->cfg->unpack,
	};
	CLEANUP_FREE uint32_t *ids = calloc(m->cfg->cpu.n, sizeof(*ids));
	struct acpi_config acpi = {.ncpus = m->cfg->cpu.n,
				   .apic_id = ids,
				   .com2 = m->command.channel,
				   .nvirtio_mmio = devices_count_mmio(m->devices)};
	uint8_t bits = cpu_model_phys_bits(inst->model);
	struct boot_entry entry;
	uint64_t ram_end;
	int rc;

	if (!ids)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < m->cfg->cpu.n; i++)
		ids[i] = cpu_model_apic_id(inst->model, i);
	/* The upper half of what the CPU can address is PCI's; RAM stays below. */
	acpi.mmio64 = 1ull << (bits - 1);
	acpi.mmio64_size = acpi.mmio64 / 2;
	inst->pci.mem64 = (struct pci_window){.base = acpi.mmio64, .size = acpi.mmio64_size};
	ram_end = m->mem.region[m->mem.nregions - 1].gpa + m->mem.region[m->mem.nregions - 1].size;
	if (ram_end > acpi.mmio64)
		return err_set(e, -EINVAL,
			       "--mem: RAM would end at %#" PRIx64 ", but this host's CPU gives guests "
			       "%u address bits, of which RAM may have half",
			       ram_end, bits);
	rc = acpi_build(&acpi, &m->mem, &boot.rsdp, e);
	rc = rc ? rc : boot_load(&boot, &m->mem, &entry, e);
	return rc ? rc : vcpu_set_entry(&inst->vcpu[0], &entry, e);
}

void machine_instance_free(struct machine *m)
{
	struct vm_instance *inst = m->inst;

	m->inst = NULL;
	devices_unplug(m->devices); /* first: nothing may raise an interrupt of a VM that is gone */
	serial_fini(&inst->com1);
	serial_fini(&inst->com2);
	kvm_shadow_fini(&inst->shadow);
	for (unsigned i = 0; i < inst->nvcpus; i++)
		vcpu_fini(&inst->vcpu[i]);
	free(inst->vcpu);
	cpu_model_free(inst->model);
	pci_fini(&inst->pci);
	bus_fini(&inst->pio);
	bus_fini(&inst->mmio);
	vm_fini(&inst->vm);
	free(inst);
}

int machine_instance_new(struct machine *m, struct err *e)
{
	struct vm_instance *inst = calloc(1, sizeof(*inst));
	int rc;

	if (!inst)
		return err_set(e, -ENOMEM, "out of memory");
	inst->vm.vm_fd = inst->vm.kvm_fd = inst->com1.irq_fd = inst->com2.irq_fd = -1;
	m->inst = inst;
	bus_init(&inst->pio);
	bus_init(&inst->mmio);
	rc = vm_init_from(&inst->vm, m->kvm_fd, e);
	if (rc)
		return rc;
	if (m->cfg->reboot == REBOOT_AGAIN && m->kvm_fd < 0)
		m->kvm_fd = fcntl(inst->vm.kvm_fd, F_DUPFD_CLOEXEC, 0);
	rc = vm_map_mem(&inst->vm, &m->mem, e);
	if (rc)
		return rc;
	rc = platform_init(&inst->platform, &inst->pio, machine_on_platform, m);
	rc = rc ? rc : pci_init(&inst->pci, &inst->pio, &inst->mmio, machine_on_reset_port, m);
	if (rc)
		return err_set(e, rc, "platform devices: %s", strerror(-rc));
	rc = init_serials(m, inst, e);
	rc = rc ? rc : plug_devices(m, inst, e);
	rc = rc ? rc : cpu_model_init(&inst->model, &inst->vm, &m->cfg->cpu, e);
	rc = rc ? rc : init_vcpus(m, inst, e);
	return rc ? rc : load(m, inst, e);
}

void machine_count(const struct machine *m, struct run_stats *s)
{
	const struct vm_instance *inst = m->inst;

	for (unsigned i = 0; i < inst->nvcpus; i++) {
		const struct vcpu_stats *v = &inst->vcpu[i].stats;

		for (unsigned r = 0; r < VCPU_EXIT_REASONS; r++)
			s->exits_total += v->exits[r];
		s->exits_io += v->exits[KVM_EXIT_IO];
		s->exits_mmio += v->exits[KVM_EXIT_MMIO];
		s->pio_unhandled += v->pio_unhandled;
		s->mmio_unhandled += v->mmio_unhandled;
		s->coalesced += v->coalesced;
	}
	s->exits_other = s->exits_total - s->exits_io - s->exits_mmio;
	s->shadow_on += inst->com1.shadow_count;
	s->ncpus = inst->nvcpus;
	if (!s->first_run_ns && inst->nvcpus && inst->vcpu[0].stats.first_run_ns) {
		s->first_run_ns = inst->vcpu[0].stats.first_run_ns - m->started_ns;
		s->first_run_cpu_ns = inst->vcpu[0].stats.first_run_cpu_ns;
	}
}

int machine_instance_run(struct machine *m, struct err *e)
{
	struct vm_instance *inst = m->inst;
	int rc = 0;

	ev_timer_arm(&m->drain, DRAIN_BUSY_MS);
	/* The threads wait: nothing of the guest runs before all are locked up. */
	for (unsigned i = 0; !rc && i < inst->nvcpus; i++) {
		vcpu_pause(&inst->vcpu[i]);
		rc = vcpu_start(&inst->vcpu[i], e);
	}
	rc = rc ? rc : sandbox_enter(&m->sandbox, e);
	for (unsigned i = 0; !rc && i < inst->nvcpus; i++)
		vcpu_resume(&inst->vcpu[i]);
	if (!rc && m->cfg->boot_timeout_ms)
		ev_timer_arm(&m->boot, m->cfg->boot_timeout_ms);
	if (!rc)
		evloop_run(m->loop);
	ev_timer_arm(&m->drain, 0);
	for (unsigned i = 0; i < inst->nvcpus; i++) {
		vcpu_stop(&inst->vcpu[i]);
		if (m->paused)
			vcpu_resume(&inst->vcpu[i]);
	}
	m->paused = false;
	for (unsigned i = 0; i < inst->nvcpus; i++)
		vcpu_join(&inst->vcpu[i]);
	m->stats.coalesced += vm_coalesced_drain(&inst->vm, machine_queued_write, inst);
	ev_timer_arm(&m->trouble, 0);
	ev_timer_arm(&m->boot, 0);
	machine_count(m, &m->stats);
	return rc;
}
