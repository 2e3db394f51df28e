/* --vsock, --scsi, --fs, --device: devices with no model of their own here. */
#include <ctype.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config_options.h"
#include "vmm/config_parts.h"

#define TAG_MAX 36 /* of struct virtio_fs_config */

struct generic_list {
	struct device_list device; /* first */
	struct generic_options generic;
};

const char *config_generic_name(enum generic_kind kind)
{
	static const char *const names[] = {
		[GENERIC_VSOCK] = "vsock",
		[GENERIC_SCSI] = "scsi",
		[GENERIC_FS] = "fs",
		[GENERIC_VHOST_USER] = "device",
	};

	return names[kind];
}

/* What the kind's first word may be. */
static int only(const char *value, const char *word, struct err *e)
{
	return strcmp(value, word) ? err_set(e, -EINVAL, "\"%s\" is not here; say %s", value, word) : 0;
}

static int by_vhost(void *dst, const char *value, struct err *e)
{
	(void)dst;
	return only(value, "vhost", e);
}

static int by_vhost_user(void *dst, const char *value, struct err *e)
{
	(void)dst;
	return only(value, "vhost-user", e);
}

/* Others call every device one, and name its model here. */
static int device_kind(void *dst, const char *value, struct err *e)
{
	(void)dst;
	if (!strcmp(value, "vhost-user"))
		return 0;
	return err_set(e, -EINVAL,
		       "\"%s\" is not here; say vhost-user,path=SOCKET,type=NAME, or the option of that kind "
		       "of device: --net, --disk, --vsock, --scsi, --fs, --rng, --balloon, --console virtio",
		       value);
}

static int generic_cid(void *dst, const char *value, struct err *e)
{
	/* 0 to 2 are the hypervisor, loopback and the host, 2^32 - 1 is anybody. */
	unsigned n;
	int r = value_number(value, 3, 0xfffffffe, &n, e);

	if (r == 0)
		((struct generic_list *)dst)->generic.cid = n;
	return r;
}

static int generic_wwpn(void *dst, const char *value, struct err *e)
{
	size_t len = strlen(value);

	if (len < 5 || len > 223 ||
	    (strncmp(value, "naa.", 4) && strncmp(value, "eui.", 4) && strncmp(value, "iqn.", 4)))
		return err_set(e, -EINVAL, "\"%s\" is not the name of a target, such as naa.5001405a2b3c4d5e",
			       value);
	return config_keep_in_list(dst, value, &((struct generic_list *)dst)->generic.wwpn, e);
}

static int generic_tag(void *dst, const char *value, struct err *e)
{
	size_t len = strlen(value);

	if (!len || len > TAG_MAX)
		return err_set(e, -EINVAL, "\"%s\" is not 1 to %d bytes", value, TAG_MAX);
	return config_keep_in_list(dst, value, &((struct generic_list *)dst)->generic.tag, e);
}

static int generic_queues(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, 62, &((struct generic_list *)dst)->generic.queues, e);
}

static int generic_type(void *dst, const char *value, struct err *e)
{
	static const struct {
		const char *name;
		uint32_t id;
	} types[] = {
		{"net", VIRTIO_ID_NET},       {"blk", VIRTIO_ID_BLOCK},       {"console", VIRTIO_ID_CONSOLE},
		{"rng", VIRTIO_ID_RNG},       {"scsi", VIRTIO_ID_SCSI},       {"9p", VIRTIO_ID_9P},
		{"gpu", VIRTIO_ID_GPU},       {"input", VIRTIO_ID_INPUT},     {"vsock", VIRTIO_ID_VSOCK},
		{"crypto", VIRTIO_ID_CRYPTO}, {"fs", VIRTIO_ID_FS},           {"pmem", VIRTIO_ID_PMEM},
		{"sound", VIRTIO_ID_SOUND},   {"i2c", VIRTIO_ID_I2C_ADAPTER}, {"gpio", VIRTIO_ID_GPIO},
	};
	uint32_t *id = &((struct generic_list *)dst)->generic.id;
	unsigned n;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(value, types[i].name)) {
			*id = types[i].id;
			return 0;
		}
	if (!isdigit((unsigned char)*value))
		return err_set(
			e, -EINVAL,
			"\"%s\" is no type that I know; say its number (5 of the virtio specification) or "
			"fs, scsi, blk, net, rng, console, vsock, gpu, input, crypto, sound, i2c, gpio, pmem, "
			"9p",
			value);
	if (value_number(value, 1, 63, &n, e) < 0)
		return e->code;
	*id = n;
	return 0;
}

static int nibble(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static int generic_config(void *dst, const char *value, struct err *e)
{
	struct generic_options *g = &((struct generic_list *)dst)->generic;
	size_t len = strlen(value);

	if (!len || len % 2 || len / 2 > CONFIG_MAX_BYTES)
		return err_set(e, -EINVAL,
			       "expected 1 to %d bytes of two hexadecimal digits each, found %zu digits",
			       CONFIG_MAX_BYTES, len);
	for (size_t i = 0; i < len; i += 2) {
		int high = nibble(value[i]), low = nibble(value[i + 1]);

		if (high < 0 || low < 0)
			return err_set(e, -EINVAL, "\"%.2s\" is no byte in hexadecimal", value + i);
		g->config[i / 2] = (uint8_t)(high << 4 | low);
	}
	g->config_len = (unsigned)(len / 2);
	return 0;
}

const struct key_def config_vsock_keys[] = {
	{.name = "cid", .set = generic_cid},
	{.name = "guest-cid", .stands_for = "cid"},
	{.name = "guest_cid", .stands_for = "cid"},
	{.more = config_common_keys},
};

const struct key_def config_scsi_keys[] = {
	{.name = "kind", .words = "vhost", .set = by_vhost},
	{.name = "wwpn", .set = generic_wwpn},
	{.name = "queues", .set = generic_queues},
	{.name = "num_queues", .stands_for = "queues"},
	{.more = config_common_keys},
};

const struct key_def config_fs_keys[] = {
	{.name = "kind", .words = "vhost-user", .set = by_vhost_user},
	CONFIG_REMOTE_KEYS,
	{.name = "tag", .set = generic_tag},
	{.name = "queues", .set = generic_queues},
	{.name = "num_queues", .stands_for = "queues"},
	{.name = "socket", .stands_for = "path"},
	{.more = config_common_keys},
};

const struct key_def config_device_keys[] = {
	{.name = "kind", .words = "vhost-user", .set = device_kind},
	CONFIG_REMOTE_KEYS,
	{.name = "type", .set = generic_type},
	{.name = "queues", .set = generic_queues},
	{.name = "config", .set = generic_config},
	{.name = "socket", .stands_for = "path"},
	{.more = config_common_keys},
};

static int check(struct generic_options *g, struct err *e)
{
	if (g->kind == GENERIC_VSOCK && !g->cid)
		return err_set(e, -EINVAL, "the guest's number is missing: start with it, 3 or more");
	if (g->kind == GENERIC_SCSI && !g->wwpn)
		return err_set(e, -EINVAL, "its target is missing: wwpn=naa....");
	if (g->kind == GENERIC_FS && !g->tag)
		return err_set(e, -EINVAL, "its tag is missing: tag=NAME, which the guest mounts it by");
	if (g->kind == GENERIC_VHOST_USER && !g->id)
		return err_set(e, -EINVAL, "its type is missing: type=fs, or a number");
	if (g->kind == GENERIC_FS || g->kind == GENERIC_VHOST_USER)
		return config_remote_check(&g->remote, true, false, e);
	return 0;
}

static int apply(struct config *cfg, enum generic_kind kind, const struct key_def *keys, const char *value,
		 struct err *e)
{
	struct devices_config *dev = &cfg->run.dev;
	struct generic_list list = {.device = config_device_list(cfg), .generic = {.kind = kind}};
	int r;

	if (dev->ngeneric == CONFIG_MAX_GENERIC)
		return err_set(e, -EINVAL, "more than %d of --vsock, --scsi, --fs and --device",
			       CONFIG_MAX_GENERIC);
	for (unsigned i = 0; kind == GENERIC_VSOCK && i < dev->ngeneric; i++)
		if (dev->generic[i].kind == kind)
			return err_set(e, -EINVAL, "given twice; a guest has one");
	r = keys_parse(value, keys, &list, e);
	list.generic.virtio = list.device.virtio;
	list.generic.remote = list.device.remote;
	if (r == 0)
		r = check(&list.generic, e);
	if (r == 0)
		dev->generic[dev->ngeneric++] = list.generic;
	return r;
}

int config_apply_vsock(struct config *cfg, const char *value, struct err *e)
{
	return apply(cfg, GENERIC_VSOCK, config_vsock_keys, value, e);
}

int config_apply_scsi(struct config *cfg, const char *value, struct err *e)
{
	return apply(cfg, GENERIC_SCSI, config_scsi_keys, value, e);
}

int config_apply_fs(struct config *cfg, const char *value, struct err *e)
{
	return apply(cfg, GENERIC_FS, config_fs_keys, value, e);
}

int config_apply_device(struct config *cfg, const char *value, struct err *e)
{
	return apply(cfg, GENERIC_VHOST_USER, config_device_keys, value, e);
}
