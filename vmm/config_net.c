/* --net */
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/hostfwd.h"
#include "vmm/config_options.h"
#include "vmm/config_parts.h"
#include "vmm/config_values.h"

struct net_list {
	struct device_list device; /* first */
	struct net_options net;
	bool kind_set, tso_set, uso_set;
};

#define NET_KINDS "user tap vhost-user vdpa" /* enum net_kind */

static int net_kind(void *dst, const char *value, struct err *e)
{
	struct net_list *list = dst;
	unsigned i;
	int r;

	if (!strcmp(value, "vhost-vdpa"))
		value = "vdpa";
	if (!strcmp(value, "vhost-net"))
		return err_set(e, -EINVAL, "say tap,vhost=on");
	if (!strcmp(value, "passt"))
		return err_set(
			e, -EINVAL,
			"start passt --vhost-user --socket=SOCKET and say vhost-user,path=SOCKET,csum=off");
	if (!strcmp(value, "none"))
		return err_set(e, -EINVAL, "leave the option out: there is no card that was not asked for");
	r = value_choice(value, NET_KINDS, &i, e);
	if (r == 0) {
		list->net.kind = (enum net_kind)i;
		list->kind_set = true;
	}
	return r;
}

static int net_ifname(void *dst, const char *value, struct err *e)
{
	/* As the kernel has it, so that what is wrong is said here. */
	if (!*value || strlen(value) >= IFNAMSIZ || strpbrk(value, "/: \t\n\v\f\r") || !strcmp(value, ".") ||
	    !strcmp(value, ".."))
		return err_set(e, -EINVAL,
			       "\"%s\" cannot be the name of an interface: 1 to %d bytes, no slash, colon or "
			       "space",
			       value, IFNAMSIZ - 1);
	return config_keep_in_list(dst, value, &((struct net_list *)dst)->net.ifname, e);
}

/* "tap", the kind; and as others have it, tap=tap0. */
static int net_tap(void *dst, const char *value, struct err *e)
{
	int r = net_kind(dst, "tap", e);

	return r == 0 && value && *value ? net_ifname(dst, value, e) : r;
}

static int net_fd(void *dst, const char *value, struct err *e)
{
	static const char *const standard[] = {"input", "output", "error"};
	unsigned n;
	int r = value_number(value, 0, INT_MAX, &n, e);

	if (r < 0)
		return r;
	if (n < ARRAY_SIZE(standard))
		return err_set(e, -EINVAL, "%u is standard %s; expected a tap opened before, such as fd=3", n,
			       standard[n]);
	((struct net_list *)dst)->net.fd = (int)n;
	return 0;
}

static int net_hostfwd(void *dst, const char *value, struct err *e)
{
	struct net_options *net = &((struct net_list *)dst)->net;
	struct user_net_fwd fwd;
	int r = user_net_parse_hostfwd(value, &fwd, e);

	if (r < 0)
		return r;
	if (net->nhostfwd == CONFIG_MAX_HOSTFWD)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_HOSTFWD);
	r = config_keep_in_list(dst, value, &net->hostfwd[net->nhostfwd], e);
	net->nhostfwd += r == 0;
	return r;
}

static int net_queues(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_QUEUES, &((struct net_list *)dst)->net.queues, e);
}

static int net_mac(void *dst, const char *value, struct err *e)
{
	struct net_options *net = &((struct net_list *)dst)->net;
	int r = value_mac(value, net->mac, e);

	net->has_mac |= r == 0;
	return r;
}

static int net_mtu(void *dst, const char *value, struct err *e)
{
	unsigned n;
	int r = value_number(value, 68, 65535, &n, e);

	if (r == 0)
		((struct net_list *)dst)->net.mtu = (uint16_t)n;
	return r;
}

static int net_rate(void *dst, const char *value, struct err *e)
{
	struct net_options *net = &((struct net_list *)dst)->net;

	return value_rate(value, &net->rate_bytes, &net->rate_packets, e);
}

static int net_tso(void *dst, const char *value, struct err *e)
{
	struct net_list *list = dst;

	list->tso_set = true;
	return value_switch(value, &list->net.tso, e);
}

static int net_uso(void *dst, const char *value, struct err *e)
{
	struct net_list *list = dst;

	list->uso_set = true;
	return value_switch(value, &list->net.uso, e);
}

SWITCH(net_csum, net_list, net.csum)
SWITCH(net_mrg_rxbuf, net_list, net.mrg_rxbuf)

SWITCH(net_vhost, net_list, net.vhost)

/* Microseconds, as ethtool and VHOST_SET_VRING_BUSYLOOP_TIMEOUT have it. */
static int net_busy_poll(void *dst, const char *value, struct err *e)
{
	return value_number(value, 0, 1000000, &((struct net_list *)dst)->net.busy_poll_us, e);
}

static int net_model(void *dst, const char *value, struct err *e)
{
	static const char *const virtio[] = {"virtio", "virtio-net", "virtio-net-pci"};

	(void)dst;
	if (config_is_one_of(value, virtio, ARRAY_SIZE(virtio)))
		return 0;
	return err_set(e, -EINVAL, "\"%s\" is not here: every card is virtio", value);
}

static int net_script(void *dst, const char *value, struct err *e)
{
	(void)dst;
	if (!strcmp(value, "no") || !strcmp(value, "none"))
		return 0;
	return err_set(e, -EINVAL, "no script is run; make the tap beforehand and say tap,ifname=NAME");
}

const struct key_def config_net_keys[] = {
	{.name = "kind", .words = NET_KINDS, .set = net_kind},
	{.name = "hostfwd", .set = net_hostfwd},
	{.name = "ifname", .set = net_ifname},
	{.name = "fd", .set = net_fd},
	{.name = "queues", .set = net_queues},
	{.name = "mac", .set = net_mac},
	{.name = "mtu", .set = net_mtu},
	{.name = "rate", .set = net_rate},
	{.name = "csum", .words = "on off", .bare = true, .set = net_csum},
	{.name = "tso", .words = "on off", .bare = true, .set = net_tso},
	{.name = "uso", .words = "on off", .bare = true, .set = net_uso},
	{.name = "mrg_rxbuf", .words = "on off", .bare = true, .set = net_mrg_rxbuf},
	{.name = "vhost", .words = "on off", .bare = true, .set = net_vhost},
	{.name = "poll-us", .set = net_busy_poll},
	CONFIG_REMOTE_KEYS,
	{.name = "tap", .bare = true, .hidden = true, .set = net_tap},
	{.name = "model", .hidden = true, .set = net_model},
	{.name = "script", .hidden = true, .set = net_script},
	{.more = config_net_aliases},
};

static int check_tap(const struct net_options *net, struct err *e)
{
	if (net->nhostfwd)
		return err_set(e, -EINVAL,
			       "hostfwd= goes with user; the guest behind a tap has an address of its own");
	if (net->fd >= 0 && net->ifname)
		return err_set(e, -EINVAL, "fd= and ifname= do not go together: an open tap has its name");
	if (net->fd >= 0 && net->queues > 1)
		return err_set(e, -EINVAL,
			       "queues=%u and fd= do not go together: one fd is one pair of queues; say "
			       "ifname=NAME",
			       net->queues);
	return 0;
}

/* Who serves it elsewhere, and what goes with whom. */
static int check_served(struct net_options *net, struct err *e)
{
	const bool elsewhere = net->vhost || net->kind == NET_VHOST_USER || net->kind == NET_VDPA;

	if (net->vhost && net->kind != NET_TAP)
		return err_set(e, -EINVAL, "vhost=on goes with tap");
	if (net->busy_poll_us && !net->vhost)
		return err_set(e, -EINVAL, "poll-us= goes with tap,vhost=on");
	if (elsewhere && (net->rate_bytes || net->rate_packets))
		return err_set(e, -EINVAL, "rate= goes with tap and user, whose frames cross this process");
	if (elsewhere && net->kind != NET_TAP && (net->ifname || net->fd >= 0 || net->nhostfwd))
		return err_set(e, -EINVAL, "%s= goes with %s",
			       net->ifname     ? "ifname"
			       : net->nhostfwd ? "hostfwd"
					       : "fd",
			       net->nhostfwd ? "user" : "tap");
	return config_remote_check(&net->remote, net->kind == NET_VHOST_USER, net->kind == NET_VDPA, e);
}

static int check_user(const struct net_options *net, struct err *e)
{
	if (net->ifname || net->fd >= 0)
		return err_set(e, -EINVAL, "%s= goes with tap; user has no interface on the host",
			       net->ifname ? "ifname" : "fd");
	if (net->queues > 1)
		return err_set(e, -EINVAL, "queues=%u goes with tap; user has one pair of queues", net->queues);
	return 0;
}

static int check_net(struct net_list *list, struct err *e)
{
	struct net_options *net = &list->net;

	if (!list->kind_set && !net->ifname && net->fd < 0)
		return err_set(e, -EINVAL, "its kind is missing: start with %s",
			       net->vhost ? "tap, and say tap,vhost=on" : "user, tap, vhost-user or vdpa");
	if (!list->kind_set)
		net->kind = NET_TAP;
	/* Without checksums no one can cut a large frame up. */
	if (!net->csum && ((list->tso_set && net->tso) || (list->uso_set && net->uso)))
		return err_set(e, -EINVAL, "%s=on and csum=off do not go together: segments need checksums",
			       list->tso_set && net->tso ? "tso" : "uso");
	if (net->virtio.all_bits && !list->uso_set)
		net->uso = true;
	if (!net->csum)
		net->tso = net->uso = false;
	if (net->virtio.queue_size && net->virtio.queue_size < CONFIG_MIN_NET_QUEUE_SIZE)
		return err_set(e, -EINVAL,
			       "queue-size=%u is too small for a card: Linux would wait for ever for 19 free "
			       "entries; at least %d",
			       net->virtio.queue_size, CONFIG_MIN_NET_QUEUE_SIZE);
	if (check_served(net, e) < 0)
		return e->code;
	return net->kind == NET_TAP ? check_tap(net, e) : net->kind == NET_USER ? check_user(net, e) : 0;
}

int config_apply_net(struct config *cfg, const char *value, struct err *e)
{
	struct devices_config *dev = &cfg->run.dev;
	struct net_list list = {.device = config_device_list(cfg),
				.net = {.fd = -1, .queues = 1, .csum = true, .tso = true, .mrg_rxbuf = true}};
	int r;

	if (dev->nnet == CONFIG_MAX_NETS)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_NETS);
	r = keys_parse(value, config_net_keys, &list, e);
	list.net.virtio = list.device.virtio;
	list.net.remote = list.device.remote;
	if (r == 0)
		r = check_net(&list, e);
	if (r == 0)
		dev->net[dev->nnet++] = list.net;
	return r;
}
