/* What the specification demands of the device's side of a ring, where no other test of virtqueues says it:
 * docs/conformance.md. */
#include "tests/unit/vq_fixture.h"

TestSuite(vq_conformance, .fini = finish, .timeout = 20);

static uint16_t id[16];

static void take_n(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		id[i] = take();
}

/* Pushes it and shows it: does the driver hear of it? */
static bool heard(uint16_t head)
{
	calls();
	vq_push(vq, head, 0);
	vq_flush(vq);
	return calls();
}

static void in_ring_order(uint64_t f)
{
	int added[8];

	start(8, f);
	for (unsigned i = 0; i < 8; i++)
		added[i] = add(1, i & 1);
	driver_ring_kick(&r);
	take_n(8);
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(id[i], added[i]);
}

Test(vq_conformance, chains_are_taken_in_ring_order_split)
{
	in_ring_order(0);
}

Test(vq_conformance, chains_are_taken_in_ring_order_packed)
{
	in_ring_order(PACKED);
}

/* Neither descriptors nor the avail ring belong to the device. */
Test(vq_conformance, what_the_driver_writes_of_a_split_ring_stays_as_it_was)
{
	static const uint64_t kind[] = {0, EVENT, IN_ORDER, INDIRECT | EVENT};
	struct vring_desc desc[16];
	uint8_t avail[4 + 2 * 16 + 2], table[64];

	for (unsigned k = 0; k < sizeof(kind) / sizeof(kind[0]); k++) {
		struct driver_buf b[2] = {{0x10000, 8, false}, {0x11000, 8, true}};

		start(16, kind[k]);
		for (unsigned i = 0; i < 4; i++)
			add2(1, 9);
		if (kind[k] & INDIRECT)
			driver_ring_add_indirect(&r, 0x200000, b, 2);
		else
			driver_ring_add(&r, b, 2);
		driver_ring_kick(&r);
		memcpy(desc, r.desc, sizeof(desc));
		memcpy(avail, r.avail, sizeof(avail));
		memcpy(table, driver_mem_ptr(&m, 0x200000, 64), 64);
		vq_busy(vq);
		take_n(5);
		vq_unpop(vq, 2);
		vq_push(vq, id[1], 3);
		vq_flush(vq);
		vq_push(vq, id[0], 9);
		vq_push(vq, id[2], 0);
		vq_wait(vq);
		cr_expect_arr_eq(r.desc, desc, sizeof(desc));
		cr_expect_arr_eq(r.avail, avail, sizeof(avail));
		cr_expect_arr_eq(driver_mem_ptr(&m, 0x200000, 64), table, 64);
		finish();
	}
}

/* Once the driver may see a descriptor as used it is the driver's. */
Test(vq_conformance, a_used_packed_descriptor_is_not_written_again)
{
	static const unsigned order[] = {2, 0, 3, 1};
	struct vring_packed_desc seen[8];

	start(8, PACKED);
	for (unsigned i = 0; i < 4; i++)
		add2(1, 9);
	driver_ring_kick(&r);
	take_n(4);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(seen, r.pdesc, sizeof(seen));
		vq_push(vq, id[order[i]], i + 1);
		vq_flush(vq);
		for (unsigned k = 0; k < 8; k++)
			if (k != 2 * i)
				cr_expect_arr_eq(&r.pdesc[k], &seen[k], sizeof(seen[k]), "%u/%u", i, k);
		cr_expect_eq(r.pdesc[2 * i].id, id[order[i]]);
	}
	vq_wait(vq);
	vq_flush(vq);
	for (unsigned i = 0; i < 4; i++)
		collects(id[order[i]], i + 1);
}

Test(vq_conformance, used_event_means_nothing_without_event_idx)
{
	start(8, 0);
	for (unsigned i = 0; i < 2; i++)
		add(1, false);
	driver_ring_kick(&r);
	take_n(2);
	r.avail->ring[8] = 0x7fff;
	r.avail->flags = 0;
	cr_expect(heard(id[0]), "flags is 0");
	r.avail->ring[8] = 1;
	r.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	cr_expect_not(heard(id[1]), "flags is 1");
}

Test(vq_conformance, avail_flags_mean_nothing_with_event_idx)
{
	start(8, EVENT);
	for (unsigned i = 0; i < 2; i++)
		add(1, false);
	driver_ring_kick(&r);
	take_n(2);
	r.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	*r.used_event = 0;
	cr_expect(heard(id[0]), "used_event is the index it had");
	r.avail->flags = 0;
	*r.used_event = 7;
	cr_expect_not(heard(id[1]), "used_event is far off");
}

Test(vq_conformance, used_flags_are_zero_or_one)
{
	start(8, 0);
	cr_expect_eq(r.used->flags, 0);
	vq_busy(vq);
	cr_expect_eq(r.used->flags, VRING_USED_F_NO_NOTIFY);
	vq_wait(vq);
	cr_expect_eq(r.used->flags, 0);
	vq_busy(vq);
	add(1, false);
	driver_ring_kick(&r);
	vq_push(vq, take(), 0);
	vq_flush(vq);
	cr_expect_eq(r.used->flags, VRING_USED_F_NO_NOTIFY);
}

/* Kicks with nothing behind them: nothing is found, nothing is shown, nobody is called. */
static void spurious(uint64_t f)
{
	start(8, f);
	calls();
	for (unsigned i = 0; i < 10; i++) {
		vq_busy(vq);
		cr_expect_eq(vq_pop(vq, &c), 0);
		cr_expect_not(vq_wait(vq));
	}
	collects_nothing();
	cr_expect_eq(calls(), 0);
	add(1, false);
	cr_expect(driver_ring_kick(&r));
	take();
}

Test(vq_conformance, kicks_for_nothing_do_nothing_split)
{
	spurious(0);
}

Test(vq_conformance, kicks_for_nothing_do_nothing_split_event_idx)
{
	spurious(EVENT);
}

Test(vq_conformance, kicks_for_nothing_do_nothing_packed)
{
	spurious(PACKED);
}
