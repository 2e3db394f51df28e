/* The core of a virtio device: its configuration space. */
#include <criterion/criterion.h>
#include <string.h>

#include "lib/cleanup.h"
#include "tests/unit/virtio_rig.h"

TestSuite(virtio_config, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- configuration space --- */

WholeTest(virtio_config, config_reads_of_any_width_and_offset)
{
	uint8_t buf[16], want[16];

	init();
	for (unsigned i = 0; i < FAKE_DEVICE_CONFIG; i++)
		f.config[i] = (uint8_t)(i + 1);
	for (unsigned off = 0; off < FAKE_DEVICE_CONFIG + 20; off++)
		for (unsigned len = 0; len <= sizeof(buf); len++) {
			memset(buf, 0xee, sizeof(buf));
			memset(want, 0xee, sizeof(want));
			for (unsigned i = 0; i < len; i++)
				want[i] = (uint8_t)(off + i < FAKE_DEVICE_CONFIG ? off + i + 1 : 0);
			virtio_config_read(&f.dev, off, buf, len);
			cr_assert_arr_eq(buf, want, sizeof(buf), "offset %u width %u", off, len);
		}
}

static const uint64_t far_offsets[] = {
	FAKE_DEVICE_CONFIG, 0x1000, UINT32_MAX - 3, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX - 7, UINT64_MAX,
};

WholeTest(virtio_config, config_reads_far_beyond_the_end_are_zero)
{
	init();
	for (unsigned i = 0; i < ARRAY_SIZE(far_offsets); i++) {
		uint64_t v = UINT64_MAX;

		virtio_config_read(&f.dev, far_offsets[i], &v, sizeof(v));
		cr_expect_eq(v, 0);
	}
}

WholeTest(virtio_config, config_writes_beyond_the_end_are_ignored)
{
	const uint64_t v = UINT64_MAX;

	init();
	for (unsigned i = 0; i < ARRAY_SIZE(far_offsets); i++)
		virtio_config_write(&f.dev, far_offsets[i], &v, sizeof(v));
	cr_expect_eq(f.config_writes, 0);
}

WholeTest(virtio_config, config_writes_across_the_end_are_cut)
{
	const uint64_t v = UINT64_MAX;
	uint8_t want[FAKE_DEVICE_CONFIG] = {0};

	init();
	virtio_config_write(&f.dev, FAKE_DEVICE_CONFIG - 3, &v, sizeof(v));
	memset(want + FAKE_DEVICE_CONFIG - 3, 0xff, 3);
	cr_expect_arr_eq(f.config, want, sizeof(want));
}

WholeTest(virtio_config, config_writes_that_the_device_model_does_not_take_are_ignored)
{
	struct virtio_device_ops ops = *f.dev.ops;
	const uint32_t v = UINT32_MAX;

	ops.config_write = NULL;
	f.dev.ops = &ops;
	init();
	virtio_config_write(&f.dev, 0, &v, sizeof(v));
	cr_expect_eq(f.config[0], 0);
}

WholeTest(virtio_config, an_empty_config_space_reads_zero)
{
	uint32_t v = UINT32_MAX;

	f.config_size = 0;
	init();
	virtio_config_read(&f.dev, 0, &v, sizeof(v));
	virtio_config_write(&f.dev, 0, &v, sizeof(v));
	cr_expect_eq(v, 0);
	cr_expect_eq(f.config_writes, 0);
}

WholeTest(virtio_config, a_config_change_interrupts_a_live_driver_only)
{
	init();
	virtio_config_changed(&f.dev);
	cr_assert(fake_device_negotiate(&f, 0));
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 0);
	queues();
	fake_device_status(&f, LIVE);
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 1);
	cr_expect_eq(f.dev.config_generation, 3);
	fake_device_status(&f, 0);
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 1);
}

WholeTest(virtio_config, the_datapaths_config_change_is_the_devices)
{
	f.dev.remote = &remote.dp;
	init();
	live(0);
	remote.dp.events->config_changed(remote.dp.opaque);
	cr_expect_eq(f.dev.config_generation, 1);
	cr_expect_eq(ft.config_irqs, 1);
}
