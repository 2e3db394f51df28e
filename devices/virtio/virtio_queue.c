/* Queue registers, and how queues start and stop.
 *
 * Theory of operation.  A queue's fields belong to the driver until it is ready and to the device from
 * then on, so they are checked once, when it becomes ready.  A start copies them into dev->running[], hands
 * the copies to the datapaths on dev->loop, and a stop works from the copies alone.  The remote datapath
 * starts first and stops last: a control queue that is served here may act on queues served there. */
#include "devices/virtio/virtio_queue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* EAGAIN: it is signalled enough */
		return;
}

/* True if it was signalled. */
static bool drain_fd(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

int queue_make_fds(struct virtio_queue *q)
{
	if (q->kick_fd < 0)
		q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0)
		return -errno;
	if (q->call_fd < 0)
		q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->call_fd < 0 ? -errno : 0;
}

void queue_close_fds(struct virtio_queue *q)
{
	if (q->kick_fd >= 0)
		close(q->kick_fd);
	if (q->call_fd >= 0)
		close(q->call_fd);
	q->kick_fd = q->call_fd = -1;
}

/* An old peer that still polls the old ones must not take our kicks.  Where none can be made now, the next
 * start tries again. */
static void renew_fds(struct virtio_queue *q)
{
	bool pending = drain_fd(q->call_fd);

	queue_close_fds(q);
	if (!queue_make_fds(q) && pending)
		signal_fd(q->call_fd);
}

void queue_clear(struct virtio_queue *q)
{
	q->size = q->max_size;
	q->ready = q->reset = false;
	q->desc = q->avail = q->used = 0;
	drain_fd(q->kick_fd);
	drain_fd(q->call_fd);
}

uint64_t queues_ready(const struct virtio_device *dev)
{
	uint64_t ready = 0;

	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->queue[i].ready)
			ready |= QUEUE_BIT(i);
	return ready;
}

/* --- start and stop --- */

struct transition {
	struct virtio_device *dev;
	uint64_t queues;
	bool (*ready)(struct virtio_device *dev);
	int rc;
};

/* Copies those of dev->running[] in `queues` side by side, as a datapath wants them. */
static struct datapath_setup gather(struct virtio_device *dev, uint64_t queues, struct datapath_queue *out)
{
	struct datapath_setup setup = {.mem = dev->mem, .features = dev->accepted, .queue = out};

	for (unsigned i = 0; i < dev->nqueues; i++)
		if (queues & QUEUE_BIT(i))
			out[setup.nqueues++] = dev->running[i];
	return setup;
}

static int start_part(struct virtio_device *dev, struct datapath *dp, uint64_t queues)
{
	struct datapath_queue q[VIRTIO_MAX_QUEUES];
	struct datapath_setup setup = gather(dev, queues, q);
	int rc;

	if (!setup.nqueues)
		return 0;
	rc = dp->ops->start(dp, &setup);
	/* It may have come some way, and says how far. */
	for (unsigned i = 0; rc && i < setup.nqueues; i++) {
		dev->running[q[i].index].next = q[i].next;
		dev->running[q[i].index].lost = q[i].lost;
	}
	return rc;
}

static void stop_part(struct virtio_device *dev, struct datapath *dp, uint64_t queues)
{
	struct datapath_queue q[VIRTIO_MAX_QUEUES];
	struct datapath_setup setup = gather(dev, queues, q);

	if (!setup.nqueues)
		return;
	dp->ops->stop(dp, &setup);
	for (unsigned i = 0; i < setup.nqueues; i++) {
		dev->running[q[i].index].next = q[i].next;
		dev->running[q[i].index].lost = q[i].lost;
	}
}

static void start_on_loop(void *arg)
{
	struct transition *t = arg;
	uint64_t local = t->queues & queues_local(t->dev), remote = t->queues & ~local;

	t->rc = start_part(t->dev, t->dev->remote, remote);
	if (t->rc)
		return;
	t->rc = start_part(t->dev, t->dev->local, local);
	if (t->rc)
		stop_part(t->dev, t->dev->remote, remote);
}

static void stop_on_loop(void *arg)
{
	struct transition *t = arg;
	uint64_t local = t->queues & queues_local(t->dev);

	if (t->ready && !t->ready(t->dev)) {
		t->rc = -EAGAIN;
		return;
	}
	stop_part(t->dev, t->dev->local, local);
	stop_part(t->dev, t->dev->remote, t->queues & ~local);
}

static void unbind(struct virtio_device *dev, uint64_t queues)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		if (!(queues & QUEUE_BIT(i)))
			continue;
		dev->transport->ops->unbind(dev->transport, i);
		if (dev->renew_fds && !(queues_local(dev) & QUEUE_BIT(i)))
			renew_fds(&dev->queue[i]);
	}
}

static int bind(struct virtio_device *dev, uint64_t queues)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct virtio_queue *q = &dev->queue[i];
		int rc;

		if (!(queues & QUEUE_BIT(i)))
			continue;
		rc = queue_make_fds(q);
		if (!rc)
			rc = dev->transport->ops->bind(dev->transport, i, q->kick_fd, q->call_fd);
		if (rc) {
			unbind(dev, queues & (QUEUE_BIT(i) - 1));
			return rc;
		}
	}
	return 0;
}

static struct datapath_queue snapshot(struct virtio_device *dev, unsigned index)
{
	struct virtio_queue *q = &dev->queue[index];

	return (struct datapath_queue){
		.index = index,
		.size = q->size,
		.desc = q->desc,
		.avail = q->avail,
		.used = q->used,
		/* Both wrap counters are 1 at first (2.8.1). */
		.next = virtio_has(dev, VIRTIO_F_RING_PACKED) ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0,
		.kick_fd = q->kick_fd,
		.call_fd = q->call_fd,
		.stats = &q->stats,
	};
}

/* dev->running[] says where from. */
static int start(struct virtio_device *dev, uint64_t queues)
{
	struct transition t = {.dev = dev, .queues = queues};

	evloop_call(dev->loop, start_on_loop, &t);
	if (t.rc)
		return t.rc;
	dev->running_queues |= queues;
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (queues & QUEUE_BIT(i)) {
			signal_fd(dev->queue[i].kick_fd);
			signal_fd(dev->queue[i].call_fd);
		}
	return 0;
}

int queues_start(struct virtio_device *dev, uint64_t queues)
{
	int rc = bind(dev, queues);

	if (rc)
		return rc;
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (queues & QUEUE_BIT(i))
			dev->running[i] = snapshot(dev, i);
	rc = start(dev, queues);
	if (rc)
		unbind(dev, queues);
	return rc;
}

int queues_suspend(struct virtio_device *dev, bool (*ready)(struct virtio_device *dev), uint64_t *queues)
{
	struct transition t = {.dev = dev, .queues = dev->running_queues, .ready = ready};

	*queues = t.queues;
	if (!t.queues)
		return 0;
	evloop_call(dev->loop, stop_on_loop, &t);
	if (t.rc)
		return t.rc;
	dev->running_queues = 0;
	dev->stale_fds |= dev->renew_fds ? t.queues & ~queues_local(dev) : 0;
	return 0;
}

/* Doorbells and interrupts go to new eventfds where the peer before has copies of the old. */
static int rebind_stale(struct virtio_device *dev, uint64_t queues)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct virtio_queue *q = &dev->queue[i];
		int rc;

		if (!(queues & dev->stale_fds & QUEUE_BIT(i)))
			continue;
		dev->transport->ops->unbind(dev->transport, i);
		renew_fds(q);
		rc = queue_make_fds(q);
		if (!rc)
			rc = dev->transport->ops->bind(dev->transport, i, q->kick_fd, q->call_fd);
		if (rc)
			return rc;
		dev->stale_fds &= ~QUEUE_BIT(i);
		dev->running[i].kick_fd = q->kick_fd;
		dev->running[i].call_fd = q->call_fd;
	}
	return 0;
}

int queues_resume(struct virtio_device *dev, uint64_t queues)
{
	int rc = queues ? rebind_stale(dev, queues) : 0;

	return rc || !queues ? rc : start(dev, queues);
}

void queues_give_up(struct virtio_device *dev, uint64_t queues)
{
	dev->stale_fds &= ~queues;
	unbind(dev, queues);
}

bool queues_lost(const struct virtio_device *dev, uint64_t queues)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		if ((queues & QUEUE_BIT(i)) && dev->running[i].lost)
			return true;
	return false;
}

void queues_stop(struct virtio_device *dev, uint64_t queues)
{
	struct transition t = {.dev = dev, .queues = queues & dev->running_queues};

	if (!t.queues)
		return;
	evloop_call(dev->loop, stop_on_loop, &t);
	dev->running_queues &= ~t.queues;
	unbind(dev, t.queues);
}

bool queues_linger(struct virtio_device *dev)
{
	const struct datapath *remote = dev->remote;

	dev->lingers = remote && remote->ops->lingers && remote->ops->lingers(dev->remote);
	return dev->lingers;
}

static void stop_one(struct virtio_device *dev, uint32_t n)
{
	queues_stop(dev, QUEUE_BIT(n));
	pthread_mutex_lock(&dev->life_lock);
	queues_linger(dev);
	pthread_mutex_unlock(&dev->life_lock);
}

/* --- registers --- */

struct virtio_queue *virtio_queue_get(struct virtio_device *dev, uint32_t q)
{
	return q < dev->nqueues && dev->queue[q].max_size ? &dev->queue[q] : NULL;
}

static bool may_change(const struct virtio_device *dev, const struct virtio_queue *q)
{
	return (dev->status & VIRTIO_CONFIG_S_FEATURES_OK) && !q->ready && !virtio_queue_stopping(dev, q) &&
	       (q->reset || !(dev->status & VIRTIO_CONFIG_S_DRIVER_OK));
}

void virtio_queue_set_size(struct virtio_device *dev, uint32_t n, uint16_t size)
{
	struct virtio_queue *q = virtio_queue_get(dev, n);

	if (q && may_change(dev, q))
		q->size = size;
}

void virtio_queue_set_addr(struct virtio_device *dev, uint32_t n, enum virtio_queue_addr which, bool high,
			   uint32_t value)
{
	struct virtio_queue *q = virtio_queue_get(dev, n);
	gpa_t *addr;

	if (!q || !may_change(dev, q))
		return;
	addr = which == VIRTIO_QUEUE_DESC ? &q->desc : which == VIRTIO_QUEUE_AVAIL ? &q->avail : &q->used;
	*addr = high ? (uint64_t)value << 32 | (uint32_t)*addr : (*addr & ~UINT64_C(0xffffffff)) | value;
}

static bool area_ok(const struct virtio_device *dev, gpa_t addr, uint64_t align, uint64_t len)
{
	return addr % align == 0 && guest_mem_ptr(dev->mem, addr, len);
}

/* NULL, or what is wrong with it.  2.7 and 2.8: sizes, alignments, and areas that lie in RAM. */
static const char *queue_fault(const struct virtio_device *dev, const struct virtio_queue *q)
{
	const bool packed = virtio_has(dev, VIRTIO_F_RING_PACKED);
	const uint64_t size = q->size, event = sizeof(struct vring_packed_desc_event);

	if (!size)
		return "its size is 0";
	if (size > q->max_size)
		return "its size is above the maximum";
	if (!packed && (size & (size - 1)))
		return "its size is not a power of two";
	if (!area_ok(dev, q->desc, VRING_DESC_ALIGN_SIZE, size * sizeof(struct vring_desc)))
		return "its descriptor area is not aligned, or not RAM";
	/* flags and idx, the ring, and the event index whether it is in use or not */
	if (!area_ok(dev, q->avail, packed ? sizeof(uint32_t) : VRING_AVAIL_ALIGN_SIZE,
		     packed ? event : (3 + size) * sizeof(uint16_t)))
		return "its driver area is not aligned, or not RAM";
	if (!area_ok(dev, q->used, VRING_USED_ALIGN_SIZE,
		     packed ? event : 3 * sizeof(uint16_t) + size * sizeof(struct vring_used_elem)))
		return "its device area is not aligned, or not RAM";
	return NULL;
}

void virtio_queue_set_ready(struct virtio_device *dev, uint32_t n, bool ready)
{
	struct virtio_queue *q = virtio_queue_get(dev, n);
	const char *fault;
	int rc;

	if (!q)
		return;
	if (!ready) {
		stop_one(dev, n);
		q->ready = false;
		return;
	}
	if (!may_change(dev, q))
		return;
	fault = queue_fault(dev, q);
	if (fault) {
		log_guest("%s: queue %u cannot be enabled: %s (size %u of %u, descriptors %#llx, driver area "
			  "%#llx, "
			  "device area %#llx)",
			  dev->name, n, fault, q->size, q->max_size, (unsigned long long)q->desc,
			  (unsigned long long)q->avail, (unsigned long long)q->used);
		virtio_needs_reset(dev, "a queue cannot be enabled", -EINVAL);
		return;
	}
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK) { /* after a reset of this queue alone */
		if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
			return;
		rc = queues_start(dev, QUEUE_BIT(n));
		if (rc) {
			virtio_needs_reset(dev, "a queue could not be started again", rc);
			return;
		}
	}
	q->ready = true;
	q->reset = false;
}

void virtio_queue_reset(struct virtio_device *dev, uint32_t n)
{
	struct virtio_queue *q = virtio_queue_get(dev, n);

	if (!q || !virtio_has(dev, VIRTIO_F_RING_RESET))
		return;
	stop_one(dev, n);
	queue_clear(q);
	q->reset = true;
}

bool virtio_queue_stopping(const struct virtio_device *dev, const struct virtio_queue *q)
{
	return dev->lingers && !q->ready && (dev->status & VIRTIO_CONFIG_S_DRIVER_OK);
}

void queue_kick(const struct virtio_device *dev, unsigned n)
{
	if (n < dev->nqueues && (dev->running_queues & QUEUE_BIT(n)))
		signal_fd(dev->queue[n].kick_fd);
}

void virtio_queue_notify(struct virtio_device *dev, uint32_t n)
{
	if (n < dev->nqueues)
		atomic_fetch_add_explicit(&dev->queue[n].exit_kicks, 1, memory_order_relaxed);
	queue_kick(dev, n);
}
