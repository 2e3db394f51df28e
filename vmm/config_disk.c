/* --disk */
#include <errno.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config_options.h"
#include "vmm/config_parts.h"
#include "vmm/config_values.h"

struct disk_list {
	struct device_list device; /* first */
	struct disk_options disk;
};

static int disk_path(void *dst, const char *value, struct err *e)
{
	if (!*value)
		return err_set(e, -EINVAL, "expected a file, found nothing");
	if (strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "longer than a path can be (%d bytes)", PATH_MAX - 1);
	return config_keep_in_list(dst, value, &((struct disk_list *)dst)->disk.path, e);
}

SWITCH(disk_ro, disk_list, disk.read_only)
SWITCH(disk_direct, disk_list, disk.direct)

static int disk_aio(void *dst, const char *value, struct err *e)
{
	struct disk_list *list = dst;
	bool sync;
	int r = config_second(!strcmp(value, "io_uring") ? "uring" : value, "uring sync", &sync, e);

	if (r == 0)
		list->disk.aio = sync ? DISK_AIO_SYNC : DISK_AIO_URING;
	return r;
}

static int disk_cache(void *dst, const char *value, struct err *e)
{
	if (!strcmp(value, "none") || !strcmp(value, "directsync"))
		return err_set(e, -EINVAL, "\"%s\" says two things at a time; say direct,cache=%s", value,
			       *value == 'n' ? "writeback" : "writethrough");
	return config_second(value, "writeback writethrough", &((struct disk_list *)dst)->disk.writethrough, e);
}

static int disk_queues(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_QUEUES, &((struct disk_list *)dst)->disk.queues, e);
}

static int disk_serial(void *dst, const char *value, struct err *e)
{
	size_t len = strlen(value);

	for (const char *s = value; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			len = 0;
	if (!len || len > VIRTIO_BLK_ID_BYTES)
		return err_set(e, -EINVAL, "\"%s\" is not 1 to %d characters of ASCII", value,
			       VIRTIO_BLK_ID_BYTES);
	return config_keep_in_list(dst, value, &((struct disk_list *)dst)->disk.serial, e);
}

static int disk_format(void *dst, const char *value, struct err *e)
{
	((struct disk_list *)dst)->disk.raw = true;
	if (!strcmp(value, "raw"))
		return 0;
	return err_set(e, -EINVAL,
		       "\"%s\" is " LATER ": the file is the disk, byte for byte; qemu-storage-daemon can "
		       "serve others: say vhost-user,path=SOCKET",
		       value);
}

static int disk_if(void *dst, const char *value, struct err *e)
{
	(void)dst;
	if (!strcmp(value, "virtio"))
		return 0;
	return err_set(e, -EINVAL, "\"%s\" is not here: every disk is virtio", value);
}

static int disk_media(void *dst, const char *value, struct err *e)
{
	(void)dst;
	if (!strcmp(value, "disk"))
		return 0;
	return err_set(e, -EINVAL, "\"%s\" is not here; say FILE,ro", value);
}

#define REMOTE_KINDS     "vhost-user vdpa"
#define SERVED_ELSEWHERE "this goes with a back end: start with vhost-user,path=SOCKET"

const struct key_def config_disk_keys[] = {
	{.name = "path", .words = REMOTE_KINDS, .file = true, .set = disk_path},
	{.name = "ro", .words = "on off", .bare = true, .set = disk_ro},
	{.name = "direct", .words = "on off", .bare = true, .set = disk_direct},
	{.name = "aio", .words = "uring sync", .set = disk_aio},
	{.name = "cache", .words = "writeback writethrough", .set = disk_cache},
	{.name = "queues", .set = disk_queues},
	{.name = "serial", .set = disk_serial},
	{.name = "format", .words = "raw", .set = disk_format},
	{.name = "if", .hidden = true, .set = disk_if},
	{.name = "media", .hidden = true, .set = disk_media},
	{.name = "server", .hint = SERVED_ELSEWHERE},
	{.name = "wait", .hint = SERVED_ELSEWHERE},
	{.name = "reconnect", .hint = SERVED_ELSEWHERE},
	{.more = config_disk_aliases},
};

/* --disk vhost-user,path=... and vdpa,path=...: the disk is the back end's. */
static int remote_kind(void *dst, const char *value, struct err *e)
{
	bool vdpa;
	int r = config_second(!strcmp(value, "vhost-vdpa") ? "vdpa" : value, REMOTE_KINDS, &vdpa, e);

	if (r == 0)
		((struct disk_list *)dst)->disk.kind = vdpa ? DISK_VDPA : DISK_VHOST_USER;
	return r;
}

const struct key_def config_disk_remote_keys[] = {
	{.name = "kind", .words = REMOTE_KINDS, .set = remote_kind},
	CONFIG_REMOTE_KEYS,
	{.name = "queues", .set = disk_queues},
	{.name = "ro", .hint = "the back end says whether it is read-only"},
	{.name = "direct", .hint = "the back end opens the file; say it there"},
	{.name = "aio", .hint = "the back end does the I/O; say it there"},
	{.name = "cache", .hint = "the back end does the I/O; say it there"},
	{.name = "serial", .hint = "the back end says it; say it there"},
	{.name = "format", .hint = "the back end opens the file; say it there"},
	{.name = "socket", .stands_for = "path"},
	{.name = "num_queues", .stands_for = "queues"},
	{.more = config_common_keys},
};

/* A file of such a name is path=vdpa, and one with a comma behind it, which is doubled, is another. */
static bool starts_with_kind(const char *value)
{
	static const char *const remote[] = {"vdpa", "vhost-vdpa", "vhost-user"};
	const size_t first = strcspn(value, ",");

	if (value[first] && value[first + 1] == ',')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(remote); i++)
		if (strlen(remote[i]) == first && !memcmp(value, remote[i], first))
			return true;
	return false;
}

int config_apply_disk(struct config *cfg, const char *value, struct err *e)
{
	struct devices_config *dev = &cfg->run.dev;
	struct disk_list list = {.device = config_device_list(cfg), .disk = {.queues = 1}};
	const bool elsewhere = starts_with_kind(value);
	int r;

	if (dev->ndisk == CONFIG_MAX_DISKS)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_DISKS);
	r = keys_parse(value, elsewhere ? config_disk_remote_keys : config_disk_keys, &list, e);
	if (r < 0)
		return r;
	list.disk.virtio = list.device.virtio;
	list.disk.remote = list.device.remote;
	r = config_remote_check(&list.disk.remote, list.disk.kind == DISK_VHOST_USER,
				list.disk.kind == DISK_VDPA, e);
	if (r < 0)
		return r;
	if (!elsewhere && !list.disk.path)
		return err_set(e, -EINVAL, "its file is missing: start with FILE or path=FILE");
	dev->disk[dev->ndisk++] = list.disk;
	return 0;
}
