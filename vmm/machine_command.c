#include "vmm/machine_command.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "vmm/machine_parts.h"

#define FLUSH_MS       200 /* between looks at what else may end the wait for a reader */
#define COMPLAINTS_MAX 100

static void on_hello(void *opaque, const char *release)
{
	struct machine *m = opaque;

	snprintf(m->command.release, sizeof(m->command.release), "%s", release);
	m->command.init_ns = clock_ns(CLOCK_MONOTONIC);
	ev_timer_arm(&m->boot, 0);
}

static void on_started(void *opaque)
{
	struct machine *m = opaque;

	m->command.started_ns = clock_ns(CLOCK_MONOTONIC);
}

static void on_output(void *opaque, enum wire_stream stream, const void *data, size_t len)
{
	struct machine *m = opaque;
	struct console *c = stream == WIRE_STDERR && m->command.err ? m->command.err : m->command.out;

	if (c)
		console_write(c, data, len);
}

static void on_complaint(void *opaque, const char *text)
{
	struct machine *m = opaque;

	snprintf(m->command.complaint, sizeof(m->command.complaint), "%s", text);
	if (m->command.complaints++ < COMPLAINTS_MAX)
		log_warn("guest: %s", text);
}

static void on_exited(void *opaque, const struct channel_exit *how)
{
	struct machine *m = opaque;

	m->command.how = *how;
	m->command.answer_ns = clock_ns(CLOCK_MONOTONIC);
	machine_end(m, OUTCOME_ANSWER, how->status);
}

static void on_broken(void *opaque, const char *why)
{
	struct machine *m = opaque;

	snprintf(m->command.broken, sizeof(m->command.broken), "%s", why);
	machine_end(m, OUTCOME_NO_ANSWER, 0);
}

static size_t on_send(void *opaque, enum channel_way way, const void *data, size_t len)
{
	struct machine *m = opaque;

	return way == CHANNEL_PORT ? devices_port_input(m->devices, data, len)
				   : serial_receive(&m->inst->com2, data, len);
}

/* --- the two ways to the guest --- */

static void on_port_output(void *opaque, const void *data, size_t len)
{
	channel_receive(((struct machine *)opaque)->command.channel, CHANNEL_PORT, data, len);
}

static void on_port_room(void *opaque)
{
	channel_room(((struct machine *)opaque)->command.channel);
}

void machine_command_port(struct machine *m, struct devices_console *ends)
{
	if (!m->command.channel)
		return;
	ends->port = WIRE_PORT;
	ends->port_output = on_port_output;
	ends->port_room = on_port_room;
}

void machine_on_com2(void *opaque, const void *data, size_t len)
{
	channel_receive(((struct machine *)opaque)->command.channel, CHANNEL_SERIAL, data, len);
}

void machine_on_com2_room(void *opaque)
{
	channel_room(((struct machine *)opaque)->command.channel);
}

/* --- its output --- */

static void on_out_taken(void *opaque, size_t len)
{
	channel_taken(((struct machine *)opaque)->command.channel, WIRE_STDOUT, len);
}

static void on_out_gone(void *opaque)
{
	channel_gone(((struct machine *)opaque)->command.channel, WIRE_STDOUT);
}

static void on_err_taken(void *opaque, size_t len)
{
	channel_taken(((struct machine *)opaque)->command.channel, WIRE_STDERR, len);
}

static void on_err_gone(void *opaque)
{
	channel_gone(((struct machine *)opaque)->command.channel, WIRE_STDERR);
}

int machine_command_init(struct machine *m, struct err *e)
{
	const struct channel_config c = {
		.hello = on_hello,
		.started = on_started,
		.output = on_output,
		.complaint = on_complaint,
		.exited = on_exited,
		.broken = on_broken,
		.send = on_send,
		.opaque = m,
		.input_fd = m->cfg->guest.input ? STDIN_FILENO : -1,
	};
	const struct console_config out = {
		.out_fd = STDOUT_FILENO,
		.log_fd = -1,
		.taken = on_out_taken,
		.gone = on_out_gone,
		.opaque = m,
	};
	const struct console_config err = {
		.out_fd = STDERR_FILENO,
		.log_fd = -1,
		.taken = on_err_taken,
		.gone = on_err_gone,
		.opaque = m,
	};

	if (!m->cfg->argv && !m->cfg->guest.root.source)
		return 0;
	m->command.channel = channel_new(&c, m->loop, e);
	if (!m->command.channel)
		return e->code;
	if (!m->cfg->argv)
		return 0;
	m->command.out = console_new(&out, e);
	m->command.err = m->command.out ? console_new(&err, e) : NULL;
	return m->command.err ? 0 : e->code;
}

void machine_command_restart(struct machine *m)
{
	if (!m->command.channel)
		return;
	channel_restart(m->command.channel);
	m->command.init_ns = m->command.started_ns = m->command.answer_ns = 0;
}

static int pending_signal(const struct machine *m)
{
	struct pollfd p = {.fd = m->signals.fd, .events = POLLIN};
	struct signalfd_siginfo info;

	if (poll(&p, 1, 0) != 1 || read(m->signals.fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	return (int)info.ssi_signo;
}

int machine_command_flush(struct machine *m)
{
	const uint64_t limit = m->cfg->timeout_ms * UINT64_C(1000000);
	struct console *all[] = {m->command.out, m->command.err};

	for (unsigned i = 0; i < 2; i++)
		while (all[i] && !console_flush(all[i], FLUSH_MS)) {
			int sig = pending_signal(m);

			m->command.unread = true;
			if (sig || console_lost(all[i]) ||
			    (limit && clock_ns(CLOCK_MONOTONIC) - m->started_ns > limit))
				return sig;
			m->command.unread = false;
		}
	return 0;
}

void machine_command_fini(struct machine *m)
{
	console_free(m->command.out, 0);
	console_free(m->command.err, 0);
	channel_free(m->command.channel);
}
