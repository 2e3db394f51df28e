/* For the tests of the network device: frames with known bytes, in both directions. */
#ifndef TESTS_UNIT_NET_DEVICE_RIG_H
#define TESTS_UNIT_NET_DEVICE_RIG_H
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/net_rig.h"

#define BIT(n) (1ull << (n))
#define HDR    ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define MRG    BIT(VIRTIO_NET_F_MRG_RXBUF)
#define TSO    (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))

enum { RX, TX };

static struct net_rig r;

static void setup(void)
{
	net_rig_init(&r);
}

static void teardown(void)
{
	net_rig_fini(&r);
}

static inline void start(uint64_t features)
{
	net_rig_make(&r);
	net_rig_start(&r, features);
}

static inline const struct net_counters *counters(void)
{
	return net_counters(r.dev, 0);
}

/* len bytes with header; the frame's bytes count up from `seed`. */
static inline uint8_t *frame_of(size_t len, uint8_t seed)
{
	uint8_t *f = calloc(1, len);

	for (size_t i = HDR; i < len; i++)
		f[i] = (uint8_t)(seed + i);
	if (len > HDR)
		f[HDR] &= 0xfe;
	return f;
}

static inline void give(size_t len, uint8_t seed)
{
	uint8_t *f = frame_of(len, seed);

	fake_port_give(&r.port[0], f, len);
	free(f);
}

static inline int transmit(const struct driver_buf *b, unsigned n)
{
	int id = driver_ring_add(&r.ring[TX], b, n);

	cr_assert_geq(id, 0);
	return id;
}

static inline void transmit_frame(size_t len, uint8_t seed)
{
	uint8_t *f = frame_of(len, seed);
	struct driver_buf b = {.addr = net_rig_buffer(&r, f, len), .len = (uint32_t)len};

	transmit(&b, 1);
	free(f);
}

static inline void expect_sent(size_t len, uint8_t seed)
{
	struct fake_frame *got = fake_port_take(&r.port[0]);
	uint8_t *want = frame_of(len, seed);

	cr_assert(got);
	cr_assert_eq(got->len, len);
	cr_assert_eq(memcmp(got->data, want, len), 0);
	free(got);
	free(want);
}

/* All that came back on queue q: their lengths.  Returns how many. */
static inline unsigned collect(unsigned q, uint32_t *len, unsigned max)
{
	unsigned n = 0;

	while (n < max && driver_ring_collect(&r.ring[q], NULL, &len[n]) == 1)
		n++;
	return n;
}
#endif
