/* The composition root of the net server: options, sockets or VDUSE devices, a tap. */
/* #syscalls[server]: socket ioctl */
#include "servers/backend_kind.h"

#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "backends/tap.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/backend_wait.h"
#include "servers/net_link.h"
#include "servers/net_tap.h"
#include "servers/vduse_device.h"
#include "vmm/config_keys.h"
#include "vmm/config_values.h"

#define PATH_CHARS (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static const char help[] =
	"Usage: ringlet backend net SOCKET[,KEY...] [SOCKET[,KEY...]]\n"
	"A back end for network cards, by vhost-user or VDUSE: joins two front ends, or one\n"
	"to a tap.\n"
	"  path=SOCKET            the socket; the first word needs no key\n"
	"  vduse=NAME             instead of it, a vDPA device of the kernel's: it makes\n"
	"                         /dev/vhost-vdpa-N, and says which\n"
	"  server=on|off          on: it listens (default); off: it connects, and again\n"
	"  tap=NAME               the host's interface, instead of a second socket\n"
	"  echo                   what the driver sends comes back to it, likewise\n"
	"  queues=N               pairs, and threads; default 1\n"
	"  poll=on|off            on: the threads look all the time; default off\n"
	"  offloads=on|off        off: frames are whole and have their checksums\n"
	"  -v, --verbose          say what front ends say\n"
	"queues, poll and offloads hold for both.  Front ends: QEMU, DPDK's virtio-user,\n"
	"ringlet run --net vhost-user,path=SOCKET.  VDUSE has one pair, and wants root and the\n"
	"kernel modules vduse and vhost_vdpa; its front ends: ringlet run\n"
	"--net vdpa,path=/dev/vhost-vdpa-N, and all else that opens it.\n";

struct options {
	struct net_link_config link;
	unsigned nsockets;
	char path[2][PATH_CHARS + 1], vduse[2][VDUSE_NAME_CHARS + 1];
	bool has_server[2];
	char tap[IFNAMSIZ];
	bool has_tap, echo;
};

static int set_path(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	unsigned at = o->nsockets - 1;

	if (!*value)
		return err_set(e, -EINVAL, "expected a path, found nothing");
	if (strlen(value) > PATH_CHARS)
		return err_set(e, -EINVAL, "longer than a socket's name may be (%zu)", PATH_CHARS);
	snprintf(o->path[at], sizeof(o->path[at]), "%s", value);
	o->link.path[at] = o->path[at];
	return 0;
}

static int set_vduse(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	const unsigned at = o->nsockets - 1;
	int rc = vduse_device_name(value, e);

	snprintf(o->vduse[at], sizeof(o->vduse[at]), "%s", value);
	o->link.vduse[at] = o->vduse[at];
	return rc;
}

static int set_server(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;
	bool on;
	int rc = value_switch(value, &on, e);

	if (!rc)
		o->link.connects[o->nsockets - 1] = !on;
	o->has_server[o->nsockets - 1] = true;
	return rc;
}

static int set_tap(void *dst, const char *value, struct err *e)
{
	struct options *o = dst;

	if (value && (!*value || strlen(value) >= IFNAMSIZ || strpbrk(value, "/: \t\n")))
		return err_set(e, -EINVAL,
			       "\"%s\" cannot be the name of an interface: 1 to %d bytes, no slash, colon or "
			       "space",
			       value, IFNAMSIZ - 1);
	o->has_tap = true;
	snprintf(o->tap, sizeof(o->tap), "%s", value ? value : "");
	return 0;
}

static int set_echo(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->echo, e);
}

static int set_queues(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, NET_MAX_PAIRS, &((struct options *)dst)->link.npairs, e);
}

static int set_poll(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->link.poll, e);
}

static int set_offloads(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct options *)dst)->link.offloads, e);
}

static const struct key_def keys[] = {
	{.name = "path", .file = true, .set = set_path},
	{.name = "vduse", .set = set_vduse},
	{.name = "server", .words = "on off", .bare = true, .set = set_server},
	{.name = "tap", .bare = true, .set = set_tap},
	{.name = "ifname", .stands_for = "tap"},
	{.name = "echo", .words = "on off", .bare = true, .set = set_echo},
	{.name = "queues", .set = set_queues},
	{.name = "poll", .words = "on off", .bare = true, .set = set_poll},
	{.name = "offloads", .words = "on off", .bare = true, .set = set_offloads},
	{.name = "socket", .stands_for = "path"},
	{.name = "client", .bare = true, .hint = "say server=off"},
	{.name = "num_queues", .hint = "counts virtqueues elsewhere; say queues=N, which counts pairs"},
	{0},
};

static const char *name_of(const struct options *o, unsigned at)
{
	return o->link.vduse[at] ? o->vduse[at] : o->path[at];
}

static int check_side(const struct options *o, unsigned at, struct err *e)
{
	if (!o->link.path[at] == !o->link.vduse[at])
		return err_set(e, -EINVAL,
			       "backend net: a socket or a VDUSE device is wanted: path=SOCKET or vduse=NAME%s",
			       o->link.path[at] ? ", and not both" : "");
	if (!o->link.vduse[at])
		return 0;
	if (o->has_server[at])
		return err_set(e, -EINVAL,
			       "backend net: server= is of a socket; leave it out where vduse= stands");
	if (o->link.npairs > 1)
		return err_set(
			e, -EINVAL,
			"backend net: queues=%u: a VDUSE device can have no control queue, and so no more "
			"than one pair\nLeave out queues=%u",
			o->link.npairs, o->link.npairs);
	return 0;
}

static int check(const struct options *o, struct err *e)
{
	if (!o->nsockets)
		return err_set(e, -EINVAL,
			       "backend net: a socket is wanted: ringlet backend net SOCKET SOCKET");
	for (unsigned i = 0; i < o->nsockets; i++) {
		int rc = check_side(o, i, e);

		if (rc)
			return rc;
	}
	if (o->nsockets == 2 && !o->link.vduse[0] == !o->link.vduse[1] && !strcmp(name_of(o, 0), name_of(o, 1)))
		return err_set(e, -EINVAL, "backend net: both sockets are %s", name_of(o, 0));
	if (o->has_tap + o->echo + (o->nsockets == 2) > 1)
		return err_set(e, -EINVAL,
			       "backend net: one other end is wanted: a second socket, tap=NAME or echo");
	if (!o->has_tap && !o->echo && o->nsockets == 1)
		return err_set(e, -EINVAL,
			       "backend net: what is the other end of %s?  A second socket, tap=NAME or echo",
			       name_of(o, 0));
	return 0;
}

/* 1: help was asked for, and given. */
static int parse(struct options *o, int argc, char *const argv[], struct err *e)
{
	*o = (struct options){.link = {.npairs = 1, .offloads = true}};
	for (int i = 0; i < argc; i++) {
		int rc;

		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return 1;
		if (!strcmp(argv[i], "-v") || !strcmp(argv[i], "--verbose")) {
			log_set_level(LOG_DEBUG);
			continue;
		}
		if (argv[i][0] == '-')
			return err_set(e, -EINVAL, "backend net: unknown option %s; see ringlet backend net -h",
				       argv[i]);
		if (o->nsockets == 2)
			return err_set(e, -EINVAL, "backend net: two sockets at most; \"%s\" is one more",
				       argv[i]);
		o->nsockets++;
		rc = keys_parse(argv[i], keys, o, e);
		if (rc)
			return err_prefix(e, "backend net");
	}
	return check(o, e);
}

static void tell(const char *from, const char *to, const struct net_counts *c)
{
	printf("%s -> %s: %" PRIu64 " frames, %" PRIu64 " bytes", from, to, c->frames, c->bytes);
	if (c->dropped)
		printf(", %" PRIu64 " dropped", c->dropped);
	if (c->refused)
		printf(", %" PRIu64 " refused", c->refused);
	puts("");
}

static void add(struct net_counts *sum, const struct net_counts *c)
{
	sum->frames += c->frames;
	sum->bytes += c->bytes;
	sum->dropped += c->dropped;
	sum->refused += c->refused;
}

static void tell_link(const struct net_link *l)
{
	for (unsigned side = 0; side < l->nends; side++) {
		struct net_counts sum = {0};

		for (unsigned i = 0; i < l->c.npairs; i++)
			add(&sum, &l->lane[side][i].counts);
		tell(server_name(l->end[side]->server), server_name(l->end[l->nends - 1 - side]->server), &sum);
	}
}

static void tell_tap(const struct net_tap *t, const char *name)
{
	const char *card = server_name(net_tap_server(t));
	struct net_counts out, in;

	net_tap_counts(t, &out, &in);
	tell(card, name, &out);
	tell(name, card, &in);
}

static void say_ready(const struct options *o, const struct server *card, const char *other)
{
	char place[PATH_CHARS + 64];

	backend_place(card, place, sizeof(place));
	printf("net: %s and %s, %u queue pair%s, %s: ready\n", place, other, o->link.npairs,
	       o->link.npairs == 1 ? "" : "s", o->link.poll ? "polling" : "by kicks");
	fflush(stdout);
}

static int serve_link(const struct options *o, const sigset_t *set, struct err *e)
{
	char other[PATH_CHARS + 64] = "back";
	struct server *server[2];
	struct net_link *link;
	int rc = net_link_new(&link, &o->link, e);

	if (rc)
		return rc;
	for (unsigned i = 0; i < link->nends; i++)
		server[i] = link->end[i]->server;
	if (link->nends == 2)
		backend_place(server[1], other, sizeof(other));
	say_ready(o, server[0], other);
	backend_wait(set, server, link->nends, NULL, NULL);
	tell_link(link);
	net_link_free(link);
	return 0;
}

/* 0: not known. */
static uint16_t mtu_of(const char *tap)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", tap);
	if (fd < 0 || ioctl(fd, SIOCGIFMTU, &r) || r.ifr_mtu < 68 || r.ifr_mtu > UINT16_MAX)
		return 0;
	return (uint16_t)r.ifr_mtu;
}

static int serve_tap(struct options *o, const sigset_t *set, struct err *e)
{
	const struct tap_config c = {.ifname = o->tap};
	struct net_port *port[NET_MAX_PAIRS];
	struct net_tap *tap;
	int rc = tap_open(port, o->link.npairs, &c, e);

	if (rc)
		return rc;
	o->link.mtu = mtu_of(tap_name(port[0]));
	rc = net_tap_new(&tap, &o->link, port, e);
	if (!rc) {
		struct server *server = net_tap_server(tap);

		say_ready(o, server, tap_name(port[0]));
		backend_wait(set, &server, 1, NULL, NULL);
		tell_tap(tap, tap_name(port[0]));
		net_tap_free(tap);
	}
	for (unsigned i = 0; i < o->link.npairs; i++)
		port[i]->ops->destroy(port[i]);
	return rc;
}

static int run(int argc, char *const argv[], const sigset_t *set, struct err *e)
{
	static struct options o;
	int rc = parse(&o, argc, argv, e);

	return rc ? rc : o.has_tap ? serve_tap(&o, set, e) : serve_link(&o, set, e);
}

const struct backend_kind backend_net = {.name = "net", .help = help, .run = run};
