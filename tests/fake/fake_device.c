#include "tests/fake/fake_device.h"

#include <linux/virtio_config.h>
#include <string.h>
#include <sys/uio.h>

#include "lib/cleanup.h"
#include "tests/fake/fake_transport.h"

#define PIECES 8

static struct fake_device *of(struct virtio_device *dev)
{
	return container_of(dev, struct fake_device, dev);
}

static uint64_t features(struct virtio_device *dev)
{
	return of(dev)->features;
}

static size_t config_size(struct virtio_device *dev)
{
	return of(dev)->config_size;
}

static void config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	of(dev)->mistakes += off + len > of(dev)->config_size;
	memcpy(buf, of(dev)->config + off, len);
}

static void config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	of(dev)->mistakes += off + len > of(dev)->config_size;
	of(dev)->config_writes++;
	memcpy(of(dev)->config + off, buf, len);
}

static int negotiated(struct virtio_device *dev, uint64_t bits)
{
	of(dev)->negotiated = bits;
	return of(dev)->negotiated_err;
}

static void reset(struct virtio_device *dev)
{
	struct fake_device *f = of(dev);

	f->resets++;
	f->reset_at = fake_step();
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		f->mistakes += f->q[i].vq != NULL;
	if (f->in_reset)
		f->in_reset(f);
}

static int run(struct virtio_device *dev, struct virtqueue *vq)
{
	struct fake_device *f = of(dev);
	struct fake_device_queue *q = &f->q[vq_index(vq)];

	if (f->run_err && (f->fail_run < 0 || f->fail_run == (int)vq_index(vq)))
		return f->run_err;
	f->mistakes += q->vq != NULL;
	q->vq = vq;
	q->thread = pthread_self();
	q->nheld = 0;
	q->runs++;
	return 0;
}

static void echo(struct fake_device *f, struct fake_device_queue *q)
{
	struct iovec iov[PIECES];
	struct vq_chain c = {.iov = iov, .iov_max = PIECES};

	for (unsigned n = vq_size(q->vq); n && vq_pop(q->vq, &c) > 0; n--) {
		uint32_t len = c.nout && c.nin
				       ? (uint32_t)(iov[0].iov_len < iov[c.nout].iov_len ? iov[0].iov_len
											 : iov[c.nout].iov_len)
				       : 0;

		if (f->hold) {
			q->held[q->nheld++] = c.head;
			continue;
		}
		if (len)
			memcpy(iov[c.nout].iov_base, iov[0].iov_base, len);
		vq_push(q->vq, c.head, len);
		q->echoed++;
	}
}

static void kick(struct virtio_device *dev, struct virtqueue *vq)
{
	struct fake_device *f = of(dev);
	struct fake_device_queue *q = &f->q[vq_index(vq)];

	f->mistakes += q->vq != vq || !pthread_equal(q->thread, pthread_self());
	q->kicks++;
	vq_busy(vq);
	do
		echo(f, q);
	while (!vq_error(vq) && vq_wait(vq));
}

static void halt(struct virtio_device *dev, struct virtqueue *vq)
{
	struct fake_device *f = of(dev);
	struct fake_device_queue *q = &f->q[vq_index(vq)];

	f->mistakes += q->vq != vq || !pthread_equal(q->thread, pthread_self());
	for (unsigned i = 0; i < q->nheld; i++)
		vq_push(vq, q->held[i], 0);
	q->nheld = 0;
	q->vq = NULL;
	q->halts++;
}

static const struct virtio_device_ops fake_device_ops = {
	.id = 42,
	.name = "fake",
	.features = features,
	.config_size = config_size,
	.config_read = config_read,
	.config_write = config_write,
	.negotiated = negotiated,
	.reset = reset,
	.run = run,
	.kick = kick,
	.halt = halt,
};

void fake_device_init(struct fake_device *f, const struct guest_mem *mem, struct evloop *loop)
{
	memset(f, 0, sizeof(*f));
	f->config_size = FAKE_DEVICE_CONFIG;
	f->fail_run = -1;
	f->dev.ops = &fake_device_ops;
	f->dev.mem = mem;
	f->dev.loop = loop;
	f->dev.name = "fake0";
	f->dev.nqueues = 2;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		f->dev.queue[i].loop = loop;
	f->dev.queue[0].max_size = f->dev.queue[1].max_size = 256;
}

void fake_device_status(struct fake_device *f, uint8_t status)
{
	virtio_lock(&f->dev);
	virtio_set_status(&f->dev, status);
	virtio_unlock(&f->dev);
}

bool fake_device_negotiate(struct fake_device *f, uint64_t bits)
{
	bool ok;

	bits |= UINT64_C(1) << VIRTIO_F_VERSION_1;
	virtio_lock(&f->dev);
	virtio_set_status(&f->dev, 0);
	virtio_set_status(&f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set_status(&f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_features(&f->dev, 0, (uint32_t)bits);
	virtio_set_features(&f->dev, 1, (uint32_t)(bits >> 32));
	virtio_set_status(&f->dev,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	ok = virtio_status(&f->dev) & VIRTIO_CONFIG_S_FEATURES_OK;
	virtio_unlock(&f->dev);
	return ok;
}

void fake_device_queue(struct fake_device *f, unsigned q, uint16_t size, gpa_t desc, gpa_t avail, gpa_t used)
{
	const gpa_t addr[] = {
		[VIRTIO_QUEUE_DESC] = desc, [VIRTIO_QUEUE_AVAIL] = avail, [VIRTIO_QUEUE_USED] = used};

	virtio_lock(&f->dev);
	virtio_queue_set_size(&f->dev, q, size);
	for (unsigned i = 0; i < ARRAY_SIZE(addr); i++) {
		virtio_queue_set_addr(&f->dev, q, (enum virtio_queue_addr)i, false, (uint32_t)addr[i]);
		virtio_queue_set_addr(&f->dev, q, (enum virtio_queue_addr)i, true, (uint32_t)(addr[i] >> 32));
	}
	virtio_queue_set_ready(&f->dev, q, true);
	virtio_unlock(&f->dev);
}
