/* A driver that says anything to the network device: which features, which buffers in which pieces on which
 * queue, what control commands, what frames come from below, resets in between. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/log.h"
#include "tests/fake/net_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RING 16

struct input {
	const uint8_t *p;
	size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- && in->left) {
		v = v << 8 | *in->p++;
		in->left--;
	}
	return v;
}

static void start(struct net_rig *r, struct input *in)
{
	static const uint64_t ring[] = {
		0,
		1ull << VIRTIO_RING_F_EVENT_IDX,
		1ull << VIRTIO_F_RING_PACKED,
		1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER | 1ull << VIRTIO_RING_F_EVENT_IDX,
	};
	uint64_t features = take(in, 8);

	r->ring_features = ring[take(in, 1) % 4];
	r->m.next = 4096;
	features &= net_rig_offered(r) & ~(((1ull << 50) - 1) & ~((1ull << 24) - 1));
	if (!net_rig_negotiate(r, features)) {
		features = 1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_MRG_RXBUF |
			   1ull << VIRTIO_NET_F_MQ | 1ull << VIRTIO_NET_F_CTRL_RX;
		if (!net_rig_negotiate(r, features))
			abort();
	}
	for (unsigned q = 0; q < RIG_QUEUES && q < r->dev->nqueues; q++)
		net_rig_queue(r, q, RING);
	net_rig_driver_ok(r);
}

/* One chain of up to 8 pieces; their memory is the input's next bytes over and over, or not RAM. */
static void add(struct net_rig *r, struct input *in, unsigned q)
{
	static const uint32_t odd_len[] = {0, 1, 12, 65536, 0xffffffff, 1526, 26, 11};
	struct driver_buf b[8];
	unsigned n = 1 + (unsigned)take(in, 1) % 8;

	for (unsigned i = 0; i < n; i++) {
		uint8_t how = (uint8_t)take(in, 1);
		uint32_t len = how & 1 ? odd_len[how >> 5] : (uint32_t)take(in, 1);
		gpa_t at = 0x10000 + (how >> 3 & 3) * 0x100000u;

		if ((how & 0x1c) == 0x1c)
			at = take(in, 8);
		else if (len < 4096)
			for (uint32_t k = 0; k < len && k < 32; k++)
				*(uint8_t *)driver_mem_ptr(&r->m, at + k, 1) = (uint8_t)take(in, 1);
		b[i] = (struct driver_buf){.addr = at, .len = len, .write = how & 2};
	}
	driver_ring_add(&r->ring[q], b, n);
}

static void give(struct net_rig *r, struct input *in)
{
	static uint8_t frame[NET_FRAME_MAX + 12];
	size_t len = (size_t)take(in, 2);

	for (unsigned i = 0; i < 32; i++)
		frame[i] = (uint8_t)take(in, 1);
	fake_port_give(&r->port[in->left % RIG_MAX_PAIRS], frame, len);
}

static void no_rings(struct net_rig *r)
{
	for (unsigned q = 0; q < RIG_QUEUES; q++)
		while (r->up[q] && driver_ring_collect(&r->ring[q], NULL, NULL) == 1)
			;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct net_rig r;

	log_set_level(LOG_ERROR);
	net_rig_init(&r);
	r.config.npairs = RIG_MAX_PAIRS;
	r.config.mtu = size & 1 ? 1500 : 0;
	r.config.queue_size = RING;
	net_rig_make(&r);
	start(&r, &in);
	for (unsigned step = 0; in.left && step < 200; step++) {
		uint8_t op = (uint8_t)take(&in, 1);
		unsigned q = (op >> 4) % (r.dev->nqueues < RIG_QUEUES ? r.dev->nqueues : RIG_QUEUES);

		switch (op & 7) {
		case 0:
		case 1:
		case 2:
			add(&r, &in, q);
			break;
		case 3:
			driver_ring_kick(&r.ring[q]);
			eventfd_write(r.dev->queue[q].kick_fd, 1);
			net_rig_turn(&r);
			break;
		case 4:
			give(&r, &in);
			net_rig_turn(&r);
			break;
		case 5:
			no_rings(&r);
			break;
		case 6:
			if (!(r.ring_features & 1ull << VIRTIO_F_RING_PACKED) && (op & 0x80)) {
				driver_ring_offer(&r.ring[q], (uint16_t)take(&in, 2));
				break;
			}
			r.port[q % RIG_MAX_PAIRS].send_err = op & 0x40 ? -EINVAL : 0;
			break;
		case 7:
			if (op & 0x80)
				start(&r, &in);
			else
				net_set_link(r.dev, op & 0x40);
			break;
		}
	}
	net_rig_settle(&r);
	net_rig_fini(&r);
	return 0;
}
