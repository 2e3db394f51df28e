/* The composition root of the disk server: options, a socket, a file. */
/* #syscalls[server]: fstat */
#include "servers/backend_kind.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "backends/file_disk.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/backend_wait.h"
#include "servers/blk_memory.h"
#include "servers/blk_server.h"
#include "servers/vduse_device.h"
#include "vmm/config_keys.h"
#include "vmm/config_values.h"

#define PATH_CHARS  (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define MEMORY      "memory"
#define MEMORY_SIZE GIB

static const char help[] =
	"Usage: ringlet backend blk SOCKET[,KEY...] FILE[,KEY...]\n"
	"A back end for disks, by vhost-user or VDUSE: a front end's disk is FILE, byte for\n"
	"byte, or a block device, or memory.\n"
	" of SOCKET:\n"
	"  path=SOCKET            the socket; the first word needs no key\n"
	"  vduse=NAME             instead of it, a vDPA device of the kernel's: it makes\n"
	"                         /dev/vhost-vdpa-N, and says which\n"
	"  server=on|off          on: it listens (default); off: it connects, and again\n"
	"  queues=N               and threads; default 1\n"
	"  poll=on|off            on: the threads look all the time; default off\n"
	" of FILE:\n"
	"  path=FILE|memory       the first word needs no key; a file named memory: ./memory\n"
	"  size=SIZE              of memory; default 1G; what is in it goes with the process\n"
	"  ro=on|off              on: nobody writes\n"
	"  direct=on|off          on: past the host's page cache\n"
	"  aio=uring|sync         how the file is read; default uring where it is allowed\n"
	"  cache=writeback|writethrough\n"
	"                         writethrough: what is written is stable at once\n"
	"  serial=TEXT            what the driver finds; up to 20 characters\n"
	"  format=raw             take it for raw bytes whatever it looks like\n"
	"  -v, --verbose          say what front ends say\n"
	"A front end that keeps an in-flight buffer loses nothing when the back end is killed\n"
	"and started again.  Front ends: QEMU, ringlet run --disk vhost-user,path=SOCKET.\n"
	"VDUSE keeps none, and wants root and the kernel modules vduse and vhost_vdpa; its\n"
	"front ends: ringlet run --disk vdpa,path=/dev/vhost-vdpa-N, and all else that opens it.\n";

struct options {
	struct blk_server_config server;
	struct file_disk_config file;
	uint64_t size; /* of memory; 0: not said */
	bool memory, has_server;
	char socket[PATH_CHARS + 1], vduse[VDUSE_NAME_CHARS + 1];
	char path[PATH_MAX], serial[VIRTIO_BLK_ID_BYTES + 1];
};

/* --- of the socket --- */

static int set_socket(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;

	if (!*value)
		return err_set(e, -EINVAL, "expected a path, found nothing");
	if (strlen(value) > PATH_CHARS)
		return err_set(e, -EINVAL, "longer than a socket's name may be (%zu)", PATH_CHARS);
	snprintf(o->socket, sizeof(o->socket), "%s", value);
	o->server.path = o->socket;
	return 0;
}

static int set_vduse(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	int rc = vduse_device_name(value, e);

	snprintf(o->vduse, sizeof(o->vduse), "%s", value);
	o->server.vduse = o->vduse;
	return rc;
}

static int set_server(void *dst, const char *value, struct err *e)
{
	bool on;
	int rc = value_switch(value, &on, e);

	if (!rc)
		((struct options *)dst)->server.connects = !on;
	((struct options *)dst)->has_server = true;
	return rc;
}

static int set_queues(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, BLK_SERVER_QUEUES, &((struct options *)dst)->server.nqueues, e);
}

static int set_poll(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->server.poll, e);
}

static const struct key_def socket_keys[] = {
	{.name = "path", .file = true, .set = set_socket},
	{.name = "vduse", .set = set_vduse},
	{.name = "server", .words = "on off", .bare = true, .set = set_server},
	{.name = "queues", .set = set_queues},
	{.name = "poll", .words = "on off", .bare = true, .set = set_poll},
	{.name = "socket", .stands_for = "path"},
	{.name = "num-queues", .stands_for = "queues"},
	{.name = "client", .bare = true, .hint = "say server=off"},
	{0},
};

/* --- of the file --- */

static int set_path(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;

	if (!*value)
		return err_set(e, -EINVAL, "expected a file, found nothing");
	if (strlen(value) >= sizeof(o->path))
		return err_set(e, -EINVAL, "longer than a path can be (%zu bytes)", sizeof(o->path) - 1);
	snprintf(o->path, sizeof(o->path), "%s", value);
	o->file.path = o->path;
	o->memory = !strcmp(value, MEMORY);
	return 0;
}

static int set_size(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	int rc = value_size(value, &o->size, e);

	if (!rc && (!o->size || o->size % 512))
		return err_set(e, -EINVAL, "\"%s\" is no multiple of 512 bytes", value);
	return rc;
}

static int set_ro(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->file.read_only, e);
}

static int set_direct(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->file.direct, e);
}

static int set_aio(void *dst, const char *value, struct err *e)
{
	unsigned which;
	int rc = value_choice(!strcmp(value, "io_uring") ? "uring" : value, "uring sync", &which, e);

	if (!rc)
		((struct options *)dst)->file.aio = which ? FILE_AIO_SYNC : FILE_AIO_URING;
	return rc;
}

static int set_cache(void *dst, const char *value, struct err *e)
{
	unsigned which;
	int rc = value_choice(value, "writeback writethrough", &which, e);

	if (!rc)
		((struct options *)dst)->server.writethrough = which;
	return rc;
}

static int set_serial(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	const size_t len = strlen(value);

	if (!len || len > VIRTIO_BLK_ID_BYTES)
		return err_set(e, -EINVAL, "\"%s\" is not 1 to %d characters", value, VIRTIO_BLK_ID_BYTES);
	snprintf(o->serial, sizeof(o->serial), "%s", value);
	o->server.serial = o->serial;
	return 0;
}

static int set_format(void *dst, const char *value, struct err *e)
{
	unsigned which;
	int rc = value_choice(value, "raw", &which, e);

	if (!rc)
		((struct options *)dst)->file.raw = true;
	return rc;
}

static const struct key_def file_keys[] = {
	{.name = "path", .file = true, .set = set_path},
	{.name = "size", .set = set_size},
	{.name = "ro", .words = "on off", .bare = true, .set = set_ro},
	{.name = "direct", .words = "on off", .bare = true, .set = set_direct},
	{.name = "aio", .words = "uring sync", .set = set_aio},
	{.name = "cache", .words = "writeback writethrough", .set = set_cache},
	{.name = "serial", .set = set_serial},
	{.name = "format", .words = "raw", .set = set_format},
	{.name = "file", .stands_for = "path"},
	{.name = "readonly", .stands_for = "ro"},
	{0},
};

/* --- both --- */

static int check(const struct options *o, unsigned nwords, struct err *e)
{
	if (!nwords)
		return err_set(e, -EINVAL,
			       "backend blk: a socket and a file are wanted: ringlet backend blk SOCKET FILE");
	if (!o->server.path == !o->server.vduse)
		return err_set(e, -EINVAL,
			       "backend blk: a socket or a VDUSE device is wanted: path=SOCKET or vduse=NAME%s",
			       o->server.path ? ", and not both" : "");
	if (o->has_server && o->server.vduse)
		return err_set(e, -EINVAL,
			       "backend blk: server= is of a socket; leave it out where vduse= stands");
	if (!o->file.path)
		return err_set(e, -EINVAL,
			       "backend blk: what is the disk behind %s?  A file, a block device or memory",
			       o->server.vduse ? o->vduse : o->socket);
	if (o->size && !o->memory)
		return err_set(e, -EINVAL,
			       "backend blk: size= is for memory; a file has its own: truncate -s SIZE %s",
			       o->path);
	if (o->memory && (o->file.read_only || o->file.direct || o->file.aio || o->file.raw))
		return err_set(
			e, -EINVAL,
			"backend blk: memory has a size and a serial; ro, direct, aio and format are for "
			"files\nA file of that name: ./" MEMORY);
	return 0;
}

/* 1: help was asked for, and given. */
static int parse(struct options *o, int argc, char *const argv[], struct err *e)
{
	unsigned nwords = 0;

	*o = (struct options){.server = {.nqueues = 1}};
	for (int i = 0; i < argc; i++) {
		int rc;

		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return 1;
		if (!strcmp(argv[i], "-v") || !strcmp(argv[i], "--verbose")) {
			log_set_level(LOG_DEBUG);
			continue;
		}
		if (argv[i][0] == '-')
			return err_set(e, -EINVAL, "backend blk: unknown option %s; see ringlet backend blk -h",
				       argv[i]);
		if (nwords == 2)
			return err_set(e, -EINVAL, "backend blk: one socket and one file; \"%s\" is one more",
				       argv[i]);
		rc = keys_parse(argv[i], nwords++ ? file_keys : socket_keys, o, e);
		if (rc)
			return err_prefix(e, "backend blk");
	}
	return check(o, nwords, e);
}

static void say_ready(const struct options *o, const struct disk *d, const struct server *s)
{
	char size[32], place[PATH_CHARS + 64];

	format_size(d->size, size, sizeof(size));
	backend_place(s, place, sizeof(place));
	printf("blk: %s is %s, %s%s by %s, %u queue%s, %s: ready\n", place, o->path, size,
	       d->read_only ? " read-only" : "", d->ops->name, o->server.nqueues,
	       o->server.nqueues == 1 ? "" : "s", o->server.poll ? "polling" : "by kicks");
	fflush(stdout);
}

/* Meanwhile the file may be made larger. */
static void refresh(void *opaque)
{
	struct disk *d = opaque;

	d->ops->refresh(d);
}

static void tell(struct blk_server *s, const struct options *o)
{
	struct blk_server_counts c;

	blk_server_counts(s, &c);
	printf("%s: %" PRIu64 " requests, %" PRIu64 " bytes, %" PRIu64 " kicks, %" PRIu64 " calls, %" PRIu64
	       " system calls\n",
	       o->path, c.requests, c.bytes, c.kicks, c.calls, c.syscalls);
}

static int serve(struct options *o, const sigset_t *set, struct err *e)
{
	struct disk *d =
		o->memory ? blk_memory_new(o->size ? o->size : MEMORY_SIZE, e) : file_disk_open(&o->file, e);
	struct blk_server *s;
	int rc;

	if (!d)
		return err_prefix(e, "backend blk");
	o->server.disk = d;
	o->server.in_order = o->memory;
	rc = blk_server_new(&s, &o->server, e);
	if (!rc) {
		struct server *wire = blk_server_wire(s);

		say_ready(o, d, wire);
		backend_wait(set, &wire, 1, refresh, d);
		tell(s, o);
		blk_server_free(s);
	}
	d->ops->destroy(d);
	return rc;
}

static int run(int argc, char *const argv[], const sigset_t *set, struct err *e)
{
	static struct options o;
	int rc = parse(&o, argc, argv, e);

	return rc ? rc : serve(&o, set, e);
}

const struct backend_kind backend_blk = {.name = "blk", .help = help, .run = run};
