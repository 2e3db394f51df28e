/* The entropy device, by a driver's ring. */
#include <criterion/criterion.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/rng/rng.h"
#include "lib/cleanup.h"
#include "tests/unit/device_rig.h"

static void make(void)
{
	struct rng_config c = {.name = "rng0", .mem = &m.mem};

	setup();
	c.loop = loop;
	dev = rng_new(&c, &e);
	cr_assert(dev, "%s", e.text);
}

TestSuite(rng, .init = make, .fini = teardown_once, .timeout = 30);

static void start(uint64_t features)
{
	negotiate(features);
	run(0);
}

/* One request; returns the length that came back. */
static uint32_t ask(const struct driver_buf *buf, unsigned n)
{
	uint16_t id;
	uint32_t len;
	int added = driver_ring_add(&queue[0].ring, buf, n);

	cr_assert_geq(added, 0);
	kick(0);
	cr_assert_eq(driver_ring_collect(&queue[0].ring, &id, &len), 1);
	cr_assert_eq(id, added);
	return len;
}

static gpa_t buffer(size_t len)
{
	gpa_t gpa = driver_mem_alloc(&m, len, 16);

	memset(driver_mem_ptr(&m, gpa, len), 0x5a, len);
	return gpa;
}

/* How many of these still hold what buffer() wrote. */
static size_t untouched(gpa_t gpa, size_t len)
{
	const uint8_t *p = driver_mem_ptr(&m, gpa, len);
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += p[i] == 0x5a;
	return n;
}

/* Of random bytes one in 256 is the old one by chance. */
#define RANDOM(gpa, len)    cr_expect_lt(untouched(gpa, len), (len) / 16 + 8)
#define UNTOUCHED(gpa, len) cr_expect_eq(untouched(gpa, len), len)

static bool kicked_itself(void)
{
	uint64_t n;

	return read(dev->queue[0].kick_fd, &n, sizeof(n)) == sizeof(n);
}

WholeTest(rng, is_an_entropy_device_without_features_or_configuration)
{
	cr_expect_eq(dev->ops->id, VIRTIO_ID_RNG);
	cr_expect_eq(dev->ops->features(dev), 0);
	cr_expect_eq(dev->ops->config_size(dev), 0);
	cr_expect_eq(dev->nqueues, 1);
}

WholeTest(rng, fills_a_buffer_and_no_more)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED),
					 BIT(VIRTIO_F_IN_ORDER),
					 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		gpa_t buf;

		start(kinds[i]);
		buf = buffer(1024);
		cr_expect_eq(ask((struct driver_buf[]){{buf + 64, 512, true}}, 1), 512);
		UNTOUCHED(buf, 64);
		RANDOM(buf + 64, 512);
		UNTOUCHED(buf + 576, 448);
		halt(0);
		virtio_set_status(dev, 0);
	}
}

WholeTest(rng, never_says_the_same_twice)
{
	gpa_t a, b;

	start(0);
	a = buffer(64);
	b = buffer(64);
	ask((struct driver_buf[]){{a, 64, true}}, 1);
	ask((struct driver_buf[]){{b, 64, true}}, 1);
	cr_expect(memcmp(driver_mem_ptr(&m, a, 64), driver_mem_ptr(&m, b, 64), 64));
}

WholeTest(rng, fills_all_pieces_of_a_buffer)
{
	gpa_t buf;

	start(0);
	buf = buffer(1000);
	cr_expect_eq(ask((struct driver_buf[]){{buf + 600, 100, true}, {buf, 1, true}, {buf + 100, 299, true}},
			 3),
		     400);
	RANDOM(buf + 600, 100);
	RANDOM(buf + 100, 299);
	UNTOUCHED(buf + 1, 99);
	UNTOUCHED(buf + 399, 201);
	UNTOUCHED(buf + 700, 300);
}

WholeTest(rng, gives_a_large_request_a_part)
{
	gpa_t buf;

	start(0);
	buf = buffer(1u << 20);
	cr_expect_eq(ask((struct driver_buf[]){{buf, 1u << 20, true}}, 1), RNG_REQUEST_MAX);
	RANDOM(buf, RNG_REQUEST_MAX);
	UNTOUCHED(buf + RNG_REQUEST_MAX, (1u << 20) - RNG_REQUEST_MAX);
}

WholeTest(rng, cuts_a_large_request_in_the_middle_of_a_piece)
{
	gpa_t buf;

	start(0);
	buf = buffer(3 * 4000);
	cr_expect_eq(ask((struct driver_buf[]){{buf, 4000, true},
					       {buf + 4000, 4000, true},
					       {buf + 8000, 4000, true}},
			 3),
		     RNG_REQUEST_MAX);
	RANDOM(buf, RNG_REQUEST_MAX);
	UNTOUCHED(buf + RNG_REQUEST_MAX, 3 * 4000 - RNG_REQUEST_MAX);
}

WholeTest(rng, leaves_readable_pieces_alone)
{
	gpa_t buf;

	start(0);
	buf = buffer(512);
	cr_expect_eq(ask((struct driver_buf[]){{buf, 256, false}, {buf + 256, 256, true}}, 2), 256);
	UNTOUCHED(buf, 256);
	RANDOM(buf + 256, 256);
	cr_expect_eq(ask((struct driver_buf[]){{buf, 256, false}}, 1), 0);
	UNTOUCHED(buf, 256);
}

WholeTest(rng, answers_all_that_waits_in_one_burst)
{
	gpa_t buf;
	uint32_t len;

	start(0);
	buf = buffer(SIZE * 16);
	for (unsigned i = 0; i + 1 < SIZE; i++)
		driver_ring_add(&queue[0].ring, (struct driver_buf[]){{buf + 16 * i, 16, true}}, 1);
	kick(0);
	for (unsigned i = 0; i + 1 < SIZE; i++) {
		cr_assert_eq(driver_ring_collect(&queue[0].ring, NULL, &len), 1);
		cr_assert_eq(len, 16);
	}
	RANDOM(buf, (SIZE - 1) * 16);
	cr_expect_not(kicked_itself());
	cr_expect_eq(queue[0].stats.bytes, (SIZE - 1) * 16);
}

WholeTest(rng, takes_a_break_after_as_many_as_the_queue_holds)
{
	gpa_t buf;

	start(0);
	buf = buffer(16);
	for (unsigned i = 0; i < SIZE; i++)
		driver_ring_add(&queue[0].ring, (struct driver_buf[]){{buf, 16, true}}, 1);
	kick(0);
	for (unsigned i = 0; i < SIZE; i++)
		cr_assert_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 1);
	cr_expect(kicked_itself());
}

WholeTest(rng, a_broken_ring_needs_a_reset)
{
	gpa_t buf;

	start(0);
	buf = buffer(16);
	driver_ring_add(&queue[0].ring, (struct driver_buf[]){{buf, 16, true}}, 1);
	driver_ring_offer(&queue[0].ring, SIZE);
	kick(0);
	cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 1, "what came before is answered");
	dev->ops->kick(dev, queue[0].vq);
	cr_expect_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 0);
}

WholeTest(rng, a_buffer_outside_ram_needs_a_reset)
{
	start(0);
	driver_ring_add(&queue[0].ring, (struct driver_buf[]){{DRIVER_MEM_LOW_END - 8, 16, true}}, 1);
	kick(0);
	cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* A file behind guest memory that somebody cut short reads like this to a system call. */
WholeTest(rng, memory_that_is_gone_needs_a_reset_and_harms_nobody)
{
	gpa_t buf;

	start(0);
	buf = driver_mem_alloc(&m, 4096, 4096);
	cr_assert_eq(mprotect(driver_mem_ptr(&m, buf, 4096), 4096, PROT_NONE), 0);
	driver_ring_add(&queue[0].ring, (struct driver_buf[]){{buf, 16, true}}, 1);
	kick(0);
	cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(vq_inflight(queue[0].vq), 0);
}
