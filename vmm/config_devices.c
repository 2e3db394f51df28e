#include "vmm/config_devices.h"

#include <errno.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/hostfwd.h"
#include "vmm/config_options.h"
#include "vmm/config_values.h"

#define LATER    "not in this version"
#define NO_PLACE "where a device sits is not chosen; leave it out"

/* What every virtio device takes.  The lists of all options below start with this. */

struct device_list {
	struct config *cfg;
	struct virtio_config virtio;
};

/* Setters of switches differ in nothing but where the switch is. */
#define SWITCH(name, type, field)                                                                              \
	static int name(void *dst, const char *value, struct err *e)                                           \
	{                                                                                                      \
		return value_switch(value, &((struct type *)dst)->field, e);                                   \
	}

static struct device_list device_list(struct config *cfg)
{
	return (struct device_list){.cfg = cfg, .virtio = {.event_idx = true, .indirect = true}};
}

static int keep(void *dst, const char *value, const char **copy, struct err *e)
{
	*copy = config_keep(((struct device_list *)dst)->cfg, value);
	return *copy ? 0 : err_set(e, -ENOMEM, "no memory left");
}

static int device_transport(void *dst, const char *value, struct err *e)
{
	struct virtio_config *virtio = &((struct device_list *)dst)->virtio;
	unsigned i;
	int r = value_choice(value, TRANSPORT_WORDS, &i, e);

	if (r == 0) {
		virtio->transport = (enum transport_kind)i;
		virtio->transport_set = true;
	}
	return r;
}

/* Of two words, whether it is the second. */
static int value_second(const char *value, const char *words, bool *second, struct err *e)
{
	unsigned i;
	int r = value_choice(value, words, &i, e);

	if (r == 0)
		*second = i != 0;
	return r;
}

static int device_notify(void *dst, const char *value, struct err *e)
{
	return value_second(value, "ioeventfd exit", &((struct device_list *)dst)->virtio.notify_exit, e);
}

static int device_irq(void *dst, const char *value, struct err *e)
{
	return value_second(value, "irqfd ioctl", &((struct device_list *)dst)->virtio.irq_ioctl, e);
}

static int device_doorbell(void *dst, const char *value, struct err *e)
{
	return value_second(value, "mmio pio", &((struct device_list *)dst)->virtio.doorbell_pio, e);
}

SWITCH(device_packed, device_list, virtio.packed)
SWITCH(device_in_order, device_list, virtio.in_order)
SWITCH(device_event_idx, device_list, virtio.event_idx)
SWITCH(device_indirect, device_list, virtio.indirect)

static int device_queue_size(void *dst, const char *value, struct err *e)
{
	unsigned n;
	int r = value_number(value, CONFIG_MIN_QUEUE_SIZE, CONFIG_MAX_QUEUE_SIZE, &n, e);

	if (r < 0)
		return r;
	if (n & (n - 1))
		return err_set(e, -EINVAL, "%u is not a power of two", n);
	((struct device_list *)dst)->virtio.queue_size = (uint16_t)n;
	return 0;
}

static int device_pin(void *dst, const char *value, struct err *e)
{
	struct virtio_config *virtio = &((struct device_list *)dst)->virtio;

	return value_cpu_list(value, virtio->pin, CONFIG_MAX_QUEUES, &virtio->npin, e);
}

const struct key_def config_common_keys[] = {
	{.name = "transport", .words = TRANSPORT_WORDS, .set = device_transport},
	{.name = "notify", .words = "ioeventfd exit", .set = device_notify},
	{.name = "irq", .words = "irqfd ioctl", .set = device_irq},
	{.name = "doorbell", .words = "mmio pio", .set = device_doorbell},
	{.name = "packed", .words = "on off", .bare = true, .set = device_packed},
	{.name = "in_order", .words = "on off", .bare = true, .set = device_in_order},
	{.name = "event_idx", .words = "on off", .bare = true, .set = device_event_idx},
	{.name = "indirect", .words = "on off", .bare = true, .set = device_indirect},
	{.name = "queue-size", .set = device_queue_size},
	{.name = "pin", .set = device_pin},
	{.name = "queue_size", .stands_for = "queue-size"},
	{.name = "indirect_desc", .stands_for = "indirect"},
	{.name = "ioeventfd", .hint = "say notify=ioeventfd or notify=exit"},
	{.name = "iommu", .hint = "there is no IOMMU in this version"},
	{.name = "id", .hint = "devices are numbered in the order given; leave it out"},
	{.name = "bus", .hint = NO_PLACE},
	{.name = "addr", .hint = NO_PLACE},
	{.name = "pci-address", .hint = NO_PLACE},
	{.name = "pci_segment", .hint = NO_PLACE},
	{.name = NULL},
};

/* --net */

struct net_list {
	struct device_list device; /* first */
	struct net_options net;
	bool kind_set, tso_set, uso_set;
};

static bool is_one_of(const char *text, const char *const words[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(text, words[i]))
			return true;
	return false;
}

static int net_kind(void *dst, const char *value, struct err *e)
{
	static const char *const later[] = {"vdpa", "vhost-vdpa", "vhost-user", "vhost-net", "passt"};
	struct net_list *list = dst;
	unsigned i;
	int r;

	if (is_one_of(value, later, ARRAY_SIZE(later)))
		return err_set(e, -EINVAL, "%s is " LATER "; there are user and tap", value);
	if (!strcmp(value, "none"))
		return err_set(e, -EINVAL, "leave the option out: there is no card that was not asked for");
	r = value_choice(value, "user tap", &i, e);
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
	return keep(dst, value, &((struct net_list *)dst)->net.ifname, e);
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
	r = keep(dst, value, &net->hostfwd[net->nhostfwd], e);
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

static int net_vhost(void *dst, const char *value, struct err *e)
{
	bool on;
	int r = value_switch(value, &on, e);

	(void)dst;
	return r == 0 && on ? err_set(e, -EINVAL, LATER "; leave it out") : r;
}

static int net_model(void *dst, const char *value, struct err *e)
{
	static const char *const virtio[] = {"virtio", "virtio-net", "virtio-net-pci"};

	(void)dst;
	if (is_one_of(value, virtio, ARRAY_SIZE(virtio)))
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
	{.name = "kind", .words = "user tap", .set = net_kind},
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
	{.name = "tap", .bare = true, .hidden = true, .set = net_tap},
	{.name = "vhost", .bare = true, .hidden = true, .set = net_vhost},
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
		return err_set(e, -EINVAL, "its kind is missing: start with user or tap");
	if (!list->kind_set)
		net->kind = NET_TAP;
	/* Without checksums no one can cut a large frame up. */
	if (!net->csum && ((list->tso_set && net->tso) || (list->uso_set && net->uso)))
		return err_set(e, -EINVAL, "%s=on and csum=off do not go together: segments need checksums",
			       list->tso_set && net->tso ? "tso" : "uso");
	if (!net->csum)
		net->tso = net->uso = false;
	if (net->virtio.queue_size && net->virtio.queue_size < CONFIG_MIN_NET_QUEUE_SIZE)
		return err_set(e, -EINVAL,
			       "queue-size=%u is too small for a card: Linux would wait for ever for 19 free "
			       "entries; at least %d",
			       net->virtio.queue_size, CONFIG_MIN_NET_QUEUE_SIZE);
	return net->kind == NET_TAP ? check_tap(net, e) : check_user(net, e);
}

int config_apply_net(struct config *cfg, const char *value, struct err *e)
{
	struct devices_config *dev = &cfg->run.dev;
	struct net_list list = {
		.device = device_list(cfg),
		.net = {.fd = -1, .queues = 1, .csum = true, .tso = true, .uso = true, .mrg_rxbuf = true}};
	int r;

	if (dev->nnet == CONFIG_MAX_NETS)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_NETS);
	r = keys_parse(value, config_net_keys, &list, e);
	list.net.virtio = list.device.virtio;
	if (r == 0)
		r = check_net(&list, e);
	if (r == 0)
		dev->net[dev->nnet++] = list.net;
	return r;
}

/* --disk */

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
	return keep(dst, value, &((struct disk_list *)dst)->disk.path, e);
}

SWITCH(disk_ro, disk_list, disk.read_only)
SWITCH(disk_direct, disk_list, disk.direct)

static int disk_aio(void *dst, const char *value, struct err *e)
{
	struct disk_list *list = dst;
	bool sync;
	int r = value_second(!strcmp(value, "io_uring") ? "uring" : value, "uring sync", &sync, e);

	if (r == 0)
		list->disk.aio = sync ? DISK_AIO_SYNC : DISK_AIO_URING;
	return r;
}

static int disk_cache(void *dst, const char *value, struct err *e)
{
	if (!strcmp(value, "none") || !strcmp(value, "directsync"))
		return err_set(e, -EINVAL, "\"%s\" says two things at a time; say direct,cache=%s", value,
			       *value == 'n' ? "writeback" : "writethrough");
	return value_second(value, "writeback writethrough", &((struct disk_list *)dst)->disk.writethrough, e);
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
	return keep(dst, value, &((struct disk_list *)dst)->disk.serial, e);
}

static int disk_format(void *dst, const char *value, struct err *e)
{
	((struct disk_list *)dst)->disk.raw = true;
	if (!strcmp(value, "raw"))
		return 0;
	return err_set(e, -EINVAL, "\"%s\" is " LATER ": the file is the disk, byte for byte", value);
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

const struct key_def config_disk_keys[] = {
	{.name = "path", .file = true, .set = disk_path},
	{.name = "ro", .words = "on off", .bare = true, .set = disk_ro},
	{.name = "direct", .words = "on off", .bare = true, .set = disk_direct},
	{.name = "aio", .words = "uring sync", .set = disk_aio},
	{.name = "cache", .words = "writeback writethrough", .set = disk_cache},
	{.name = "queues", .set = disk_queues},
	{.name = "serial", .set = disk_serial},
	{.name = "format", .words = "raw", .set = disk_format},
	{.name = "if", .hidden = true, .set = disk_if},
	{.name = "media", .hidden = true, .set = disk_media},
	{.more = config_disk_aliases},
};

int config_apply_disk(struct config *cfg, const char *value, struct err *e)
{
	static const char *const later[] = {"vdpa", "vhost-vdpa", "vhost-user"};
	struct devices_config *dev = &cfg->run.dev;
	struct disk_list list = {.device = device_list(cfg), .disk = {.queues = 1}};
	size_t first = strcspn(value, ",");
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		if (strlen(later[i]) == first && !memcmp(value, later[i], first))
			return err_set(e, -EINVAL, "%s is " LATER "; a file of that name is path=%s", later[i],
				       later[i]);
	if (dev->ndisk == CONFIG_MAX_DISKS)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_DISKS);
	r = keys_parse(value, config_disk_keys, &list, e);
	if (r < 0)
		return r;
	if (!list.disk.path)
		return err_set(e, -EINVAL, "its file is missing: start with FILE or path=FILE");
	list.disk.virtio = list.device.virtio;
	dev->disk[dev->ndisk++] = list.disk;
	return 0;
}

/* --rng, --balloon, --console */

struct console_list {
	struct device_list device; /* first */
	bool kind_set, virtio;
};

static int console_kind(void *dst, const char *value, struct err *e)
{
	struct console_list *list = dst;

	list->kind_set = true;
	return value_second(value, "serial virtio", &list->virtio, e);
}

/* Without kinds, the transport is what may stand without its key. */
const struct key_def config_rng_keys[] = {
	{.name = "transport", .words = TRANSPORT_WORDS, .set = device_transport},
	{.name = "src", .hint = "random numbers come from the host's kernel; leave it out"},
	{.name = "max-bytes", .hint = LATER},
	{.name = "period", .hint = LATER},
	{.more = config_common_keys + 1},
};

const struct key_def config_balloon_keys[] = {
	{.name = "transport", .words = TRANSPORT_WORDS, .set = device_transport},
	{.name = "size", .hint = LATER},
	{.name = "deflate_on_oom", .hint = LATER},
	{.name = "deflate-on-oom", .hint = LATER},
	{.name = "free_page_reporting", .hint = LATER},
	{.name = "free-page-reporting", .hint = LATER},
	{.more = config_common_keys + 1},
};

const struct key_def config_console_keys[] = {
	{.name = "kind", .words = "serial virtio", .set = console_kind},
	{.name = "file", .hint = "say --log FILE for a copy"},
	{.name = "socket", .hint = LATER},
	{.more = config_common_keys},
};

static int apply_simple(struct config *cfg, struct simple_options *device, const struct key_def *keys,
			const char *value, struct err *e)
{
	struct device_list list = device_list(cfg);
	int r = value ? keys_parse(value, keys, &list, e) : 0;

	if (r == 0)
		*device = (struct simple_options){.on = true, .virtio = list.virtio};
	return r;
}

int config_apply_rng(struct config *cfg, const char *value, struct err *e)
{
	return apply_simple(cfg, &cfg->run.dev.rng, config_rng_keys, value, e);
}

int config_apply_balloon(struct config *cfg, const char *value, struct err *e)
{
	return apply_simple(cfg, &cfg->run.dev.balloon, config_balloon_keys, value, e);
}

int config_apply_console(struct config *cfg, const char *value, struct err *e)
{
	struct console_list list = {.device = device_list(cfg)};
	struct simple_options *console = &cfg->run.dev.console;
	int r = keys_parse(value, config_console_keys, &list, e);

	if (r < 0)
		return r;
	if (!list.kind_set)
		return err_set(e, -EINVAL, "its kind is missing: start with serial or virtio");
	if (!list.virtio && strchr(value, ','))
		return err_set(e, -EINVAL, "serial takes no keys; they go with virtio");
	*console = (struct simple_options){.on = list.virtio};
	if (list.virtio)
		console->virtio = list.device.virtio;
	return 0;
}

/* --transport, and what can be known only after it */

int config_apply_transport(struct config *cfg, const char *value, struct err *e)
{
	unsigned i;
	int r = value_choice(value, TRANSPORT_WORDS, &i, e);

	if (r == 0)
		cfg->run.dev.transport = (enum transport_kind)i;
	return r;
}

static int finish_virtio(const struct devices_config *dev, struct virtio_config *virtio, struct err *e)
{
	const char *by = virtio->transport_set ? "transport=mmio" : "--transport mmio";

	if (!virtio->transport_set)
		virtio->transport = dev->transport;
	virtio->transport_set = true;
	if (virtio->doorbell_pio && virtio->transport == TRANSPORT_MMIO)
		return err_set(e, -EINVAL, "doorbell=pio is for PCI, and %s makes this one MMIO", by);
	return 0;
}

static int finish_simple(const struct devices_config *dev, struct simple_options *device, const char *name,
			 struct err *e)
{
	int r = device->on ? finish_virtio(dev, &device->virtio, e) : 0;

	return r < 0 ? err_prefix(e, "%s", name) : 0;
}

static int finish_net(struct devices_config *dev, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++)
		if (dev->net[n].fd >= 0 && dev->net[i].fd == dev->net[n].fd)
			return err_set(e, -EINVAL, "fd=%d is given to net%u already", dev->net[n].fd, i);
	return finish_virtio(dev, &dev->net[n].virtio, e);
}

int config_finish_devices(struct config *cfg, struct err *e)
{
	struct devices_config *dev = &cfg->run.dev;
	int r;

	for (unsigned i = 0; i < dev->nnet; i++)
		if (finish_net(dev, i, e) < 0)
			return err_prefix(e, "--net (net%u)", i);
	for (unsigned i = 0; i < dev->ndisk; i++)
		if (finish_virtio(dev, &dev->disk[i].virtio, e) < 0)
			return err_prefix(e, "--disk (disk%u)", i);
	r = finish_simple(dev, &dev->rng, "--rng", e);
	if (r == 0)
		r = finish_simple(dev, &dev->balloon, "--balloon", e);
	return r == 0 ? finish_simple(dev, &dev->console, "--console", e) : r;
}
