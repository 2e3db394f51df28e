/* --console */
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "vmm/config_options.h"
#include "vmm/config_parts.h"
#include "vmm/config_values.h"
#include "vmm/control.h"

#define MAX_SOCKET_PATH (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct console_list {
	struct device_list device; /* first */
	bool kind_set, virtio;
	unsigned nport;
	struct port_options port[CONFIG_MAX_PORTS];
};

static int console_kind(void *dst, const char *value, struct err *e)
{
	struct console_list *list = dst;

	list->kind_set = true;
	return config_second(value, "serial virtio", &list->virtio, e);
}

static int port_path(void *list, const char *path, const char **copy, struct err *e)
{
	if (!*path)
		return err_set(e, -EINVAL, "expected a socket's path after the colon, found nothing");
	if (strlen(path) > MAX_SOCKET_PATH)
		return err_set(e, -EINVAL, "%s: a socket's path has at most %zu bytes", path, MAX_SOCKET_PATH);
	return config_keep_in_list(list, path, copy, e);
}

/* NAME[:PATH]; a name has no colon. */
static int console_port(void *dst, const char *value, struct err *e)
{
	struct console_list *list = dst;
	struct port_options *port = &list->port[list->nport];
	size_t len = strcspn(value, ":");
	char name[CONTROL_NAME_MAX + 1] = "";
	int r;

	if (len <= CONTROL_NAME_MAX)
		memcpy(name, value, len);
	/* As it is that of a file in the guest and perhaps of one here. */
	if (!control_name_ok(name))
		return err_set(
			e, -EINVAL,
			"\"%.*s\" cannot be a port's name: letters, digits, . _ - and at most %d of them; "
			"for example port=agent:/tmp/agent.sock",
			(int)len, value, CONTROL_NAME_MAX);
	for (unsigned i = 0; i < list->nport; i++)
		if (!strcmp(list->port[i].name, name))
			return err_set(e, -EINVAL, "there are two ports named %s", name);
	if (list->nport == CONFIG_MAX_PORTS)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_PORTS);
	*port = (struct port_options){0};
	r = config_keep_in_list(dst, name, &port->name, e);
	if (r == 0 && value[len])
		r = port_path(dst, value + len + 1, &port->path, e);
	for (unsigned i = 0; r == 0 && port->path && i < list->nport; i++)
		if (list->port[i].path && !strcmp(list->port[i].path, port->path))
			r = err_set(e, -EINVAL, "%s is the socket of port %s already", port->path,
				    list->port[i].name);
	list->nport += r == 0;
	return r;
}

const struct key_def config_console_keys[] = {
	{.name = "kind", .words = "serial virtio", .set = console_kind},
	{.name = "port", .set = console_port},
	{.name = "file", .hint = "say --log FILE for a copy"},
	{.name = "socket", .hint = "a byte stream beside the console is port=NAME:PATH"},
	{.more = config_common_keys},
};

int config_apply_console(struct config *cfg, const char *value, struct err *e)
{
	struct console_list list = {.device = config_device_list(cfg)};
	struct devices_config *dev = &cfg->run.dev;
	int r = keys_parse(value, config_console_keys, &list, e);

	if (r < 0)
		return r;
	if (!list.kind_set)
		return err_set(e, -EINVAL, "its kind is missing: start with serial or virtio");
	if (!list.virtio && strchr(value, ','))
		return err_set(e, -EINVAL, "serial takes no keys; they go with virtio");
	dev->console = (struct simple_options){.on = list.virtio};
	if (list.virtio)
		dev->console.virtio = list.device.virtio;
	dev->nport = list.nport;
	memcpy(dev->port, list.port, sizeof(dev->port));
	return 0;
}

int config_finish_ports(const struct run_config *run, struct err *e)
{
	const struct devices_config *dev = &run->dev;

	/* Under a name that is a process number nobody would find it. */
	for (unsigned i = 0; i < dev->nport; i++)
		if (!dev->port[i].path && !run->name)
			return err_set(
				e, -EINVAL,
				"--console: port=%s: where its socket shall be is not said: port=%s:PATH, or "
				"--name NAME, and it is in the directory of that name",
				dev->port[i].name, dev->port[i].name);
	return 0;
}
