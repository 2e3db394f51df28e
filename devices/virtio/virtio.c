/* Features, status, configuration space: what the driver sees of a device whatever the transport. */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "devices/virtio/virtio_queue.h"
#include "lib/log.h"

#define BIT(n) (UINT64_C(1) << (n))

/* Bits 24 to 49 are the rings', the transports' and reserved (2.2); of these we know: */
#define CORE_BITS (BIT(50) - BIT(24))
#define RING_BITS                                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) |           \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET))

/* What a driver may set; NEEDS_RESET is ours. */
#define DRIVER_STATUS                                                                                          \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |                    \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

/* --- events --- */

/* With life_lock held. */
static void config_irq(struct virtio_device *dev)
{
	if ((dev->status & VIRTIO_CONFIG_S_DRIVER_OK) && !dev->resetting)
		dev->transport->ops->config_irq(dev->transport);
}

void virtio_config_changed(struct virtio_device *dev)
{
	dev->config_generation++;
	pthread_mutex_lock(&dev->life_lock);
	config_irq(dev);
	pthread_mutex_unlock(&dev->life_lock);
}

/* What a ring's error means; the C library's words are about files. */
static const char *reason(int err)
{
	switch (err < 0 ? -err : err) {
	case EILSEQ:
		return "a malformed chain or index";
	case EFAULT:
		return "an address that is not RAM";
	case E2BIG:
		return "a chain of more pieces than there may be";
	case EBUSY:
		return "a chain that is in flight already";
	default:
		return strerror(err < 0 ? -err : err);
	}
}

void virtio_needs_reset(struct virtio_device *dev, const char *why, int err)
{
	bool first;

	pthread_mutex_lock(&dev->life_lock);
	first = dev->status && !dev->resetting && !(dev->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	if (first) {
		dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
		config_irq(dev);
	}
	pthread_mutex_unlock(&dev->life_lock);
	if (first)
		log_guest("%s: %s (%s); the device stands still until its driver resets it", dev->name, why,
			  reason(err));
}

static void on_config_changed(void *opaque)
{
	virtio_config_changed(opaque);
}

static void on_failed(void *opaque, int err)
{
	virtio_needs_reset(opaque, "who serves its queues has failed", err);
}

static void on_let_go(void *opaque)
{
	struct virtio_device *dev = opaque;

	pthread_mutex_lock(&dev->life_lock);
	dev->lingers = false;
	if (dev->let_go_due) {
		dev->let_go_due = dev->resetting = false;
		dev->status = 0;
	}
	pthread_mutex_unlock(&dev->life_lock);
}

static const struct datapath_events events = {
	.config_changed = on_config_changed,
	.failed = on_failed,
	.let_go = on_let_go,
};

/* --- init --- */

static int check(struct virtio_device *dev, uint64_t here, struct err *e)
{
	if (dev->nqueues > VIRTIO_MAX_QUEUES)
		return err_set(e, -EINVAL, "%s: %u queues are more than %u", dev->name, dev->nqueues,
			       VIRTIO_MAX_QUEUES);
	if (!dev->mem || !dev->loop || (!dev->local && !dev->remote))
		return err_set(e, -EINVAL, "%s: no memory, no loop, or nobody to serve its queues", dev->name);
	if (dev->ops->config_size(dev) > VIRTIO_MAX_CONFIG)
		return err_set(e, -EINVAL, "%s: a configuration of %zu bytes is larger than %u", dev->name,
			       dev->ops->config_size(dev), VIRTIO_MAX_CONFIG);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		const struct virtio_queue *q = &dev->queue[i];

		if (q->max_size > VIRTIO_MAX_QUEUE_SIZE || (q->max_size & (q->max_size - 1)))
			return err_set(e, -EINVAL,
				       "%s: a queue of %u entries; it must be a power of two up to %u",
				       dev->name, q->max_size, VIRTIO_MAX_QUEUE_SIZE);
		if (q->max_size && (here & QUEUE_BIT(i)) && (!dev->local || !q->loop))
			return err_set(e, -EINVAL, "%s: nobody to serve queue %u", dev->name, i);
	}
	return 0;
}

static uint16_t power_of_two_up_to(uint16_t n)
{
	uint16_t p = 1;

	while (p <= n / 2)
		p = (uint16_t)(p * 2);
	return p;
}

/* Narrows the device to what dp can do for these of its queues. */
static int narrow(struct virtio_device *dev, struct datapath *dp, uint64_t queues, struct err *e)
{
	struct datapath_offer offer = {0};
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < dev->nqueues; i++)
		if ((queues & QUEUE_BIT(i)) && dev->queue[i].max_size)
			n++;
	if (!dp || (!n && dp == dev->local && dev->remote))
		return 0;
	rc = dp->ops->offer(dp, &offer);
	if (rc)
		return err_set(e, rc, "%s: %s does not answer: %s", dev->name, dp->ops->name, strerror(-rc));
	if (offer.device_id && offer.device_id != dev->ops->id)
		return err_set(e, -ENODEV, "%s: %s serves virtio device type %u, not %u (%s)", dev->name,
			       dp->ops->name, offer.device_id, dev->ops->id, dev->ops->name);
	if (offer.max_queues && n > offer.max_queues)
		return err_set(e, -EINVAL, "%s: %s serves at most %u queues, not %u", dev->name, dp->ops->name,
			       offer.max_queues, n);
	for (unsigned i = 0; offer.max_queue_size && i < dev->nqueues; i++)
		if ((queues & QUEUE_BIT(i)) && dev->queue[i].max_size > offer.max_queue_size)
			dev->queue[i].max_size = power_of_two_up_to(offer.max_queue_size);
	dev->offered &= offer.features | ~offer.opinion;
	ledger_part(&dev->ledger, dp->ops->name, offer.features, offer.opinion);
	if (dp == dev->remote)
		dev->renew_fds = offer.keeps_fds;
	dp->opaque = dev; /* whoever sees the one sees the other */
	__atomic_store_n(&dp->events, &events, __ATOMIC_RELEASE);
	return 0;
}

static void close_fds(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		queue_close_fds(&dev->queue[i]);
}

int virtio_narrow(struct virtio_device *dev, struct err *e)
{
	const uint64_t here = queues_local(dev);
	int rc;

	dev->renew_fds = false;
	dev->offered = (dev->ops->features(dev) & ~CORE_BITS) | RING_BITS;
	ledger_begin(&dev->ledger, dev->offered, dev->hidden);
	rc = narrow(dev, dev->local, here, e);
	if (!rc)
		rc = narrow(dev, dev->remote, ~here, e);
	if (rc)
		return rc;
	dev->offered &= ~dev->hidden;
	if (!(dev->offered & BIT(VIRTIO_F_VERSION_1)))
		return err_set(e, -EOPNOTSUPP, "%s: who serves its queues knows only virtio before 1.0",
			       dev->name);
	return 0;
}

/* The device will not be; who would serve it may live on for a while. */
static void forget_events(struct virtio_device *dev)
{
	if (dev->remote)
		__atomic_store_n(&dev->remote->events, NULL, __ATOMIC_RELEASE);
	if (dev->local)
		dev->local->events = NULL;
}

int virtio_init(struct virtio_device *dev, struct err *e)
{
	int rc = check(dev, queues_local(dev), e);

	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->life_lock, NULL);
	if (!rc)
		rc = virtio_narrow(dev, e);
	if (rc) {
		forget_events(dev);
		return rc;
	}

	for (unsigned i = 0; i < dev->nqueues; i++)
		dev->queue[i].kick_fd = dev->queue[i].call_fd = -1;
	for (unsigned i = 0; i < dev->nqueues && !rc; i++)
		if (dev->queue[i].max_size)
			rc = queue_make_fds(&dev->queue[i]);
	if (rc) {
		forget_events(dev);
		close_fds(dev);
		return err_set(e, rc, "%s: no descriptors for its queues: %s (ulimit -n)", dev->name,
			       strerror(-rc));
	}
	for (unsigned i = 0; i < dev->nqueues; i++)
		queue_clear(&dev->queue[i]);
	dev->accepted = 0;
	dev->accepted_beyond = dev->resetting = dev->let_go_due = dev->lingers = false;
	dev->status = 0;
	dev->running_queues = 0;
	return 0;
}

static void begin_reset(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->life_lock);
	dev->resetting = true;
	pthread_mutex_unlock(&dev->life_lock);
}

/* 2.4.1: silent and still when the status reads 0. */
static void end_reset(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->life_lock);
	dev->let_go_due = queues_linger(dev);
	dev->status = dev->let_go_due ? VIRTIO_CONFIG_S_NEEDS_RESET : 0;
	dev->resetting = dev->let_go_due;
	pthread_mutex_unlock(&dev->life_lock);
}

void virtio_fini(struct virtio_device *dev)
{
	begin_reset(dev);
	queues_stop(dev, UINT64_MAX);
	close_fds(dev);
	pthread_mutex_destroy(&dev->life_lock);
	pthread_mutex_destroy(&dev->lock);
}

/* --- features --- */

uint32_t virtio_features(const struct virtio_device *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->offered >> (32 * word)) : 0;
}

uint32_t virtio_accepted(const struct virtio_device *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->accepted >> (32 * word)) : 0;
}

void virtio_set_features(struct virtio_device *dev, uint32_t word, uint32_t bits)
{
	if (dev->status & VIRTIO_CONFIG_S_FEATURES_OK || dev->let_go_due)
		return;
	if (word > 1) {
		dev->accepted_beyond |= bits != 0;
		return;
	}
	dev->accepted = (dev->accepted & ~(UINT64_C(0xffffffff) << (32 * word))) | (uint64_t)bits
											   << (32 * word);
}

bool virtio_has(const struct virtio_device *dev, unsigned bit)
{
	return bit < 64 && (dev->status & VIRTIO_CONFIG_S_FEATURES_OK) && (dev->accepted & BIT(bit));
}

/* Step 5 of 3.1.1. */
static bool features_ok(struct virtio_device *dev)
{
	const uint64_t accepted = dev->accepted, excess = accepted & ~dev->offered;

	dev->refused = excess;
	if (excess || dev->accepted_beyond) {
		log_guest("%s: the driver accepts features that were never offered (%#llx%s)", dev->name,
			  (unsigned long long)excess, dev->accepted_beyond ? " and past bit 63" : "");
		return false;
	}
	if (!(accepted & BIT(VIRTIO_F_VERSION_1))) {
		log_guest("%s: the driver is for devices before virtio 1.0", dev->name);
		return false;
	}
	if (dev->ops->negotiated && dev->ops->negotiated(dev, accepted)) {
		log_guest("%s: the driver accepts features that need others (%#llx)", dev->name,
			  (unsigned long long)accepted);
		return false;
	}
	return true;
}

/* --- status --- */

uint8_t virtio_status(const struct virtio_device *dev)
{
	return dev->status;
}

static void add_status(struct virtio_device *dev, uint8_t bits)
{
	pthread_mutex_lock(&dev->life_lock);
	dev->status |= bits;
	pthread_mutex_unlock(&dev->life_lock);
}

static void reset(struct virtio_device *dev)
{
	begin_reset(dev);
	queues_stop(dev, UINT64_MAX);
	if (dev->ops->reset)
		dev->ops->reset(dev);
	if (dev->transport)
		dev->transport->ops->reset(dev->transport);
	for (unsigned i = 0; i < dev->nqueues; i++)
		queue_clear(&dev->queue[i]);
	dev->accepted = 0;
	dev->accepted_beyond = false;
	end_reset(dev);
}

/* From here on the device is live, even if only to say that it does not work. */
static void driver_ok(struct virtio_device *dev)
{
	int rc;

	add_status(dev, VIRTIO_CONFIG_S_DRIVER_OK);
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) { /* set while nobody could be told */
		pthread_mutex_lock(&dev->life_lock);
		config_irq(dev);
		pthread_mutex_unlock(&dev->life_lock);
		return;
	}
	rc = queues_start(dev, queues_ready(dev));
	if (rc)
		virtio_needs_reset(dev, "it cannot start", rc);
}

void virtio_set_status(struct virtio_device *dev, uint8_t status)
{
	const uint8_t old = dev->status;
	const uint8_t set = status & (uint8_t)~old & DRIVER_STATUS;

	if (!status) {
		reset(dev);
		return;
	}
	if (dev->let_go_due)
		return;
	add_status(dev, set & (uint8_t) ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK));
	if (dev->status & VIRTIO_CONFIG_S_FAILED) /* given up on until the next reset (2.1.1) */
		return;
	if ((set & VIRTIO_CONFIG_S_FEATURES_OK) && features_ok(dev))
		add_status(dev, VIRTIO_CONFIG_S_FEATURES_OK);
	/* Queues are set up between the two, so one write cannot set both. */
	if ((set & VIRTIO_CONFIG_S_DRIVER_OK) && (old & VIRTIO_CONFIG_S_FEATURES_OK))
		driver_ok(dev);
}

/* --- configuration space --- */

/* How much of [off, off + len) there is. */
static unsigned config_len(struct virtio_device *dev, uint64_t off, unsigned len)
{
	const uint64_t size = dev->ops->config_size(dev);

	if (off >= size)
		return 0;
	return size - off < len ? (unsigned)(size - off) : len;
}

/* A driver reads in parts what other threads change meanwhile: what differs from the last look is a new
 * generation before the driver has it (4.1.4.3.1), whether or not somebody has announced the change yet. */
static void config_look(struct virtio_device *dev)
{
	const size_t size = dev->ops->config_size(dev);
	uint8_t now[VIRTIO_MAX_CONFIG];

	if (!size)
		return;
	dev->ops->config_read(dev, 0, now, size);
	if (!memcmp(now, dev->config_seen, size))
		return;
	memcpy(dev->config_seen, now, size);
	dev->config_generation++;
}

void virtio_config_read(struct virtio_device *dev, uint64_t off, void *buf, unsigned len)
{
	const unsigned n = config_len(dev, off, len);

	memset(buf, 0, len);
	if (!n)
		return;
	config_look(dev);
	memcpy(buf, dev->config_seen + off, n);
}

void virtio_config_write(struct virtio_device *dev, uint64_t off, const void *buf, unsigned len)
{
	const unsigned n = config_len(dev, off, len);

	if (n && dev->ops->config_write)
		dev->ops->config_write(dev, (size_t)off, buf, n);
}
