#include "vmm/config_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config_options.h"
#include "vmm/config_parts.h"
#include "vmm/config_values.h"

#define NO_PLACE  "where a device sits is not chosen; leave it out"
#define ALWAYS_ON "it is always on; leave it out"

struct device_list config_device_list(struct config *cfg)
{
	return (struct device_list){
		.cfg = cfg,
		.virtio = {.event_idx = true, .indirect = true},
		.remote = {.wait_ms = CONFIG_NOT_SAID},
	};
}

int config_keep_in_list(void *list, const char *value, const char **copy, struct err *e)
{
	*copy = config_keep(((struct device_list *)list)->cfg, value);
	return *copy ? 0 : err_set(e, -ENOMEM, "no memory left");
}

bool config_is_one_of(const char *text, const char *const words[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(text, words[i]))
			return true;
	return false;
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

int config_second(const char *value, const char *words, bool *second, struct err *e)
{
	unsigned i;
	int r = value_choice(value, words, &i, e);

	if (r == 0)
		*second = i != 0;
	return r;
}

static int device_notify(void *dst, const char *value, struct err *e)
{
	return config_second(value, "ioeventfd exit", &((struct device_list *)dst)->virtio.notify_exit, e);
}

static int device_irq(void *dst, const char *value, struct err *e)
{
	return config_second(value, "irqfd ioctl", &((struct device_list *)dst)->virtio.irq_ioctl, e);
}

static int device_doorbell(void *dst, const char *value, struct err *e)
{
	return config_second(value, "mmio pio", &((struct device_list *)dst)->virtio.doorbell_pio, e);
}

SWITCH(device_packed, device_list, virtio.packed)
SWITCH(device_in_order, device_list, virtio.in_order)
SWITCH(device_event_idx, device_list, virtio.event_idx)
SWITCH(device_indirect, device_list, virtio.indirect)

/* What may follow turns single ones off again. */
static int device_bits(void *dst, const char *value, struct err *e)
{
	struct virtio_config *virtio = &((struct device_list *)dst)->virtio;
	int r = config_second(value, "common all", &virtio->all_bits, e);

	if (r == 0)
		virtio->packed = virtio->in_order = virtio->all_bits;
	return r;
}

static int device_features(void *dst, const char *value, struct err *e)
{
	struct virtio_config *virtio = &((struct device_list *)dst)->virtio;
	int r = value_bits(value, &virtio->most, e);

	virtio->has_most = r == 0;
	return r;
}

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
	{.name = "bits", .words = "common all", .set = device_bits},
	{.name = "features", .set = device_features},
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

/* --rng, --balloon */

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
	{.name = "size", .hint = "it starts empty; say ringlet ctl NAME balloon SIZE while the guest runs"},
	{.name = "deflate_on_oom", .hint = ALWAYS_ON},
	{.name = "deflate-on-oom", .hint = ALWAYS_ON},
	{.name = "free_page_reporting", .hint = ALWAYS_ON},
	{.name = "free-page-reporting", .hint = ALWAYS_ON},
	{.more = config_common_keys + 1},
};

static int apply_simple(struct config *cfg, struct simple_options *device, const struct key_def *keys,
			const char *value, struct err *e)
{
	struct device_list list = config_device_list(cfg);
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
	for (unsigned i = 0; i < dev->ngeneric; i++)
		if (finish_virtio(dev, &dev->generic[i].virtio, e) < 0)
			return err_prefix(e, "--%s", config_generic_name(dev->generic[i].kind));
	r = finish_simple(dev, &dev->rng, "--rng", e);
	if (r == 0)
		r = finish_simple(dev, &dev->balloon, "--balloon", e);
	if (r == 0)
		r = finish_simple(dev, &dev->console, "--console", e);
	return r == 0 ? config_finish_ports(&cfg->run, e) : r;
}
