/* For the tests of the core of a virtio device: a device, its datapaths and its transport, which all take
 * notes. */
#ifndef TESTS_UNIT_VIRTIO_RIG_H
#define TESTS_UNIT_VIRTIO_RIG_H
#include <criterion/criterion.h>
#include <dirent.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define VERSION_1   BIT(VIRTIO_F_VERSION_1)
#define ACK         VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER      VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED      VIRTIO_CONFIG_S_FAILED
#define BEFORE      (ACK | DRIVER)
#define LIVE        (BEFORE | FEATURES_OK | DRIVER_OK)
#define RING_BITS                                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | VERSION_1 |                         \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET))

static struct driver_mem m;
static struct driver_ring ring[2];
static struct fake_device f;
static struct fake_datapath local, remote;
static struct fake_transport ft;
static struct loop_thread io;
static struct err e;
static bool inited;

/* Does nothing but make the fixture: what a device offers is decided in virtio_init(). */
static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&io, "io", -1, &e), 0);
	driver_mem_init(&m);
	for (unsigned i = 0; i < 2; i++)
		driver_ring_init(&ring[i], &m, 256, 0, 0);
	fake_datapath_init(&local);
	fake_datapath_init(&remote);
	fake_device_init(&f, &m.mem, io.loop);
	f.dev.local = &local.dp;
	fake_transport_init(&ft, &f.dev);
}

static inline void init(void)
{
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
	inited = true;
}

static void teardown(void)
{
	if (inited) {
		virtio_fini(&f.dev);
		cr_expect_eq(local.running | remote.running, 0);
	}
	loop_thread_stop(&io);
	for (unsigned i = 0; i < 2; i++)
		driver_ring_fini(&ring[i]);
	driver_mem_fini(&m);
	cr_expect_eq(f.mistakes, 0);
	cr_expect_eq(ft.mistakes, 0);
	cr_expect_eq(local.mistakes + remote.mistakes, 0);
}

static inline void queues(void)
{
	for (unsigned i = 0; i < 2; i++)
		fake_device_queue(&f, i, 256, ring[i].desc_gpa, ring[i].avail_gpa, ring[i].used_gpa);
}

/* As a good driver does it. */
static inline void live(uint64_t features)
{
	cr_assert(fake_device_negotiate(&f, features));
	queues();
	fake_device_status(&f, LIVE);
}
#endif
