/* A device without a model of its own, over a datapath that can be asked for configuration. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/virtio/generic.h"
#include "lib/cleanup.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)    (1ull << (n))
#define VERSION_1 BIT(VIRTIO_F_VERSION_1)
#define SIZE      8
#define ID        99
#define LIVE                                                                                                   \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                  \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct fake_datapath f;
static struct datapath_ops ops;
static struct driver_mem m;
static struct loop_thread thread;
static struct generic_config c;
static struct virtio_device *dev;
static struct fake_transport ft;
static struct err e;

static uint8_t config[300];
static int config_err;
static unsigned reads, writes, destroyed;
static pthread_t config_thread;

static int config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	(void)dp;
	reads++;
	config_thread = pthread_self();
	memset(buf, 0xee, len);
	if (!config_err)
		memcpy(buf, config + off, len);
	return config_err;
}

static int config_write(struct datapath *dp, size_t off, const void *buf, size_t len)
{
	(void)dp;
	writes++;
	config_thread = pthread_self();
	if (!config_err)
		memcpy(config + off, buf, len);
	return config_err;
}

static void destroy(struct datapath *dp)
{
	(void)dp;
	destroyed++;
}

static void init(void)
{
	cr_assert_eq(loop_thread_start(&thread, "test", -1, &e), 0);
	driver_mem_init(&m);
	fake_datapath_init(&f);
	ops = *f.dp.ops;
	ops.config_read = config_read;
	ops.config_write = config_write;
	ops.destroy = destroy;
	f.dp.ops = &ops;
	f.offer.device_id = ID;
	f.offer.max_queues = 3;
	f.offer.config_len = 16;
	for (unsigned i = 0; i < sizeof(config); i++)
		config[i] = (uint8_t)i;
	c = (struct generic_config){.name = "test0",
				    .type = "test",
				    .mem = &m.mem,
				    .loop = thread.loop,
				    .features = UINT64_MAX,
				    .datapath = &f.dp};
}

static void teardown(void)
{
	if (dev) {
		virtio_fini(dev);
		dev->ops->destroy(dev);
		cr_expect_eq(destroyed, 1);
	}
	loop_thread_stop(&thread);
	cr_expect_eq(f.mistakes, 0);
}

TestSuite(generic, .init = init, .fini = teardown_once, .timeout = 60);

static void make(void)
{
	dev = generic_new(&c, &e);
	cr_assert(dev, "%s", e.text);
	fake_transport_init(&ft, dev);
}

static void refused(int code, const char *text)
{
	cr_expect_not(generic_new(&c, &e));
	cr_expect_eq(e.code, code, "%d", e.code);
	cr_expect(strstr(e.text, text), "%s", e.text);
	cr_expect_eq(destroyed, 0, "the datapath is still the caller's");
}

static uint64_t offered(void)
{
	return virtio_features(dev, 0) | (uint64_t)virtio_features(dev, 1) << 32;
}

static uint32_t read_config(uint64_t off, unsigned len)
{
	uint32_t v = 0;

	virtio_lock(dev);
	virtio_config_read(dev, off, &v, len);
	virtio_unlock(dev);
	return v;
}

/* --- what it is --- */

WholeTest(generic, is_what_the_datapath_says)
{
	make();
	cr_expect_eq(dev->ops->id, ID);
	cr_expect_str_eq(dev->ops->name, "test");
	cr_expect_eq(dev->nqueues, 3);
	cr_expect_eq(dev->queue[2].max_size, GENERIC_DEFAULT_QUEUE_SIZE);
	cr_expect_eq(dev->ops->config_size(dev), 16);
}

WholeTest(generic, is_what_the_user_says_where_the_datapath_does_not)
{
	f.offer = (struct datapath_offer){.features = UINT64_MAX, .opinion = UINT64_MAX};
	c.id = 26;
	c.nqueues = 2;
	c.queue_size = 64;
	make();
	cr_expect_eq(dev->ops->id, 26);
	cr_expect_eq(dev->nqueues, 2);
	cr_expect_eq(dev->queue[1].max_size, 64);
	cr_expect_eq(dev->ops->config_size(dev), 0);
	cr_expect_eq(reads, 0);
}

WholeTest(generic, two_devices_can_be_two_things)
{
	struct virtio_device *other;

	make();
	f.offer.device_id = 0;
	c.id = 7;
	other = generic_new(&c, &e);
	cr_assert(other);
	cr_expect_eq(dev->ops->id, ID);
	cr_expect_eq(other->ops->id, 7);
	virtio_fini(other);
	other->ops->destroy(other);
	destroyed = 0;
}

WholeTest(generic, contradictions_are_refused)
{
	c.id = ID + 1;
	refused(-ENODEV, "99");
	c.id = 0;
	f.offer.device_id = 0;
	refused(-EINVAL, "does not say what device it is");
	f.offer.device_id = ID;
	c.nqueues = 4;
	refused(-EINVAL, "at most 3 queues");
	c.nqueues = VIRTIO_MAX_QUEUES + 1;
	refused(-EINVAL, "65 queues");
	c.nqueues = f.offer.max_queues = 0;
	refused(-EINVAL, "0 queues");
	f.offer.max_queues = 3;
	f.offer.config_len = VIRTIO_MAX_CONFIG + 1;
	refused(-EINVAL, "257 bytes");
	f.offer.config_len = SIZE_MAX;
	refused(-EINVAL, "bytes");
	f.offer.config_len = VIRTIO_MAX_CONFIG;
	c.queue_size = 3;
	refused(-EINVAL, "power of two");
	c.queue_size = 0;
	config_err = -ETIMEDOUT;
	refused(-ETIMEDOUT, "does not give its configuration");
	config_err = 0;
	f.offer_err = -EPIPE;
	refused(-EPIPE, "does not answer");
}

WholeTest(generic, offers_what_both_have)
{
	f.offer.features = VERSION_1 | BIT(0) | BIT(2) | BIT(VIRTIO_RING_F_EVENT_IDX);
	f.offer.opinion = UINT64_MAX;
	c.features = BIT(0) | BIT(1);
	make();
	cr_expect_eq(offered(), VERSION_1 | BIT(0) | BIT(VIRTIO_RING_F_EVENT_IDX));
}

WholeTest(generic, hides_what_the_user_turned_off)
{
	f.offer.features = VERSION_1 | BIT(0) | BIT(1);
	f.offer.opinion = UINT64_MAX;
	c.hidden = BIT(1);
	make();
	cr_expect_eq(offered(), VERSION_1 | BIT(0));
}

/* --- configuration --- */

WholeTest(generic, the_configuration_is_asked_for_where_the_datapath_lives)
{
	make();
	cr_expect_eq(read_config(4, 4), 0x07060504);
	cr_expect(pthread_equal(config_thread, thread.thread));
	config[4] = 0x80;
	cr_expect_eq(read_config(4, 4), 0x07060580);
	cr_expect_eq(read_config(14, 4), 0x0f0e, "nothing is beyond its end");
}

WholeTest(generic, a_change_is_a_new_generation)
{
	uint32_t generation;

	make();
	read_config(0, 4);
	generation = dev->config_generation;
	read_config(0, 4);
	cr_expect_eq(dev->config_generation, generation);
	config[9] = 0x80;
	read_config(0, 4);
	cr_expect_neq(dev->config_generation, generation);
}

WholeTest(generic, a_datapath_that_does_not_answer_changes_nothing)
{
	make();
	cr_expect_eq(read_config(0, 4), 0x03020100);
	config_err = -ETIMEDOUT;
	config[0] = 0x80;
	cr_expect_eq(read_config(0, 4), 0x03020100);
	config_err = 0;
	cr_expect_eq(read_config(0, 4), 0x03020180);
}

WholeTest(generic, writes_go_to_the_datapath)
{
	const uint16_t v = 0xabcd;

	make();
	virtio_lock(dev);
	virtio_config_write(dev, 6, &v, 2);
	virtio_config_write(dev, 15, &v, 2);
	virtio_config_write(dev, 16, &v, 2);
	virtio_unlock(dev);
	cr_expect_eq(writes, 2);
	cr_expect(pthread_equal(config_thread, thread.thread));
	cr_expect_eq(config[6], 0xcd);
	cr_expect_eq(config[7], 0xab);
	cr_expect_eq(config[15], 0xcd);
	cr_expect_eq(config[16], 16);
}

WholeTest(generic, a_datapath_that_takes_no_writes_gets_none)
{
	const uint16_t v = 0xabcd;

	ops.config_write = NULL;
	make();
	virtio_lock(dev);
	virtio_config_write(dev, 6, &v, 2);
	virtio_unlock(dev);
	cr_expect_eq(read_config(6, 2), 0x0706);
}

WholeTest(generic, a_datapath_without_a_way_to_be_asked_has_none)
{
	ops.config_read = NULL;
	make();
	cr_expect_eq(dev->ops->config_size(dev), 0);
	cr_expect_eq(read_config(0, 4), 0);
}

WholeTest(generic, bytes_given_are_the_configuration_and_stay)
{
	uint8_t given[] = {1, 2, 3};
	const uint16_t v = 0xabcd;

	c.config = given;
	c.config_len = sizeof(given);
	make();
	memset(given, 0, sizeof(given));
	virtio_lock(dev);
	virtio_config_write(dev, 0, &v, 2);
	virtio_unlock(dev);
	cr_expect_eq(dev->ops->config_size(dev), 3);
	cr_expect_eq(read_config(0, 4), 0x030201);
	cr_expect_eq(reads, 0);
	cr_expect_eq(writes, 0);
}

/* --- queues --- */

static void live(struct driver_ring *ring, unsigned n)
{
	virtio_lock(dev);
	virtio_set_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_features(dev, 1, VERSION_1 >> 32);
	virtio_set_status(dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; i < n; i++) {
		driver_ring_init(&ring[i], &m, SIZE, 0, 0);
		virtio_queue_set_size(dev, i, SIZE);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_DESC, false, (uint32_t)ring[i].desc_gpa);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_AVAIL, false, (uint32_t)ring[i].avail_gpa);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_USED, false, (uint32_t)ring[i].used_gpa);
		virtio_queue_set_ready(dev, i, true);
	}
	virtio_set_status(dev, VIRTIO_CONFIG_S_DRIVER_OK);
	virtio_unlock(dev);
	cr_assert_eq(virtio_status(dev), LIVE);
}

WholeTest(generic, every_queue_is_the_datapaths)
{
	struct driver_ring ring[3];

	make();
	cr_expect_not(dev->local);
	live(ring, 3);
	cr_expect_eq(f.running, 7);
	virtio_lock(dev);
	virtio_set_status(dev, 0);
	virtio_unlock(dev);
	cr_expect_eq(f.running, 0);
}

WholeTest(generic, buffers_of_an_idle_queue_stay_where_they_are)
{
	struct driver_ring ring[4];
	struct driver_buf buf = {driver_mem_alloc(&m, 16, 16), 16, true};

	c.nqueues = 4; /* one more than the datapath has */
	c.idle_queues = BIT(3);
	make();
	live(ring, 4);
	cr_expect_eq(f.running, 7);
	for (unsigned i = 0; i < SIZE; i++) {
		cr_assert_geq(driver_ring_add(&ring[3], &buf, 1), 0);
		driver_ring_kick(&ring[3]);
		virtio_lock(dev);
		virtio_queue_notify(dev, 3);
		virtio_unlock(dev);
	}
	virtio_lock(dev);
	virtio_set_status(dev, 0);
	virtio_unlock(dev);
	cr_expect_eq(driver_ring_collect(&ring[3], NULL, NULL), 0);
	cr_expect_eq(f.running, 0);
}

WholeTest(generic, a_configuration_that_changes_interrupts_the_driver)
{
	struct driver_ring ring[3];

	make();
	live(ring, 3);
	f.dp.events->config_changed(f.dp.opaque);
	cr_expect_eq(ft.config_irqs, 1);
}
