/* What a driver must not do, and that each of it breaks the ring and nothing else. */
#include <time.h>

#include "tests/unit/vq_fixture.h"

TestSuite(vq_malformed, .fini = finish, .timeout = 20);

#define RAM ram
#define TOP DRIVER_MEM_HIGH_END

#define NEXT VRING_DESC_F_NEXT
#define WR   VRING_DESC_F_WRITE
#define IND  VRING_DESC_F_INDIRECT

/* A chain of whatever descriptors: in the ring from entry 0 on, linked in that order by the flag. */
static void offer(const struct vring_desc *d, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (r.packed) {
			driver_ring_put(&r, d[i].addr, d[i].len, 0, d[i].flags);
			continue;
		}
		r.desc[i] = d[i];
		if (!d[i].next)
			r.desc[i].next = (uint16_t)(i + 1);
	}
	if (!r.packed)
		driver_ring_offer(&r, 0);
	driver_ring_kick(&r);
}

#define OFFER(...)                                                                                             \
	offer((struct vring_desc[]){__VA_ARGS__},                                                              \
	      sizeof((struct vring_desc[]){__VA_ARGS__}) / sizeof(struct vring_desc))

/* Most of it is asked of both formats, and twice: buffers where the virtqueue expects them are taken on
 * another path than buffers elsewhere. */
static gpa_t ram = 0x10000;

#define ELSEWHERE DRIVER_MEM_HIGH_START

#define CASE(name, call, where)                                                                                \
	Test(vq_malformed, name)                                                                               \
	{                                                                                                      \
		ram = (where);                                                                                 \
		call;                                                                                          \
	}

#define SPLIT(name)                                                                                            \
	static void name(void);                                                                                \
	CASE(name##_split, name(), 0x10000)                                                                    \
	CASE(name##_split_elsewhere, name(), ELSEWHERE)                                                        \
	static void name(void)

#define BOTH(name)                                                                                             \
	static void name(uint64_t f);                                                                          \
	CASE(name##_split, name(INDIRECT), 0x10000)                                                            \
	CASE(name##_split_elsewhere, name(INDIRECT), ELSEWHERE)                                                \
	CASE(name##_packed, name(INDIRECT | PACKED), 0x10000)                                                  \
	CASE(name##_packed_elsewhere, name(INDIRECT | PACKED), ELSEWHERE)                                      \
	static void name(uint64_t f)

/* --- the avail ring --- */

SPLIT(head_is_the_queue_size)
{
	start(8, 0);
	driver_ring_offer(&r, 8);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(head_is_65535)
{
	start(8, 0);
	driver_ring_offer(&r, 0xffff);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(avail_index_jumps_beyond_the_size)
{
	start(8, 0);
	r.avail_pos = 9;
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(avail_index_goes_back)
{
	start(8, 0);
	for (unsigned i = 0; i < 3; i++)
		add(1, true);
	driver_ring_kick(&r);
	for (unsigned i = 0; i < 3; i++)
		vq_push(vq, take(), 0);
	vq_flush(vq);
	r.avail_pos = 2;
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(avail_index_counts_what_is_in_flight)
{
	start(8, 0);
	for (unsigned i = 0; i < 6; i++)
		add(1, true);
	driver_ring_kick(&r);
	for (unsigned i = 0; i < 6; i++)
		take();
	vq_push(vq, c.head, 0); /* not shown: the driver cannot know */
	r.avail_pos = 9;
	driver_ring_kick(&r);
	cr_assert_eq(vq_pop(vq, &c), -EILSEQ);
}

SPLIT(avail_index_is_wrong_at_the_start)
{
	start_at(8, 0, 100);
	r.avail_pos = 50;
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

BOTH(a_head_in_flight_is_not_taken_again)
{
	start(8, f);
	OFFER({RAM, 1, 0, 0});
	take();
	OFFER({RAM, 1, 0, 0});
	cr_expect_eq(vq_pop(vq, &c), -EBUSY);
	cr_expect_eq(vq_inflight(vq), 1);
	vq_push(vq, 0, 0); /* what is in flight still ends well */
	vq_flush(vq);
	cr_expect_eq(vq_inflight(vq), 0);
}

BOTH(a_head_twice_in_one_burst)
{
	start(8, f);
	OFFER({RAM, 1, 0, 0});
	OFFER({RAM, 1, 0, 0});
	take();
	cr_expect_eq(vq_pop(vq, &c), -EBUSY);
}

BOTH(a_head_twice_is_seen_in_order_too)
{
	start(8, f | IN_ORDER);
	OFFER({RAM, 1, 0, 0});
	OFFER({RAM, 1, 0, 0});
	take();
	cr_expect_eq(vq_pop(vq, &c), -EBUSY);
}

/* --- chains --- */

SPLIT(a_chain_that_is_its_own_next_ends)
{
	start(8, 0);
	r.desc[1] = (struct vring_desc){RAM, 1, NEXT, 1};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(a_loop_of_two_ends)
{
	start(8, 0);
	r.desc[1] = (struct vring_desc){RAM, 1, NEXT, 6};
	r.desc[6] = (struct vring_desc){RAM, 1, NEXT, 1};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(a_loop_of_empty_descriptors_ends)
{
	start(8, 0);
	r.desc[1] = (struct vring_desc){RAM, 0, NEXT, 6};
	r.desc[6] = (struct vring_desc){RAM, 0, NEXT, 1};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(a_loop_longer_than_iov_ends)
{
	start(NIOV * 2, 0);
	r.desc[1] = (struct vring_desc){RAM, 1, NEXT, 1};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-E2BIG);
}

SPLIT(next_is_beyond_the_table)
{
	start(8, 0);
	r.desc[1] = (struct vring_desc){RAM, 1, NEXT, 8};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(next_is_beyond_the_table_after_an_empty_one)
{
	start(8, 0);
	r.desc[1] = (struct vring_desc){RAM, 0, NEXT, 0xffff};
	driver_ring_offer(&r, 1);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

BOTH(readable_after_writable)
{
	start(8, f);
	OFFER({RAM, 1, NEXT | WR, 0}, {RAM, 1, 0, 0});
	breaks(-EILSEQ);
}

BOTH(readable_after_writable_in_a_table)
{
	start(8, f);
	driver_ring_add_indirect(&r, 0x200000, (struct driver_buf[]){{RAM, 1, true}, {RAM, 1, false}}, 2);
	driver_ring_kick(&r);
	breaks(-EILSEQ);
}

SPLIT(readable_table_after_a_writable_descriptor)
{
	struct vring_desc *t;

	start(8, INDIRECT);
	t = driver_mem_ptr(&m, 0x200000, 16);
	*t = (struct vring_desc){RAM, 1, 0, 0};
	OFFER({RAM, 1, NEXT | WR, 0}, {0x200000, 16, IND, 0});
	breaks(-EILSEQ);
}

BOTH(more_pieces_than_iov)
{
	struct vring_desc d[NIOV + 1];

	start(NIOV * 2, f);
	for (unsigned i = 0; i <= NIOV; i++)
		d[i] = (struct vring_desc){RAM, 1, (uint16_t)(i < NIOV ? NEXT : 0), 0};
	offer(d, NIOV + 1);
	breaks(-E2BIG);
}

BOTH(more_pieces_than_iov_in_a_table)
{
	struct driver_buf b[NIOV + 1];

	start(2, f);
	for (unsigned i = 0; i <= NIOV; i++)
		b[i] = (struct driver_buf){RAM, 1, true};
	driver_ring_add_indirect(&r, 0x200000, b, NIOV + 1);
	driver_ring_kick(&r);
	breaks(-E2BIG);
}

BOTH(no_room_in_iov_at_all)
{
	start(8, f);
	c.iov_max = 0;
	OFFER({RAM, 1, 0, 0});
	breaks(-E2BIG);
}

BOTH(a_chain_longer_than_4_gib)
{
	start(8, f);
	m.mem.region[0].size = 2ull << 30; /* never touched */
	OFFER({0, 1u << 30, NEXT, 0}, {0, 1u << 30, NEXT, 0}, {0, 1u << 30, NEXT | WR, 0},
	      {0, 1u << 30, NEXT | WR, 0}, {5, 1, WR, 0});
	breaks(-EILSEQ);
	m.mem.region[0].size = DRIVER_MEM_LOW_END;
}

/* --- addresses --- */

/* One chain whose second piece lies there; the first may have put its region into the cache. */
static int at(uint64_t f, gpa_t addr, uint32_t len)
{
	int rc = 0;

	for (unsigned i = 0; i < 4; i++) {
		gpa_t first = i & 1 ? DRIVER_MEM_HIGH_START : RAM;
		struct driver_buf b[2] = {{first, 1, false}, {addr, len, true}};
		int got;

		start(8, f);
		if (i & 2)
			driver_ring_add_indirect(&r, 0x200000, b, 2);
		else
			driver_ring_add(&r, b, 2);
		driver_ring_kick(&r);
		got = vq_pop(vq, &c);
		cr_expect(!i || got == rc, "the same wherever it is said");
		rc = got;
		finish();
	}
	return rc;
}

BOTH(the_last_byte_of_ram_is_ram)
{
	cr_expect_eq(at(f, TOP - 1, 1), 1);
	cr_expect_eq(at(f, TOP - 100, 100), 1);
	cr_expect_eq(at(f, DRIVER_MEM_LOW_END - 1, 1), 1);
	cr_expect_eq(at(f, 0, 1), 1);
}

BOTH(across_the_end_of_ram)
{
	cr_expect_eq(at(f, TOP - 1, 2), -EFAULT);
	cr_expect_eq(at(f, TOP, 1), -EFAULT);
	cr_expect_eq(at(f, TOP - 100, 0xffffffff), -EFAULT);
}

BOTH(across_the_hole)
{
	cr_expect_eq(at(f, DRIVER_MEM_LOW_END - 1, 2), -EFAULT);
	cr_expect_eq(at(f, DRIVER_MEM_HIGH_START - 1, 2), -EFAULT);
	cr_expect_eq(at(f, DRIVER_MEM_LOW_END - 1, DRIVER_MEM_HIGH_START - DRIVER_MEM_LOW_END + 2), -EFAULT);
}

BOTH(in_the_hole)
{
	cr_expect_eq(at(f, DRIVER_MEM_LOW_END, 1), -EFAULT);
	cr_expect_eq(at(f, DRIVER_MEM_HIGH_START - 1, 1), -EFAULT);
	cr_expect_eq(at(f, 0xfee00000, 4), -EFAULT);
}

BOTH(address_and_length_overflow)
{
	cr_expect_eq(at(f, UINT64_MAX, 1), -EFAULT);
	cr_expect_eq(at(f, UINT64_MAX, 2), -EFAULT);
	cr_expect_eq(at(f, UINT64_MAX - 0xfffe, 0x1ffff), -EFAULT);
	cr_expect_eq(at(f, UINT64_MAX - 0xfffffffe, 0xffffffff), -EFAULT);
}

BOTH(the_longest_length)
{
	cr_expect_eq(at(f, RAM, 0xffffffff), -EFAULT);
	cr_expect_eq(at(f, 0, 0xffffffff), -EFAULT);
}

BOTH(adjacent_regions_are_two)
{
	cr_expect_eq(at(f, RAM, 1), 1);
	start(8, f);
	m.mem.region[2] = (struct mem_region){.gpa = DRIVER_MEM_LOW_END,
					      .size = 2 << 20,
					      .hva = m.mem.region[1].hva,
					      .fd = -1};
	m.mem.nregions = 3;
	OFFER({DRIVER_MEM_LOW_END - 1, 2, 0, 0});
	breaks(-EFAULT);
}

/* --- indirect tables --- */

static int table_of(uint64_t f, gpa_t addr, uint32_t len, uint16_t flags)
{
	int rc;

	start(8, f);
	OFFER({addr, len, flags, 0});
	rc = vq_pop(vq, &c);
	finish();
	return rc;
}

BOTH(a_table_of_no_length)
{
	cr_expect_eq(table_of(f, 0x200000, 0, IND), -EILSEQ);
	cr_expect_eq(table_of(f, UINT64_MAX, 0, IND), -EILSEQ);
}

BOTH(a_table_that_ends_in_a_descriptor)
{
	cr_expect_eq(table_of(f, 0x200000, 15, IND), -EILSEQ);
	cr_expect_eq(table_of(f, 0x200000, 17, IND), -EILSEQ);
	cr_expect_eq(table_of(f, 0x200000, 31, IND), -EILSEQ);
	cr_expect_eq(table_of(f, 0x200000, 0xffffffff, IND), -EILSEQ);
}

BOTH(a_table_that_is_not_all_ram)
{
	cr_expect_eq(table_of(f, TOP - 16, 32, IND), -EFAULT);
	cr_expect_eq(table_of(f, DRIVER_MEM_LOW_END - 16, 32, IND), -EFAULT);
	cr_expect_eq(table_of(f, DRIVER_MEM_LOW_END, 16, IND), -EFAULT);
	cr_expect_eq(table_of(f, UINT64_MAX - 15, 16, IND), -EFAULT);
	cr_expect_eq(table_of(f, UINT64_MAX - 15, 32, IND), -EFAULT);
	cr_expect_lt(table_of(f, 0x200000, 0xfffffff0, IND), 0);
}

BOTH(a_table_together_with_next)
{
	cr_expect_eq(table_of(f, 0x200000, 16, IND | NEXT), -EILSEQ);
	cr_expect_eq(table_of(f, 0x200000, 16, IND | NEXT | WR), -EILSEQ);
}

BOTH(a_table_that_was_not_negotiated)
{
	cr_expect_eq(table_of(f & ~INDIRECT, 0x200000, 16, IND), -EILSEQ);
}

SPLIT(a_table_in_a_table)
{
	struct vring_desc *t;

	start(8, INDIRECT);
	t = driver_mem_ptr(&m, 0x200000, 32);
	t[0] = (struct vring_desc){RAM, 1, NEXT, 1};
	t[1] = (struct vring_desc){0x200000, 32, IND, 0};
	OFFER({0x200000, 32, IND, 0});
	breaks(-EILSEQ);
}

SPLIT(a_loop_in_a_table)
{
	struct vring_desc *t;

	start(8, INDIRECT);
	t = driver_mem_ptr(&m, 0x200000, 32);
	t[0] = (struct vring_desc){RAM, 1, NEXT, 1};
	t[1] = (struct vring_desc){RAM, 1, NEXT, 0};
	OFFER({0x200000, 32, IND, 0});
	breaks(-EILSEQ);
}

SPLIT(next_is_beyond_the_indirect_table)
{
	struct vring_desc *t;

	start(8, INDIRECT);
	t = driver_mem_ptr(&m, 0x200000, 64);
	t[0] = (struct vring_desc){RAM, 1, NEXT, 2};
	t[2] = (struct vring_desc){RAM, 1, 0, 0};
	OFFER({0x200000, 32, IND, 0});
	breaks(-EILSEQ);
}

/* Empty descriptors fill no iov: what ends this is the number of steps, and soon. */
BOTH(a_huge_table_of_nothing)
{
	struct timespec a, b;
	struct vring_desc *t;

	start(8, f);
	t = driver_mem_ptr(&m, 0x200000, 1 << 20);
	for (unsigned i = 0; i < 65536; i++)
		t[i] = (struct vring_desc){0, 0, NEXT, (uint16_t)(i + 1)};
	if (f & PACKED)
		memset(t, 0, 1 << 20);
	OFFER({0x200000, 1 << 20, IND, 0});
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	breaks(-E2BIG);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	cr_expect_lt((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec, 1000000);
}

/* --- afterwards --- */

BOTH(what_was_pushed_before_it_broke_is_shown)
{
	int id[2];

	start(8, f);
	id[0] = add2(1, 1);
	id[1] = add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	take();
	if (r.packed) {
		driver_ring_put(&r, UINT64_MAX, 1, 7, 0);
	} else {
		r.desc[7] = (struct vring_desc){UINT64_MAX, 1, 0, 0};
		driver_ring_offer(&r, 7);
	}
	driver_ring_kick(&r);
	cr_expect_eq(vq_pop(vq, &c), -EFAULT);
	vq_flush(vq);
	collects(id[0], 1);
	cr_expect_eq(calls(), 1);
	vq_push(vq, (uint16_t)id[1], 1); /* it was in flight */
	vq_flush(vq);
	collects(id[1], 1);
	collects_nothing();
}

BOTH(the_first_error_stays)
{
	start(8, f);
	OFFER({UINT64_MAX, 1, 0, 0});
	cr_expect_eq(vq_pop(vq, &c), -EFAULT);
	vq_break(vq, -EIO);
	cr_expect_eq(vq_error(vq), -EFAULT);
	OFFER({RAM, 1, 0, 0});
	cr_expect_eq(vq_pop(vq, &c), -EFAULT, "nothing mends it");
}

BOTH(the_device_can_break_it)
{
	start(8, f);
	OFFER({RAM, 1, 0, 0});
	vq_break(vq, -EIO);
	cr_expect_eq(vq_error(vq), -EIO);
	cr_expect_eq(vq_pop(vq, &c), -EIO);
}

BOTH(a_broken_ring_is_not_waited_for)
{
	start(8, f);
	OFFER({UINT64_MAX, 1, 0, 0});
	vq_busy(vq);
	cr_expect_eq(vq_pop(vq, &c), -EFAULT);
	cr_expect_not(vq_wait(vq), "or the device would spin");
	add(1, true);
	cr_expect_not(driver_ring_kick(&r), "and its kicks are not wanted");
}

BOTH(a_broken_chain_keeps_its_place)
{
	uint16_t pos;

	start(8, f);
	pos = vq_position(vq);
	OFFER({RAM, 1, NEXT, 0}, {UINT64_MAX, 1, 0, 0});
	breaks(-EFAULT);
	cr_expect_eq(vq_position(vq), pos);
}
