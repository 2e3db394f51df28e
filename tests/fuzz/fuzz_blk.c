/* A driver that sends whatever the input says to a block device: chains of any shape, headers of any
 * content, on both kinds of rings.  Nothing crashes, nothing reaches the disk outside of it, and every
 * chain that was taken comes back.
 *
 * Input: features, then steps.  A step with its high bit set holds, fails or releases requests; any other
 * is a chain of (step & 15) pieces, each of two bytes (bit 15: the device writes; the rest: its length)
 * and, if the device reads it, its contents. */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/virtqueue.h"
#include "lib/log.h"
#include "tests/fake/fake_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BIT(n)  (UINT64_C(1) << (n))
#define ENTRIES 32

struct input {
	const uint8_t *p;
	size_t left;
};

static unsigned take(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static void take_bytes(struct input *in, void *dst, size_t n)
{
	if (n > in->left)
		n = in->left;
	memcpy(dst, in->p, n);
	in->p += n;
	in->left -= n;
}

static void add_chain(struct driver_mem *m, struct driver_ring *r, struct input *in, unsigned n)
{
	struct driver_buf b[15];

	for (unsigned i = 0; i < n; i++) {
		unsigned v = take(in) | take(in) << 8, len = v & 0x1fff;

		b[i].write = v >> 15;
		b[i].len = len;
		if (v & 0x2000) { /* not RAM, or not as much */
			b[i].addr = DRIVER_MEM_LOW_END - 512;
			b[i].len = v & 0x4000 ? UINT32_MAX : len;
			continue;
		}
		b[i].addr = driver_mem_alloc(m, len + !len, v & 0x4000 ? 1 : 512);
		if (!b[i].write)
			take_bytes(in, driver_mem_ptr(m, b[i].addr, len), len < 64 ? len : 64);
	}
	if (n)
		driver_ring_add(r, b, n);
}

static void control(struct fake_disk *disk, unsigned step, unsigned arg)
{
	switch (step & 3) {
	case 0:
		disk->hold = arg & 1;
		break;
	case 1:
		disk->fail[arg % 6] = arg & 0x80 ? -EIO : 0;
		break;
	default:
		fake_disk_release(disk, arg);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct fake_disk *disk = fake_disk_new(1 << 16);
	struct evloop *loop = evloop_new();
	struct queue_stats stats = {0};
	struct datapath_queue q = {.kick_fd = -1, .call_fd = -1, .stats = &stats};
	struct fake_transport ft;
	struct driver_mem m;
	struct driver_ring ring;
	struct virtqueue *vq;
	struct virtio_device *dev;
	unsigned how = take(&in);
	uint64_t features = BIT(VIRTIO_F_VERSION_1);

	log_set_level(LOG_ERROR);
	driver_mem_init(&m);
	disk->disk.read_only = how & 1;
	disk->disk.block_size = how & 2 ? 4096 : 512;
	dev = blk_new(&(struct blk_config){.name = "blk0",
					   .mem = &m.mem,
					   .loops = &loop,
					   .nqueues = 1,
					   .queue_size = ENTRIES,
					   .disk = &disk->disk,
					   .serial = "fuzz"},
		      NULL);
	assert(dev);
	fake_transport_init(&ft, dev);
	features |= how & 4 ? BIT(VIRTIO_F_RING_PACKED) : 0;
	features |= how & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0;
	features |= how & 16 ? BIT(VIRTIO_BLK_F_FLUSH) : 0;
	features |= how & 32 ? 0 : BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	virtio_lock(dev);
	virtio_set_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	features &= virtio_features(dev, 0) | (uint64_t)virtio_features(dev, 1) << 32;
	virtio_set_features(dev, 0, (uint32_t)features);
	virtio_set_features(dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(dev,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	virtio_unlock(dev);

	driver_ring_init(&ring, &m, ENTRIES, features, (uint16_t)(how & 4 ? 0x8000 : 0));
	driver_ring_queue(&ring, &q);
	if (vq_new(&vq, &q, &m.mem, features))
		abort();
	if (dev->ops->run(dev, vq))
		abort();
	for (unsigned steps = 0; in.left && steps < 64; steps++) {
		unsigned step = take(&in);

		if (step & 0x80) {
			control(disk, step, take(&in));
		} else {
			add_chain(&m, &ring, &in, step & 15);
			driver_ring_kick(&ring);
		}
		if (!vq_error(vq))
			dev->ops->kick(dev, vq);
		while (driver_ring_collect(&ring, NULL, NULL) == 1)
			;
	}
	dev->ops->halt(dev, vq);
	assert(vq_error(vq) || !vq_inflight(vq));
	assert(!disk->mistakes && !disk->held && !disk->lanes);
	vq_free(vq);
	virtio_fini(dev);
	dev->ops->destroy(dev);
	driver_ring_fini(&ring);
	driver_mem_fini(&m);
	evloop_free(loop);
	fake_disk_free(disk);
	return 0;
}
