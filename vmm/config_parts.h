/* What the options of the virtio devices share: config_devices.c, config_net.c, config_disk.c,
 * config_console.c. */
#ifndef VMM_CONFIG_PARTS_H
#define VMM_CONFIG_PARTS_H
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "vmm/config.h"
#include "vmm/config_devices.h"
#include "vmm/config_values.h"

#define LATER           "not in this version"
#define CONFIG_NOT_SAID UINT_MAX

/* What every virtio device takes.  The lists of all options start with this. */
struct device_list {
	struct config *cfg;
	struct virtio_config virtio;
	struct remote_options remote;
};
struct device_list config_device_list(struct config *cfg); /* with the defaults */

/* Setters of switches differ in nothing but where the switch is. */
#define SWITCH(name, type, field)                                                                              \
	static int name(void *dst, const char *value, struct err *e)                                           \
	{                                                                                                      \
		return value_switch(value, &((struct type *)dst)->field, e);                                   \
	}

/* list starts with a struct device_list; *copy lives as long as its cfg.  0 or -ENOMEM. */
int config_keep_in_list(void *list, const char *value, const char **copy, struct err *e);

/* Keys of those served elsewhere (config_remote.c), for tables of keys. */
int config_remote_path(void *list, const char *value, struct err *e);
int config_remote_server(void *list, const char *value, struct err *e);
int config_remote_wait(void *list, const char *value, struct err *e);
int config_remote_reconnect(void *list, const char *value, struct err *e);
#define CONFIG_REMOTE_KEYS                                                                                     \
	{.name = "path", .file = true, .set = config_remote_path},                                             \
		{.name = "server", .words = "on off", .bare = true, .set = config_remote_server},              \
		{.name = "wait", .set = config_remote_wait},                                                   \
	{                                                                                                      \
		.name = "reconnect", .set = config_remote_reconnect                                            \
	}
/* Does what was said go with this way of being served?  vhost_user, vdpa: which it is.  0 or -EINVAL. */
int config_remote_check(struct remote_options *r, bool vhost_user, bool vdpa, struct err *e);

/* "vsock": the option without its dashes. */
const char *config_generic_name(enum generic_kind kind);

/* Of two words, whether it is the second. */
int config_second(const char *value, const char *words, bool *second, struct err *e);

bool config_is_one_of(const char *text, const char *const words[], size_t n);
#endif
