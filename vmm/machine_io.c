/* The guest's console and our terminal: serial ports, the virtio console, what is typed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/machine_parts.h"

#define DRAIN_IDLE_MS  250 /* between looks at queued writes when none was seen for a while */
#define DRAIN_PATIENCE 50  /* so many looks in a row that find nothing are a while */

static size_t on_input(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	if (m->cfg->dev.console.on)
		return devices_input(m->devices, data, len);
	return serial_receive(&m->inst->com1, data, len);
}

void machine_on_room(void *opaque)
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
		machine_end(m, OUTCOME_QUIT, 0);
}

void machine_on_com1(void *opaque, const void *data, size_t len)
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

bool machine_on_ready(void *opaque)
{
	struct machine *m = opaque;

	return console_wait(m->console, 50);
}

static bool on_virtio_console_ready(void *opaque)
{
	struct machine *m = opaque;

	if (console_wait(m->console, 0))
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

void machine_queued_write(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len)
{
	struct vm_instance *inst = opaque;

	bus_write(pio ? &inst->pio : &inst->mmio, addr, data, len);
}

void machine_on_drain(struct ev_timer *t)
{
	struct machine *m = container_of(t, struct machine, drain);
	unsigned n = 0;

	if (console_wait(m->console, 0)) {
		n = vm_coalesced_drain(&m->inst->vm, machine_queued_write, m->inst);
		if (atomic_exchange(&m->output_held, false))
			devices_console_room(m->devices);
	}
	if (atomic_exchange(&m->input_room, false))
		machine_on_room(m);
	if (!n && m->inst->com1.shadowed)
		serial_quiet(&m->inst->com1);

	m->stats.coalesced += n;
	/* Writes also come out at every exit; this is for those after which none follows. */
	m->quiet = n ? 0 : m->quiet + 1;
	ev_timer_arm(t, m->quiet < DRAIN_PATIENCE || m->output_held ? DRAIN_BUSY_MS : DRAIN_IDLE_MS);
}

int machine_init_consoles(struct machine *m, struct err *e)
{
	struct console_config c = {.out_fd = m->cfg->argv ? -1 : STDOUT_FILENO,
				   .log_fd = -1,
				   .noticed = machine_on_trouble,
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
	return machine_command_init(m, e);
}

int machine_init_terminal(struct machine *m, struct err *e)
{
	struct terminal_config t = {.input = on_input, .key = on_key, .opaque = m};
	int rc;

	if (m->cfg->argv) /* what input there is, is the command's */
		return 0;
	rc = terminal_init(&m->terminal, m->loop, &t);
	if (rc)
		return err_set(e, rc, "terminal: %s", strerror(-rc));
	m->has_terminal = true;
	return 0;
}

struct devices_console machine_virtio_console(struct machine *m)
{
	struct devices_console ends = {
		.output = on_virtio_console,
		.ready = on_virtio_console_ready,
		.room = on_virtio_console_room,
		.opaque = m,
		.control = m->control,
	};

	machine_command_port(m, &ends);
	return ends;
}
