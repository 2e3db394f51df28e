/* The console device, and the sockets of its named ports. */
#include <errno.h>

#include "backends/socket_port.h"
#include "devices/console/virtio_console.h"
#include "lib/log.h"
#include "vmm/control.h"
#include "vmm/devices_parts.h"

_Static_assert(SOCKET_PORT_CHUNK >= CONSOLE_CHUNK_MAX, "what a port puts out at a time fits its socket");
_Static_assert(2 + CONFIG_MAX_PORTS <= CONSOLE_PORTS_MAX, "the console has as many ports as may be asked for");

static void stream_output(void *opaque, const void *data, size_t len)
{
	socket_port_output(((struct stream *)opaque)->socket, data, len);
}

static bool stream_ready(void *opaque)
{
	return socket_port_ready(((struct stream *)opaque)->socket);
}

static void stream_room(void *opaque)
{
	socket_port_room(((struct stream *)opaque)->socket);
}

static size_t stream_on_input(void *opaque, const void *data, size_t len)
{
	const struct stream *s = opaque;

	return virtio_console_input(s->virtio, s->port, data, len);
}

static void stream_on_room(void *opaque)
{
	const struct stream *s = opaque;

	virtio_console_room(s->virtio, s->port);
}

static int open_stream(struct devices *all, const struct port_options *o, const struct control *control,
		       struct err *e)
{
	struct stream *s = &all->stream[all->nstream];
	struct socket_port_config c = {
		.path = o->path,
		.input = stream_on_input,
		.room = stream_on_room,
		.opaque = s,
	};
	char path[256];
	int rc = 0;

	s->virtio = all->console->virtio;
	s->port = all->nstream + 1;
	if (!o->path) {
		rc = control_port_path(control, o->name, path, sizeof(path), e);
		c.path = path;
	}
	rc = rc ? rc : socket_port_open(&s->socket, all->console->thread[0].loop, &c, e);
	if (rc)
		return err_prefix(e, "--console: port=%s", o->name);
	log_info("console port %s: %s", o->name, c.path);
	all->nstream++;
	return 0;
}

size_t devices_port_input(struct devices *all, const void *data, size_t len)
{
	return virtio_console_input(all->console->virtio, all->own_port, data, len);
}

/* What the device is, by what was asked for and what we need. */
static const struct virtio_config *virtio_of(struct devices *all, const struct devices_config *cfg)
{
	if (cfg->console.on)
		return &cfg->console.virtio;
	all->own_console =
		(struct virtio_config){.transport = cfg->transport, .event_idx = true, .indirect = true};
	return &all->own_console;
}

int add_console(struct devices *all, const struct devices_config *cfg, const struct devices_console *ends,
		struct err *e)
{
	const struct virtio_config *virtio = virtio_of(all, cfg);
	struct device *d = next_device(all, virtio, "console", 0);
	struct console_port_config port[2 + CONFIG_MAX_PORTS];
	struct console_device_config c = {
		.name = d->name,
		.mem = all->mem,
		.port = port,
		.multiport = true, /* what is typed while the guest starts is kept */
		.hidden = hidden_ring_bits(virtio, false),
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	if (cfg->console.on)
		port[c.nports++] = (struct console_port_config){
			.console = true,
			.output = ends->output,
			.ready = ends->ready,
			.room = ends->room,
			.opaque = ends->opaque,
		};
	for (unsigned i = 0; i < cfg->nport; i++)
		port[c.nports++] = (struct console_port_config){
			.name = cfg->port[i].name,
			.output = stream_output,
			.ready = stream_ready,
			.room = stream_room,
			.opaque = &all->stream[i],
		};
	all->own_port = c.nports;
	if (ends->port)
		port[c.nports++] = (struct console_port_config){
			.name = ends->port,
			.output = ends->port_output,
			.room = ends->port_room,
			.opaque = ends->opaque,
		};
	d->virtio = virtio_console_new(&c, e);
	all->console = d;
	rc = d->virtio ? 0 : e->code;
	for (unsigned i = 0; !rc && i < cfg->nport; i++)
		rc = open_stream(all, &cfg->port[i], ends->control, e);
	return rc;
}
