/* Theory of operation.
 *
 * struct machine is the process's; struct vm_instance is one life of the guest.  A guest that resets
 * under --reboot again gets a new instance: new VM, vCPUs and devices over the same (cleared) RAM, so
 * nothing of its past can survive in a register.
 *
 * Threads: the loop (main thread) owns signals, timers and the terminal; each vCPU its exits; the
 * consoles their writers.  Whoever learns that the guest is over calls end(); the first one wins. */
#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/crash.h"
#include "vmm/evloop.h"
#include "vmm/guest_mem.h"
#include "vmm/kvm/shadow.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"
#include "vmm/layout_x86.h"
#include "vmm/machine_devices.h"
#include "vmm/outcome.h"
#include "vmm/payload.h"
#include "vmm/pci.h"
#include "vmm/platform.h"
#include "vmm/serial.h"
#include "vmm/stats.h"
#include "vmm/terminal.h"

#define DRAIN_BUSY_MS  10   /* how long a queued write may wait while there are many */
#define DRAIN_IDLE_MS  250  /* ... and when none was seen for a while */
#define DRAIN_PATIENCE 50   /* so many looks in a row that find nothing are a while */
#define PANIC_GRACE_MS 3000 /* for a kernel without pvpanic to print the rest and reset */
#define FLUSH_MS       3000 /* without the reader taking anything */
#define TAIL_BYTES     3072

struct vm_instance {
	struct vm vm;
	struct cpu_model *model;
	struct bus pio, mmio;
	struct platform platform;
	struct pci pci;
	struct serial com1, com2;
	struct kvm_shadow shadow;
	struct vcpu *vcpu; /* [nvcpus] set up so far */
	unsigned nvcpus;
};

struct machine {
	const struct run_config *cfg;
	struct payload payload;
	struct guest_mem mem;
	struct evloop *loop;
	struct console *console; /* ttyS0: kernel log, or the whole terminal */
	struct console *output;  /* ttyS1: the command's output; NULL without a command */
	struct terminal terminal;
	bool has_terminal;
	struct ev_watch signals;
	struct ev_timer timeout, drain, panic;
	struct vm_instance *inst;
	struct devices *devices;
	struct control *control;
	bool paused;
	_Atomic bool output_held; /* the virtio console waits for room in ours */
	_Atomic bool input_room;  /* ... or has room for input again */
	pthread_mutex_t end_lock;
	enum outcome outcome;
	int value;
	_Atomic bool panic_seen;
	_Atomic bool asked; /* the power button was pressed */
	uint64_t console_bytes;
	unsigned quiet; /* looks at the ring, in a row, that found nothing */
	uint64_t started_ns;
	struct run_stats stats;
};

/* --- the end --- */

static bool again(const struct machine *m)
{
	return m->cfg->reboot == REBOOT_AGAIN && !m->asked &&
	       (m->outcome == OUTCOME_RESET || m->outcome == OUTCOME_TRIPLE_FAULT);
}

static bool is_final(enum outcome outcome)
{
	return outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_SIGNAL || outcome == OUTCOME_QUIT;
}

static void end(struct machine *m, enum outcome outcome, int value)
{
	pthread_mutex_lock(&m->end_lock);
	/* A guest that is about to start anew must not outlive somebody's wish to end it. */
	if (m->outcome == OUTCOME_NONE || (again(m) && is_final(outcome))) {
		m->outcome = outcome;
		m->value = value;
		evloop_quit(m->loop, 0); /* once a life: a late one would end the next */
	}
	pthread_mutex_unlock(&m->end_lock);
}

static void end_by_panic(struct machine *m)
{
	if (m->cfg->panic == PANIC_EXIT)
		end(m, OUTCOME_PANIC, 0);
	else if (m->cfg->panic == PANIC_REBOOT)
		end(m, OUTCOME_RESET, 0);
}

static void end_by_reset(struct machine *m, enum outcome outcome)
{
	if (m->panic_seen && m->cfg->panic == PANIC_EXIT)
		outcome = OUTCOME_PANIC;
	end(m, outcome, 0);
}

static void stop_self(struct machine *m)
{
	/* The vCPU that wrote the register must not run on: nothing after a power-off is meant. */
	for (unsigned i = 0; i < m->inst->nvcpus; i++)
		vcpu_stop(&m->inst->vcpu[i]);
}

static void on_platform(void *opaque, enum platform_event event, uint8_t value)
{
	struct machine *m = opaque;

	switch (event) {
	case PLATFORM_POWER_OFF:
		end(m, OUTCOME_POWER_OFF, 0);
		break;
	case PLATFORM_RESET:
		end_by_reset(m, OUTCOME_RESET);
		break;
	case PLATFORM_EXIT:
		end(m, OUTCOME_ANSWER, value);
		break;
	case PLATFORM_PANIC:
		m->panic_seen = true;
		if (m->cfg->panic == PANIC_HANG)
			return;
		end_by_panic(m);
		break;
	case PLATFORM_CRASH_LOADED:
		log_guest("the guest's kernel panicked and starts its crash kernel");
		return;
	}
	stop_self(m);
}

static void on_reset_port(void *opaque)
{
	on_platform(opaque, PLATFORM_RESET, 0);
}

static void on_vcpu_ended(void *opaque, unsigned index, enum vcpu_next why)
{
	struct machine *m = opaque;

	(void)index;
	switch (why) {
	case VCPU_SHUTDOWN:
		end(m, OUTCOME_POWER_OFF, 0);
		break;
	case VCPU_RESET:
		end_by_reset(m, OUTCOME_TRIPLE_FAULT);
		break;
	case VCPU_MEMORY:
		end(m, OUTCOME_MEMORY_LOST, 0);
		break;
	default:
		end(m, OUTCOME_FAILED, 0);
		break;
	}
}

static void on_panic_words(void *opaque)
{
	struct machine *m = opaque;

	m->panic_seen = true;
	if (m->cfg->panic != PANIC_HANG)
		ev_timer_arm(&m->panic, PANIC_GRACE_MS);
}

static void on_panic_timer(struct ev_timer *t)
{
	end_by_panic(container_of(t, struct machine, panic));
}

static void on_timeout(struct ev_timer *t)
{
	end(container_of(t, struct machine, timeout), OUTCOME_TIMEOUT, 0);
}

static void press_power_button(struct machine *m)
{
	struct vmevent *v = &m->inst->vm.event;

	v->ops->irq_line(v, LAYOUT_GSI_POWER, true);
	v->ops->irq_line(v, LAYOUT_GSI_POWER, false);
}

static void on_signal(struct ev_watch *w, uint32_t events)
{
	struct machine *m = container_of(w, struct machine, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP || info.ssi_signo == SIGQUIT || m->asked) {
		end(m, OUTCOME_SIGNAL, (int)info.ssi_signo);
		return;
	}
	m->asked = true;
	log_msg(LOG_WARN, "%s: pressed the guest's power button; once more ends it at once",
		strsignal((int)info.ssi_signo));
	press_power_button(m);
}

/* --- terminal and serial ports --- */

static size_t on_input(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	if (m->cfg->dev.console.on)
		return devices_input(m->devices, data, len);
	return serial_receive(&m->inst->com1, data, len);
}

static void on_room(void *opaque)
{
	struct machine *m = opaque;

	if (m->has_terminal)
		terminal_room(&m->terminal);
}

static void on_key(void *opaque, enum terminal_key key)
{
	struct machine *m = opaque;

	if (key == TERMINAL_BREAK)
		serial_break(&m->inst->com1);
	else
		end(m, OUTCOME_QUIT, 0);
}

static void on_com1(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	m->console_bytes += len; /* under the port's lock */
	console_write(m->console, data, len);
}

static void on_virtio_console(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	m->console_bytes += len; /* by the one thread that serves the port */
	console_write(m->console, data, len);
}

static void on_com2(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	console_write(m->output, data, len);
}

static bool consoles_ready(struct machine *m, unsigned ms)
{
	return console_wait(m->console, ms) && (!m->output || console_wait(m->output, ms));
}

static bool on_ready(void *opaque)
{
	return consoles_ready(opaque, 50);
}

static bool on_virtio_console_ready(void *opaque)
{
	struct machine *m = opaque;

	if (consoles_ready(m, 0))
		return true;
	m->output_held = true;
	ev_timer_arm(&m->drain, DRAIN_BUSY_MS);
	return false;
}

/* Input that was refused: the terminal belongs to the loop, this is a data thread. */
static void on_virtio_console_room(void *opaque)
{
	struct machine *m = opaque;

	m->input_room = true;
	ev_timer_arm(&m->drain, DRAIN_BUSY_MS);
}

static void queued_write(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len)
{
	struct vm_instance *inst = opaque;

	bus_write(pio ? &inst->pio : &inst->mmio, addr, data, len);
}

static void on_drain(struct ev_timer *t)
{
	struct machine *m = container_of(t, struct machine, drain);
	unsigned n = 0;

	if (consoles_ready(m, 0)) {
		n = vm_coalesced_drain(&m->inst->vm, queued_write, m->inst);
		if (atomic_exchange(&m->output_held, false))
			devices_console_room(m->devices);
	}
	if (atomic_exchange(&m->input_room, false))
		on_room(m);
	if (!n && m->inst->com1.shadowed)
		serial_quiet(&m->inst->com1);

	m->stats.coalesced += n;
	/* Writes also come out at every exit; this is for those after which none follows. */
	m->quiet = n ? 0 : m->quiet + 1;
	ev_timer_arm(t, m->quiet < DRAIN_PATIENCE || m->output_held ? DRAIN_BUSY_MS : DRAIN_IDLE_MS);
}

/* --- one life of the guest --- */

static int init_serials(struct machine *m, struct vm_instance *inst, struct err *e)
{
	struct vmevent *v = &inst->vm.event;
	int rc;

	rc = serial_init(&inst->com1, LAYOUT_COM1, LAYOUT_UART_MMIO);
	rc = rc ? rc : serial_init(&inst->com2, LAYOUT_COM2, 0);
	inst->com1.opaque = inst->com2.opaque = m;
	inst->com1.send = on_com1;
	inst->com1.room = on_room;
	inst->com2.send = on_com2;
	rc = rc ? rc : bus_map(&inst->pio, &inst->com1.pio);
	rc = rc ? rc : bus_map(&inst->mmio, &inst->com1.mmio);
	rc = rc ? rc : v->ops->irq_attach(v, LAYOUT_GSI_COM1, inst->com1.irq_fd);
	if (!rc && m->output) {
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
	if (m->output)
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
			.ended = on_vcpu_ended,
			.ready = on_ready,
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
				   .com2 = m->output,
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

static void instance_free(struct machine *m)
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

static int instance_new(struct machine *m, struct err *e)
{
	struct vm_instance *inst = calloc(1, sizeof(*inst));
	int rc;

	if (!inst)
		return err_set(e, -ENOMEM, "out of memory");
	inst->vm.vm_fd = inst->vm.kvm_fd = inst->com1.irq_fd = inst->com2.irq_fd = -1;
	m->inst = inst;
	bus_init(&inst->pio);
	bus_init(&inst->mmio);
	rc = vm_init(&inst->vm, e);
	if (rc)
		return rc;
	rc = vm_map_mem(&inst->vm, &m->mem, e);
	if (rc)
		return rc;
	rc = platform_init(&inst->platform, &inst->pio, on_platform, m);
	rc = rc ? rc : pci_init(&inst->pci, &inst->pio, &inst->mmio, on_reset_port, m);
	if (rc)
		return err_set(e, rc, "platform devices: %s", strerror(-rc));
	rc = init_serials(m, inst, e);
	rc = rc ? rc : plug_devices(m, inst, e);
	rc = rc ? rc : cpu_model_init(&inst->model, &inst->vm, &m->cfg->cpu, e);
	rc = rc ? rc : init_vcpus(m, inst, e);
	return rc ? rc : load(m, inst, e);
}

static void count(const struct machine *m, struct run_stats *s)
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

static int instance_run(struct machine *m, struct err *e)
{
	struct vm_instance *inst = m->inst;
	int rc = 0;

	ev_timer_arm(&m->drain, DRAIN_BUSY_MS);
	for (unsigned i = 0; !rc && i < inst->nvcpus; i++)
		rc = vcpu_start(&inst->vcpu[i], e);
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
	m->stats.coalesced += vm_coalesced_drain(&inst->vm, queued_write, inst);
	ev_timer_arm(&m->panic, 0);
	count(m, &m->stats);
	return rc;
}

/* --- ringlet ctl --- */

static int ctl_pause(struct machine *m, bool pause, char *text, size_t size)
{
	if (m->paused == pause)
		return snprintf(text, size, pause ? "it is paused already" : "it is not paused"), -EALREADY;
	for (unsigned i = 0; i < m->inst->nvcpus; i++)
		pause ? vcpu_pause(&m->inst->vcpu[i]) : vcpu_resume(&m->inst->vcpu[i]);
	m->paused = pause;
	return 0;
}

static int ctl_stats(struct machine *m, char *text, size_t size)
{
	struct run_stats s = m->stats; /* of earlier lives; this one is counted at its end */
	FILE *out = fmemopen(text, size, "w");

	if (!out)
		return snprintf(text, size, "%s", strerror(errno)), -errno;
	count(m, &s);
	s.console_bytes = m->console_bytes;
	s.run_ns = clock_ns(CLOCK_MONOTONIC) - m->started_ns - s.first_run_ns;
	stats_print(&s, out);
	devices_print_stats(m->devices, out);
	fclose(out);
	return 0;
}

static int ctl_balloon(struct machine *m, const char *word, char *text, size_t size)
{
	struct err e = {0};
	uint64_t bytes;
	int rc = config_parse_size(word, &bytes);

	if (rc)
		return snprintf(text, size, "\"%s\" is no size; for example 256M", word), rc;
	rc = devices_set_balloon(m->devices, bytes, &e);
	if (rc)
		snprintf(text, size, "%s", e.text);
	return rc;
}

static int ctl_resize(struct machine *m, const char *disk, char *text, size_t size)
{
	struct err e = {0};
	int rc = devices_resize_disk(m->devices, disk, &e);

	if (rc)
		snprintf(text, size, "%s", e.text);
	return rc;
}

/* On the loop's thread. */
static int on_control(void *opaque, int argc, char *const argv[], char *text, size_t size)
{
	struct machine *m = opaque;
	const char *arg = argc > 1 ? argv[1] : NULL;

	if (!strcmp(argv[0], "resize-disk") && argc <= 2)
		return ctl_resize(m, arg, text, size);
	if (!strcmp(argv[0], "balloon") && argc == 2)
		return ctl_balloon(m, arg, text, size);
	if (!strcmp(argv[0], "pause") && argc == 1)
		return ctl_pause(m, true, text, size);
	if (!strcmp(argv[0], "resume") && argc == 1)
		return ctl_pause(m, false, text, size);
	if (!strcmp(argv[0], "stats") && argc == 1)
		return ctl_stats(m, text, size);
	if (!strcmp(argv[0], "power-button") && argc == 1) {
		m->asked = true;
		press_power_button(m);
		return 0;
	}
	if (!strcmp(argv[0], "quit") && argc == 1) {
		end(m, OUTCOME_QUIT, 0);
		return 0;
	}
	snprintf(text, size, "\"%s\" with %d words after it is nothing that I know; see \"ringlet help ctl\"",
		 argv[0], argc - 1);
	return -EINVAL;
}

/* --- the process --- */

static int init_control(struct machine *m, struct err *e)
{
	const struct control_config c = {
		.name = m->cfg->name,
		.path = m->cfg->control,
		.request = on_control,
		.opaque = m,
	};
	int rc = control_open(&m->control, m->loop, &c, e);

	if (!rc || m->cfg->name || m->cfg->control)
		return rc;
	/* Nobody asked for it, and a guest runs without. */
	log_info("%s", e->text);
	*e = (struct err){0};
	return 0;
}

static int init_consoles(struct machine *m, struct err *e)
{
	struct console_config c = {.out_fd = m->cfg->argv ? -1 : STDOUT_FILENO,
				   .log_fd = -1,
				   .panicked = on_panic_words,
				   .opaque = m};

	if (m->cfg->log) {
		c.log_fd = open(m->cfg->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
				0666);
		if (c.log_fd < 0)
			return err_set(e, -errno, "--log %s: %s", m->cfg->log, strerror(errno));
	}
	m->console = console_new(&c, e);
	if (!m->console)
		return e->code;
	if (m->cfg->argv) {
		struct console_config o = {.out_fd = STDOUT_FILENO, .log_fd = -1};

		m->output = console_new(&o, e);
		if (!m->output)
			return e->code;
	}
	return 0;
}

static int init_devices(struct machine *m, struct err *e)
{
	const struct devices_console console = {
		.output = on_virtio_console,
		.ready = on_virtio_console_ready,
		.room = on_virtio_console_room,
		.opaque = m,
	};

	return devices_open(&m->devices, &m->cfg->dev, &m->mem, &console, e);
}

/* One that our parent had ignored (nohup, a background job's Ctrl-C) stays so. */
static void watch_signal(sigset_t *set, int sig)
{
	struct sigaction sa;

	if (!sigaction(sig, NULL, &sa) && sa.sa_handler != SIG_IGN)
		sigaddset(set, sig);
}

static int init_loop(struct machine *m, struct err *e)
{
	sigset_t set;
	int rc;

	signal(SIGPIPE, SIG_IGN); /* a closed stdout is the console's business */
	sigemptyset(&set);
	watch_signal(&set, SIGTERM);
	watch_signal(&set, SIGINT);
	watch_signal(&set, SIGHUP);
	watch_signal(&set, SIGQUIT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	m->loop = evloop_new();
	if (!m->loop)
		return err_set(e, -errno, "event loop: %s", strerror(errno));
	m->signals.fn = on_signal;
	m->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	rc = m->signals.fd < 0 ? -errno : evloop_add(m->loop, &m->signals, EPOLLIN);
	rc = rc ? rc : ev_timer_init(&m->timeout, m->loop, on_timeout);
	rc = rc ? rc : ev_timer_init(&m->drain, m->loop, on_drain);
	rc = rc ? rc : ev_timer_init(&m->panic, m->loop, on_panic_timer);
	return rc ? err_set(e, rc, "event loop: %s", strerror(-rc)) : 0;
}

static int init_terminal(struct machine *m, struct err *e)
{
	struct terminal_config t = {.input = on_input, .key = on_key, .opaque = m};
	int rc;

	if (m->cfg->argv) /* the command has no input */
		return 0;
	rc = terminal_init(&m->terminal, m->loop, &t);
	if (rc)
		return err_set(e, rc, "terminal: %s", strerror(-rc));
	m->has_terminal = true;
	return 0;
}

static int run(struct machine *m, struct err *e)
{
	struct rlimit files;
	int rc = payload_open(&m->payload, m->cfg, e);

	/* A vCPU takes a file descriptor. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* What may take long comes before signals are the loop's. */
	rc = rc ? rc : guest_mem_init(&m->mem, &m->cfg->mem, LAYOUT_HOLE_START, LAYOUT_HOLE_END, e);
	rc = rc ? rc : init_loop(m, e);
	if (rc)
		return rc;
	crash_install(&m->mem);
	rc = init_consoles(m, e);
	rc = rc ? rc : init_control(m, e);
	rc = rc ? rc : init_devices(m, e);
	rc = rc ? rc : instance_new(m, e);
	rc = rc ? rc : init_terminal(m, e);
	if (rc)
		return rc;
	if (m->cfg->timeout_ms)
		ev_timer_arm(&m->timeout, m->cfg->timeout_ms);
	for (;;) {
		rc = instance_run(m, e);
		if (rc || !again(m))
			return rc;
		instance_free(m);
		m->outcome = OUTCOME_NONE;
		m->panic_seen = false;
		guest_mem_clear(&m->mem);
		console_flush(m->console, FLUSH_MS);
		console_watch_again(m->console);
		rc = instance_new(m, e);
		if (rc)
			return rc;
		on_room(m); /* the port that had refused input is gone */
	}
}

static void show_tail(struct machine *m)
{
	char tail[TAIL_BYTES];

	/* With the console on the terminal the user has just read it. */
	if (!m->cfg->argv || !console_tail(m->console, tail, sizeof(tail)))
		return;
	fprintf(stderr, "ringlet: the console's last lines:\n%s", tail);
}

static void fini(struct machine *m)
{
	if (m->has_terminal)
		terminal_fini(&m->terminal);
	console_free(m->output, FLUSH_MS);
	console_free(m->console, FLUSH_MS);
	if (m->inst)
		instance_free(m);
	devices_close(m->devices);
	control_close(m->control);
	crash_install(NULL);
	guest_mem_fini(&m->mem);
	payload_close(&m->payload);
	ev_timer_fini(&m->timeout);
	ev_timer_fini(&m->drain);
	ev_timer_fini(&m->panic);
	if (m->signals.fd >= 0)
		close(m->signals.fd);
	evloop_free(m->loop);
}

static int report_stats(struct machine *m)
{
	const struct run_config *cfg = m->cfg;
	int rc;

	m->stats.console_bytes = m->console_bytes;
	m->stats.run_ns = clock_ns(CLOCK_MONOTONIC) - m->started_ns - m->stats.first_run_ns;
	if (cfg->stats && !cfg->stats_path) {
		stats_print(&m->stats, stderr);
		devices_print_stats(m->devices, stderr);
	}
	rc = cfg->stats_path ? stats_write_json(&m->stats, cfg->stats_path) : 0;
	if (rc)
		log_error("--stats %s: %s", cfg->stats_path, strerror(-rc));
	return rc;
}

static int dry_run(struct machine *m, const struct config *cfg)
{
	CLEANUP_FREE char *line = NULL;
	unsigned long size = (unsigned long)config_print_run(cfg, NULL, 0) + 1;
	struct err e = {0};
	int rc = payload_open(&m->payload, m->cfg, &e);

	line = malloc(size);
	if (!rc && !line)
		rc = err_set(&e, -ENOMEM, "out of memory");
	if (rc) {
		log_error("%s", e.text);
	} else {
		config_print_run(cfg, line, size);
		printf("%s\n# kernel: %s (%s)\n# kernel command line: %s\n", line, m->payload.kernel_path,
		       m->payload.kernel.version[0] ? m->payload.kernel.version : "ELF", m->payload.cmdline);
	}
	payload_close(&m->payload);
	return rc ? STATUS_FAILED : 0;
}

int machine_run(const struct config *cfg)
{
	struct machine m = {
		.cfg = &cfg->run,
		.started_ns = clock_ns(CLOCK_MONOTONIC),
		.end_lock = PTHREAD_MUTEX_INITIALIZER,
		.mem.fd = -1,
		.signals.fd = -1,
		.timeout.watch.fd = -1,
		.drain.watch.fd = -1,
		.panic.watch.fd = -1,
		.payload = {.kernel.fd = -1, .initrd_fd = -1},
	};
	struct err e = {0};
	char why[256], line[8192];
	int status;

	if (cfg->run.dry_run)
		return dry_run(&m, cfg);
	if (!cfg->run.kernel) { /* so little was said: say what was made of it */
		config_print_run(cfg, line, sizeof(line));
		fprintf(stderr, "# %s\n", line);
	}
	if (run(&m, &e)) {
		terminal_restore();
		log_error("%s", e.text);
		m.outcome = OUTCOME_FAILED;
	}
	status = outcome_status(m.outcome, m.value, cfg->run.argv, why, sizeof(why));
	terminal_restore();
	if (m.console)
		console_flush(m.console, FLUSH_MS);
	if (m.output && !console_flush(m.output, FLUSH_MS)) {
		log_error("the command's output could not all be written");
		status = status ? status : STATUS_FAILED;
	}
	if (why[0])
		log_msg(LOG_ERROR, "%s", why);
	if (m.inst &&
	    (status == STATUS_NO_ANSWER ||
	     (m.outcome != OUTCOME_POWER_OFF && m.outcome != OUTCOME_ANSWER && m.outcome != OUTCOME_QUIT)))
		show_tail(&m);
	m.stats.status = status;
	if (m.inst && (cfg->run.stats || cfg->run.stats_path) && report_stats(&m) && !status)
		status = STATUS_FAILED;
	fini(&m);
	return status;
}
