/* What --net, --disk, --fs and --device say of a back end elsewhere. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/un.h>

#include "vmm/config_parts.h"

#define WAIT_MAX_MS  (24u * 3600 * 1000)
#define SERVER_WAIT  60000 /* ms: somebody is about to start the other side */
#define SOCKET_CHARS (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static struct remote_options *remote_of(void *list)
{
	return &((struct device_list *)list)->remote;
}

int config_remote_path(void *list, const char *value, struct err *e)
{
	if (!*value)
		return err_set(e, -EINVAL, "expected a path, found nothing");
	if (strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "longer than a path can be (%d bytes)", PATH_MAX - 1);
	return config_keep_in_list(list, value, &remote_of(list)->path, e);
}

int config_remote_server(void *list, const char *value, struct err *e)
{
	return value_switch(value, &remote_of(list)->server, e);
}

static int duration(const char *value, unsigned *ms, struct err *e)
{
	uint64_t t;
	int r = value_duration(value, &t, e);

	if (r < 0)
		return r;
	if (t > WAIT_MAX_MS)
		return err_set(e, -EINVAL, "\"%s\" is longer than a day", value);
	*ms = (unsigned)t;
	return 0;
}

int config_remote_wait(void *list, const char *value, struct err *e)
{
	return duration(value, &remote_of(list)->wait_ms, e);
}

int config_remote_reconnect(void *list, const char *value, struct err *e)
{
	return duration(value, &remote_of(list)->reconnect_ms, e);
}

int config_remote_check(struct remote_options *r, bool vhost_user, bool vdpa, struct err *e)
{
	const char *lost = r->server                       ? "server"
			   : r->reconnect_ms               ? "reconnect"
			   : r->wait_ms != CONFIG_NOT_SAID ? "wait"
							   : NULL;

	if (!vhost_user && lost)
		return err_set(e, -EINVAL, "%s= goes with vhost-user", lost);
	if (!vhost_user && !vdpa && r->path)
		return err_set(e, -EINVAL, "path= goes with vhost-user and vdpa");
	if (r->wait_ms == CONFIG_NOT_SAID)
		r->wait_ms = r->server ? SERVER_WAIT : 0;
	if (vhost_user && !r->path)
		return err_set(e, -EINVAL, "its socket is missing: path=SOCKET");
	if (vhost_user && strlen(r->path) > SOCKET_CHARS)
		return err_set(e, -EINVAL, "a socket's path has at most %zu bytes: path=%s", SOCKET_CHARS,
			       r->path);
	if (vdpa && !r->path)
		return err_set(e, -EINVAL, "its device is missing: path=/dev/vhost-vdpa-0");
	return 0;
}
