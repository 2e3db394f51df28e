/* VIRTIO_F_IN_ORDER: kept back until their turn, and shown in batches. */
#include "tests/unit/vq_fixture.h"

TestSuite(vq_order, .fini = finish, .timeout = 20);

#define BOTH(name)                                                                                             \
	static void name(uint64_t f);                                                                          \
	Test(vq_order, name##_split)                                                                           \
	{                                                                                                      \
		name(IN_ORDER);                                                                                \
	}                                                                                                      \
	Test(vq_order, name##_packed)                                                                          \
	{                                                                                                      \
		name(IN_ORDER | PACKED);                                                                       \
	}                                                                                                      \
	static void name(uint64_t f)

static uint16_t id[64];

static void take_n(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		id[i] = take();
}

BOTH(a_chain_waits_for_those_before_it)
{
	start(8, f);
	for (unsigned i = 0; i < 4; i++)
		add2(1, 9);
	driver_ring_kick(&r);
	take_n(4);
	vq_push(vq, id[2], 3);
	vq_push(vq, id[1], 2);
	vq_flush(vq);
	collects_nothing();
	cr_expect_eq(calls(), 0);
	cr_expect_eq(stats.chains, 0);
	cr_expect_eq(vq_inflight(vq), 2);
	vq_push(vq, id[0], 1);
	collects_nothing();
	vq_flush(vq);
	cr_expect_eq(calls(), 1);
	cr_expect_eq(stats.chains, 3);
	for (unsigned i = 0; i < 3; i++)
		collects(id[i], i + 1);
	collects_nothing();
	vq_push(vq, id[3], 4);
	vq_flush(vq);
	collects(id[3], 4);
}

Test(vq_order, chains_that_are_only_read_share_an_entry_split)
{
	start(8, IN_ORDER);
	memset(r.used->ring, 0xaa, 8 * sizeof(r.used->ring[0]));
	for (unsigned i = 0; i < 4; i++)
		add(1, false);
	driver_ring_kick(&r);
	take_n(4);
	for (unsigned i = 0; i < 4; i++)
		vq_push(vq, id[i], 0);
	vq_flush(vq);
	cr_expect_eq(r.used->idx, 4);
	cr_expect_eq(r.used->ring[0].id, id[3], "the entry of the first, the id of the last");
	cr_expect_eq(r.used->ring[1].id, 0xaaaaaaaa);
	for (unsigned i = 0; i < 4; i++)
		collects(id[i], 0);
}

Test(vq_order, chains_that_are_only_read_share_an_entry_packed)
{
	start(8, IN_ORDER | PACKED);
	for (unsigned i = 0; i < 4; i++)
		add(1, false);
	driver_ring_kick(&r);
	take_n(4);
	for (unsigned i = 0; i < 4; i++)
		vq_push(vq, id[i], 0);
	vq_flush(vq);
	cr_expect_eq(r.pdesc[0].id, id[3]);
	cr_expect(r.pdesc[0].flags & 1u << VRING_PACKED_DESC_F_USED);
	cr_expect_not(r.pdesc[1].flags & 1u << VRING_PACKED_DESC_F_USED);
	for (unsigned i = 0; i < 4; i++)
		collects(id[i], 0);
}

BOTH(a_chain_that_could_be_written_is_never_skipped)
{
	start(8, f);
	add(1, false);
	add2(1, 10);
	add2(1, 10);
	add(1, false);
	driver_ring_kick(&r);
	take_n(4);
	vq_push(vq, id[0], 0);
	vq_push(vq, id[1], 10); /* in full, even */
	vq_push(vq, id[2], 4);
	vq_push(vq, id[3], 0);
	vq_flush(vq);
	collects(id[0], 0);
	collects(id[1], 10);
	collects(id[2], 4);
	collects(id[3], 0);
	if (!(f & PACKED)) {
		cr_expect_eq(r.used->ring[0].id, id[1]);
		cr_expect_eq(r.used->ring[2].id, id[2]);
		cr_expect_eq(r.used->ring[3].id, id[3]);
	}
}

BOTH(a_batch_ends_with_its_flush)
{
	start(8, f);
	for (unsigned i = 0; i < 2; i++)
		add(1, false);
	driver_ring_kick(&r);
	take_n(2);
	vq_push(vq, id[0], 0);
	vq_flush(vq);
	collects(id[0], 0);
	vq_push(vq, id[1], 0);
	vq_flush(vq);
	collects(id[1], 0);
}

/* Every mixture of readable and writable chains, of bursts and of orders of completion. */
static void mixture(uint64_t f)
{
	unsigned seed = 1;

	start(16, f);
	for (unsigned round = 0; round < 3000; round++) {
		uint32_t len[16];
		unsigned n = 0;

		for (; n < 10; n++) {
			seed = seed * 1103515245 + 12345;
			if (m.next > DRIVER_MEM_LOW_END / 2)
				m.next = 1 << 20;
			if ((seed >> 16 & 1 ? add(8, false) : add2(1, 8)) < 0)
				break;
		}
		driver_ring_kick(&r);
		for (unsigned i = 0; i < n; i++) {
			id[i] = take();
			len[i] = c.nin ? i % 9 : 0;
		}
		seed = seed * 1103515245 + 12345;
		if (seed >> 16 & 1) {
			vq_unpop(vq, n / 2);
			for (unsigned i = n - n / 2; i < n; i++)
				cr_assert_eq(take(), id[i]);
		}
		for (unsigned i = 0, first = seed >> 17 & 7; i < n; i++) {
			unsigned k = (i * 7 + first) % n;

			/* 7 and n have to have no divisor in common */
			if (n % 7 == 0)
				k = n - 1 - i;
			vq_push(vq, id[k], len[k]);
			if (seed >> (20 + i % 8) & 1)
				vq_flush(vq);
		}
		vq_flush(vq);
		for (unsigned i = 0; i < n; i++)
			collects(id[i], len[i]);
		collects_nothing();
		cr_assert_eq(vq_inflight(vq), 0);
		cr_assert_eq(vq_position(vq), r.avail_pos);
	}
	cr_expect_eq(vq_error(vq), 0);
}

BOTH(any_mixture_comes_back_whole)
{
	mixture(f);
}

BOTH(any_mixture_comes_back_whole_event_idx)
{
	mixture(f | EVENT);
}

BOTH(unpop_forgets_what_was_to_be_kept_in_order)
{
	start(8, f);
	for (unsigned i = 0; i < 4; i++)
		add2(1, 9);
	driver_ring_kick(&r);
	take_n(4);
	vq_push(vq, id[1], 1);
	vq_unpop(vq, 2);
	vq_push(vq, id[0], 0);
	vq_flush(vq);
	collects(id[0], 0);
	collects(id[1], 1);
	collects_nothing();
	cr_assert_eq(take(), id[2]);
	cr_assert_eq(take(), id[3]);
	vq_push(vq, id[3], 3);
	vq_push(vq, id[2], 2);
	vq_flush(vq);
	collects(id[2], 2);
	collects(id[3], 3);
}

/* A driver that offers again what has not come back gets no more out of it than an error. */
BOTH(a_head_that_is_kept_back_cannot_be_offered_beyond_the_size)
{
	start(2, f);
	add(1, true);
	add(1, true);
	driver_ring_kick(&r);
	take_n(2);
	vq_push(vq, id[1], 0);
	if (f & PACKED)
		driver_ring_put(&r, 0x10000, 1, id[1], 0);
	else
		driver_ring_offer(&r, id[1]);
	driver_ring_kick(&r);
	cr_expect_eq(vq_pop(vq, &c), -EILSEQ);
	vq_push(vq, id[0], 0);
	vq_flush(vq);
	cr_expect_eq(vq_inflight(vq), 0);
}
