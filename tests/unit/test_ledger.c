/* Who offered, took and removed a feature bit; and how a device keeps book of it. */
#include <criterion/criterion.h>

#include "devices/virtio/ledger.h"
#include "tests/unit/virtio_rig.h"

static struct ledger l;
static struct ledger_line line;

static void begin(uint64_t device, uint64_t user)
{
	ledger_begin(&l, device, user);
}

static void look(unsigned bit)
{
	cr_assert(ledger_line(&l, bit, &line), "bit %u is known to nobody", bit);
}

/* --- the book --- */

WholeTest(ledger, a_bit_that_all_have_is_offered)
{
	begin(BIT(3), 0);
	ledger_part(&l, "a", BIT(3), BIT(3));
	look(3);
	cr_expect(line.offered);
	cr_expect_eq(line.device, LEDGER_YES);
	cr_expect_eq(line.datapath, LEDGER_YES);
	cr_expect_not(line.user_off || line.by_device || line.by_part[0]);
	cr_expect_eq(ledger_offered(&l), BIT(3));
}

WholeTest(ledger, a_datapath_without_an_opinion_is_silent)
{
	begin(BIT(3), 0);
	ledger_part(&l, "a", 0, BIT(4));
	look(3);
	cr_expect(line.offered);
	cr_expect_eq(line.datapath, LEDGER_SILENT);
	cr_expect_not(line.by_part[0]);
}

WholeTest(ledger, a_datapath_that_has_it_not_removes_it)
{
	begin(BIT(3) | BIT(4), 0);
	ledger_part(&l, "a", BIT(4), BIT(3) | BIT(4));
	look(3);
	cr_expect_not(line.offered);
	cr_expect_eq(line.datapath, LEDGER_NO);
	cr_expect(line.by_part[0]);
	cr_expect_not(line.by_device);
	cr_expect_eq(ledger_offered(&l), BIT(4));
}

WholeTest(ledger, of_two_datapaths_the_one_that_says_no_is_named)
{
	begin(BIT(3), 0);
	ledger_part(&l, "here", BIT(3), BIT(3));
	ledger_part(&l, "there", 0, BIT(3));
	look(3);
	cr_expect_eq(line.datapath, LEDGER_NO);
	cr_expect_not(line.by_part[0]);
	cr_expect(line.by_part[1]);
}

WholeTest(ledger, of_two_datapaths_a_later_yes_hides_no_no)
{
	begin(BIT(3), 0);
	ledger_part(&l, "here", 0, BIT(3));
	ledger_part(&l, "there", BIT(3), BIT(3));
	look(3);
	cr_expect_eq(line.datapath, LEDGER_NO);
	cr_expect(line.by_part[0]);
}

WholeTest(ledger, a_user_and_a_datapath_are_both_named)
{
	begin(BIT(3), BIT(3));
	ledger_part(&l, "a", 0, BIT(3));
	look(3);
	cr_expect(line.user_off);
	cr_expect(line.by_part[0]);
	cr_expect_not(line.offered);
}

WholeTest(ledger, what_only_the_datapath_has_is_the_devices_fault)
{
	begin(0, 0);
	ledger_part(&l, "a", BIT(3), BIT(3));
	look(3);
	cr_expect_eq(line.device, LEDGER_NO);
	cr_expect(line.by_device);
	cr_expect_not(line.offered);
}

WholeTest(ledger, a_device_that_left_out_what_its_user_turned_off_is_not_to_blame)
{
	begin(0, BIT(3));
	look(3);
	cr_expect_eq(line.device, LEDGER_SILENT);
	cr_expect(line.user_off);
	cr_expect_not(line.by_device);
}

WholeTest(ledger, what_nobody_has_has_no_line)
{
	begin(BIT(3), 0);
	ledger_part(&l, "a", BIT(3), BIT(3) | BIT(4));
	cr_expect_not(ledger_line(&l, 4, &line));
	cr_expect_not(ledger_line(&l, 63, &line));
}

WholeTest(ledger, a_device_without_a_model_has_no_say_in_bits_of_devices)
{
	begin(~(BIT(50) - BIT(24)) | BIT(28), 0);
	ledger_part(&l, "a", BIT(3) | BIT(28) | BIT(55), UINT64_MAX);
	look(3);
	cr_expect_eq(line.device, LEDGER_SILENT);
	cr_expect(line.offered);
	look(55);
	cr_expect_eq(line.device, LEDGER_SILENT);
	look(28);
	cr_expect_eq(line.device, LEDGER_YES);
	cr_expect_not(ledger_line(&l, 5, &line));
}

WholeTest(ledger, begins_anew)
{
	begin(BIT(3), 0);
	ledger_part(&l, "a", 0, BIT(3));
	ledger_part(&l, "b", 0, BIT(3));
	begin(BIT(3), 0);
	ledger_part(&l, "c", BIT(3), BIT(3));
	cr_expect_eq(l.nparts, 1);
	look(3);
	cr_expect(line.offered);
}

/* --- a device's --- */

TestSuite(ledger_of_a_device, .init = setup, .fini = teardown_once, .timeout = 60);

WholeTest(ledger_of_a_device, adds_up_to_what_is_offered)
{
	f.features = BIT(0) | BIT(1) | BIT(2);
	f.dev.hidden = BIT(2) | BIT(VIRTIO_F_RING_PACKED);
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	local.offer.opinion = BIT(0) | BIT(VIRTIO_F_IN_ORDER);
	remote.offer.opinion = BIT(1);
	init();
	cr_expect_eq(ledger_offered(&f.dev.ledger), f.dev.offered);
	l = f.dev.ledger;
	cr_expect_eq(l.nparts, 2);
	look(0);
	cr_expect(line.by_part[0] && !line.by_part[1]);
	look(1);
	cr_expect(line.by_part[1] && !line.by_part[0]);
	look(2);
	cr_expect(line.user_off);
	look(VIRTIO_F_IN_ORDER);
	cr_expect(line.by_part[0]);
	cr_expect_str_eq(l.part[1].who, remote.dp.ops->name);
}

WholeTest(ledger_of_a_device, what_a_driver_wanted_in_vain_is_kept)
{
	f.features = BIT(0);
	init();
	cr_expect_not(fake_device_negotiate(&f, BIT(0) | BIT(5)));
	cr_expect_eq(f.dev.refused, BIT(5));
	cr_expect(fake_device_negotiate(&f, BIT(0)));
	cr_expect_eq(f.dev.refused, 0);
}

WholeTest(ledger_of_a_device, doorbells_that_were_exits_are_counted)
{
	f.dev.remote = &remote.dp; /* whoever serves the queue */
	init();
	live(0);
	virtio_queue_notify(&f.dev, 1);
	virtio_queue_notify(&f.dev, 1);
	virtio_queue_notify(&f.dev, 77);
	cr_expect_eq(f.dev.queue[0].exit_kicks, 0);
	cr_expect_eq(f.dev.queue[1].exit_kicks, 2);
}
