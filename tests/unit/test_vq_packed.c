/* What is in the packed format only. */
#include "tests/unit/vq_fixture.h"

TestSuite(vq_packed, .fini = finish, .timeout = 20);

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)
#define NEXT  VRING_DESC_F_NEXT
#define WR    VRING_DESC_F_WRITE
#define IND   VRING_DESC_F_INDIRECT
#define RAM   0x10000

Test(vq_packed, descriptors_that_are_used_are_not_available)
{
	static const uint16_t flags[] = {0, USED, AVAIL | USED};

	for (unsigned i = 0; i < 3; i++) {
		start(8, PACKED);
		r.pdesc[0] = (struct vring_packed_desc){RAM, 1, 0, flags[i]};
		cr_expect_eq(vq_pop(vq, &c), 0);
		finish();
		start_at(8, PACKED, 0); /* a lap on */
		r.pdesc[0] = (struct vring_packed_desc){RAM, 1, 0, flags[i]};
		cr_expect_eq(vq_pop(vq, &c), flags[i] == USED);
		finish();
	}
}

Test(vq_packed, the_id_is_that_of_the_last_descriptor)
{
	start(8, PACKED);
	driver_ring_put(&r, RAM, 1, 3, NEXT);
	driver_ring_put(&r, RAM, 1, 4, NEXT);
	driver_ring_put(&r, RAM, 1, 5, 0);
	driver_ring_kick(&r);
	cr_expect_eq(take(), 5);
}

Test(vq_packed, the_driver_chooses_any_id)
{
	start(4, PACKED);
	for (unsigned i = 0; i < 20; i++) {
		driver_ring_put(&r, RAM, 8, 0xffff, NEXT | WR);
		driver_ring_put(&r, RAM, 8, (uint16_t)(65535 - i), WR);
		driver_ring_kick(&r);
		cr_assert_eq(take(), 65535 - i);
		vq_push(vq, c.head, 1);
		vq_flush(vq);
	}
}

Test(vq_packed, used_descriptor_says_whether_anything_was_written)
{
	start(8, PACKED);
	add2(1, 1);
	add2(1, 1);
	driver_ring_kick(&r);
	vq_push(vq, take(), 0);
	vq_push(vq, take(), 1);
	vq_flush(vq);
	cr_expect_eq(r.pdesc[0].flags, AVAIL | USED);
	cr_expect_eq(r.pdesc[2].flags, AVAIL | USED | WR);
	cr_expect_eq(r.pdesc[2].len, 1);
}

Test(vq_packed, a_used_descriptor_takes_the_place_of_the_whole_chain)
{
	start(6, PACKED);
	for (unsigned i = 0; i < 50; i++) {
		int a = add2(1, 1), b = add(1, true), d = add2(1, 2);

		driver_ring_kick(&r);
		take();
		take();
		take();
		vq_push(vq, (uint16_t)b, 1);
		vq_push(vq, (uint16_t)d, 2);
		vq_push(vq, (uint16_t)a, 1);
		vq_flush(vq);
		collects(b, 1);
		collects(d, 2);
		collects(a, 1);
	}
}

Test(vq_packed, a_chain_may_lie_across_the_wrap)
{
	start_at(5, PACKED, 0x8000 | 4);
	add2(3, 4);
	driver_ring_kick(&r);
	take();
	cr_expect_eq(c.out_len, 3);
	cr_expect_eq(c.in_len, 4);
	cr_expect_eq(vq_position(vq), 1);
	vq_unpop(vq, 1);
	cr_expect_eq(vq_position(vq), 0x8000 | 4);
	take();
	vq_push(vq, c.head, 4);
	vq_flush(vq);
	collects(4, 4);
}

Test(vq_packed, a_chain_may_lie_across_the_wrap_of_the_largest_ring)
{
	for (uint16_t wrap = 0; wrap < 2; wrap++) {
		start_at(32768, PACKED, (uint16_t)(wrap << 15 | 32767));
		add2(3, 4);
		driver_ring_kick(&r);
		take();
		cr_expect_eq(c.in_len, 4);
		cr_expect_eq(vq_position(vq), (!wrap << 15 | 1));
		vq_unpop(vq, 1);
		vq_push(vq, take(), 4);
		vq_flush(vq);
		collects(32767, 4);
		finish();
	}
}

Test(vq_packed, an_unavailable_descriptor_ends_no_chain)
{
	start(8, PACKED);
	driver_ring_put(&r, RAM, 1, 0, NEXT); /* and no more follows */
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

Test(vq_packed, an_unavailable_descriptor_after_an_empty_one)
{
	start(8, PACKED);
	driver_ring_put(&r, RAM, 0, 0, NEXT);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

Test(vq_packed, a_chain_longer_than_the_ring_ends)
{
	for (uint32_t len = 0; len < 2; len++) {
		start(4, PACKED);
		/* Each available in its lap for ever: no driver could do that. */
		for (unsigned i = 0; i < 4; i++)
			driver_ring_put(&r, RAM, len, 0, NEXT);
		driver_ring_kick(&r);
		breaks(-EILSEQ);
		finish();
	}
}

Test(vq_packed, no_more_descriptors_in_flight_than_there_are)
{
	start(4, PACKED);
	add2(1, 1);
	add2(1, 1);
	driver_ring_kick(&r);
	take();
	take();
	driver_ring_put(&r, RAM, 1, 9, 0); /* over one that is in flight */
	driver_ring_kick(&r);
	cr_expect_eq(vq_pop(vq, &c), -EILSEQ);
}

Test(vq_packed, what_is_used_but_not_shown_is_in_flight)
{
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		start(2, PACKED | INDIRECT);
		add2(1, 1);
		driver_ring_kick(&r);
		vq_push(vq, take(), 1);
		driver_ring_put(&r, 0x200000, 16, 9, indirect ? IND : 0);
		driver_ring_kick(&r);
		cr_expect_eq(vq_pop(vq, &c), -EILSEQ);
		finish();
	}
}

Test(vq_packed, a_table_after_another_descriptor)
{
	start(8, PACKED | INDIRECT);
	driver_ring_put(&r, RAM, 1, 0, NEXT);
	driver_ring_put(&r, 0x200000, 16, 0, IND);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

Test(vq_packed, a_table_after_an_empty_descriptor)
{
	start(8, PACKED | INDIRECT);
	driver_ring_put(&r, RAM, 0, 0, NEXT);
	driver_ring_put(&r, 0x200000, 16, 0, IND);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

Test(vq_packed, flags_in_a_table_mean_nothing_but_write)
{
	struct vring_packed_desc *t;

	start(8, PACKED | INDIRECT);
	t = driver_mem_ptr(&m, 0x200000, 32);
	t[0] = (struct vring_packed_desc){RAM, 1, 77, NEXT | IND};
	t[1] = (struct vring_packed_desc){RAM, 2, 77, IND | WR};
	driver_ring_put(&r, 0x200000, 32, 3, IND | WR);
	driver_ring_kick(&r);
	cr_expect_eq(take(), 3);
	cr_expect_eq(c.out_len, 1);
	cr_expect_eq(c.in_len, 2);
}

/* --- event suppression --- */

static bool called(uint16_t pos, uint64_t f, uint32_t driver_event)
{
	unsigned n;

	start_at(8, PACKED | f, pos);
	atomic_store(r.driver_event, driver_event);
	add2(1, 1);
	add2(1, 1);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_push(vq, take(), 1);
	vq_flush(vq);
	n = calls();
	finish();
	return n;
}

#define WISH(off_wrap, flags) ((uint32_t)(off_wrap) | (uint32_t)(flags) << 16)

Test(vq_packed, driver_event_flags)
{
	cr_expect(called(0x8000, 0, WISH(0, VRING_PACKED_EVENT_FLAG_ENABLE)));
	cr_expect_not(called(0x8000, 0, WISH(0, VRING_PACKED_EVENT_FLAG_DISABLE)));
	cr_expect(called(0x8000, EVENT, WISH(0, VRING_PACKED_EVENT_FLAG_ENABLE)));
	cr_expect_not(called(0x8000, EVENT, WISH(0, VRING_PACKED_EVENT_FLAG_DISABLE)));
	cr_expect(called(0x8000, 0, WISH(0x8007, VRING_PACKED_EVENT_FLAG_DESC)), "not negotiated: no effect");
	cr_expect(called(0x8000, EVENT, WISH(0, 3)), "reserved");
}

Test(vq_packed, driver_event_descriptor)
{
	const unsigned desc = VRING_PACKED_EVENT_FLAG_DESC;

	cr_expect(called(0x8000, EVENT, WISH(0x8000, desc)));
	cr_expect(called(0x8000, EVENT, WISH(0x8002, desc)));
	cr_expect(called(0x8000, EVENT, WISH(0x8003, desc)));
	cr_expect_not(called(0x8000, EVENT, WISH(0x8004, desc)));
	cr_expect_not(called(0x8000, EVENT, WISH(0x0000, desc)), "the other lap");
	cr_expect_not(called(0x8000, EVENT, WISH(0x0007, desc)));
}

Test(vq_packed, driver_event_descriptor_across_the_wrap)
{
	const unsigned desc = VRING_PACKED_EVENT_FLAG_DESC;

	cr_expect(called(0x8006, EVENT, WISH(0x8006, desc)));
	cr_expect(called(0x8006, EVENT, WISH(0x8007, desc)));
	cr_expect(called(0x8006, EVENT, WISH(0x0000, desc)));
	cr_expect(called(0x8006, EVENT, WISH(0x0001, desc)));
	cr_expect_not(called(0x8006, EVENT, WISH(0x0002, desc)));
	cr_expect_not(called(0x8006, EVENT, WISH(0x8005, desc)));
	cr_expect_not(called(0x8006, EVENT, WISH(0x8000, desc)));
	cr_expect(called(0x0006, EVENT, WISH(0x8001, desc)));
	cr_expect_not(called(0x0006, EVENT, WISH(0x8002, desc)));
}

Test(vq_packed, driver_event_offset_beyond_the_ring_is_harmless)
{
	for (uint32_t off = 0; off < 0x10000; off += 0xfff)
		called(0x8006, EVENT, WISH(off, VRING_PACKED_EVENT_FLAG_DESC));
}

Test(vq_packed, device_event_names_the_next_descriptor)
{
	start(8, PACKED | EVENT);
	cr_expect_eq(atomic_load(r.device_event), WISH(0x8000, VRING_PACKED_EVENT_FLAG_DESC));
	for (unsigned i = 0; i < 3; i++)
		add2(1, 1);
	driver_ring_kick(&r);
	vq_busy(vq);
	cr_expect_eq(atomic_load(r.device_event) >> 16, VRING_PACKED_EVENT_FLAG_DISABLE);
	while (vq_pop(vq, &c) > 0)
		;
	vq_wait(vq);
	cr_expect_eq(atomic_load(r.device_event), WISH(0x8006, VRING_PACKED_EVENT_FLAG_DESC));
	vq_unpop(vq, 2);
	vq_wait(vq);
	cr_expect_eq(atomic_load(r.device_event), WISH(0x8006, VRING_PACKED_EVENT_FLAG_DESC));
}

Test(vq_packed, device_event_without_event_idx_is_on_or_off)
{
	start(8, PACKED);
	cr_expect_eq(atomic_load(r.device_event), WISH(0, VRING_PACKED_EVENT_FLAG_ENABLE));
	vq_busy(vq);
	cr_expect_eq(atomic_load(r.device_event), WISH(0, VRING_PACKED_EVENT_FLAG_DISABLE));
	vq_wait(vq);
	cr_expect_eq(atomic_load(r.device_event), WISH(0, VRING_PACKED_EVENT_FLAG_ENABLE));
}
