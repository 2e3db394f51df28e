/* Address decode: who gets an access, and when a range is really gone. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/bus.h"

struct fake {
	struct bus_range range;
	uint64_t off;
	unsigned len, nreads, nwrites;
	uint8_t written[8];
	_Atomic int inside, leave;
	struct bus *bus; /* write handler: take this range off it */
	struct bus_range *victim;
};

static struct bus bus;

static void setup(void)
{
	bus_init(&bus);
}

static void teardown(void)
{
	bus_fini(&bus);
}

TestSuite(bus, .init = setup, .fini = teardown, .timeout = 60);

static void fake_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct fake *f = container_of(r, struct fake, range);

	f->off = off;
	f->len = len;
	f->nreads++;
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = (uint8_t)(off + i);
}

static void fake_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct fake *f = container_of(r, struct fake, range);

	f->off = off;
	f->len = len;
	f->nwrites++;
	memcpy(f->written, data, len);
	if (f->victim)
		bus_unmap(f->bus, f->victim);
}

static const struct bus_ops fake_ops = {.read = fake_read, .write = fake_write};

static struct fake fake(uint64_t base, uint64_t size)
{
	return (struct fake){.range = {.name = "fake", .base = base, .size = size, .ops = &fake_ops}};
}

Test(bus, nobody_there_leaves_data_alone)
{
	uint32_t v = 0x12345678;

	cr_expect(!bus_read(&bus, 0, &v, 4));
	cr_expect_eq(v, 0x12345678);
	cr_expect(!bus_write(&bus, 0, &v, 4));
}

Test(bus, offset_and_length_reach_the_handler)
{
	struct fake f = fake(0x1000, 0x100);
	uint32_t v = 0;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_expect(bus_read(&bus, 0x10fc, &v, 4));
	cr_expect_eq(f.off, 0xfc);
	cr_expect_eq(f.len, 4);
	cr_expect_eq(v, 0xfffefdfc);
}

Test(bus, written_bytes_are_the_same)
{
	struct fake f = fake(0x1000, 8);
	const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	for (unsigned len = 1; len <= 8; len++) {
		memset(f.written, 0, sizeof(f.written));
		cr_expect(bus_write(&bus, 0x1000 + 8 - len, bytes, len));
		cr_expect_eq(f.off, 8 - len);
		cr_expect_arr_eq(f.written, bytes, len);
	}
}

Test(bus, first_and_last_byte)
{
	struct fake f = fake(0x1000, 0x10);
	uint8_t v;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_expect(!bus_read(&bus, 0xfff, &v, 1));
	cr_expect(bus_read(&bus, 0x1000, &v, 1));
	cr_expect(bus_read(&bus, 0x100f, &v, 1));
	cr_expect(!bus_read(&bus, 0x1010, &v, 1));
}

Test(bus, an_access_over_either_edge_is_nobodys)
{
	struct fake f = fake(0x1000, 0x10);
	uint32_t v;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_expect(!bus_read(&bus, 0xffe, &v, 4));
	cr_expect(!bus_read(&bus, 0x100d, &v, 4));
	cr_expect_eq(f.nreads, 0);
}

Test(bus, an_access_over_two_neighbours_is_nobodys)
{
	struct fake a = fake(0, 4), b = fake(4, 4);
	uint32_t v;

	cr_assert_eq(bus_map(&bus, &a.range), 0);
	cr_assert_eq(bus_map(&bus, &b.range), 0);
	cr_expect(!bus_read(&bus, 2, &v, 4));
	cr_expect(bus_read(&bus, 4, &v, 4));
	cr_expect_eq(b.nreads, 1);
	cr_expect_eq(a.nreads, 0);
}

Test(bus, empty_range_is_refused)
{
	struct fake f = fake(0x1000, 0);

	cr_expect_eq(bus_map(&bus, &f.range), -EINVAL);
}

Test(bus, range_over_the_end_of_addresses_is_refused)
{
	struct fake f = fake(UINT64_MAX - 1, 3);

	cr_expect_eq(bus_map(&bus, &f.range), -EINVAL);
}

Test(bus, range_up_to_the_end_of_addresses)
{
	struct fake f = fake(UINT64_MAX - 7, 8), low = fake(0, 8);
	uint64_t v;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_assert_eq(bus_map(&bus, &low.range), 0);
	cr_expect(bus_read(&bus, UINT64_MAX - 7, &v, 8));
	cr_expect(bus_read(&bus, UINT64_MAX, &v, 1));
	cr_expect_eq(f.off, 7);
	/* an access that wraps belongs to neither */
	cr_expect(!bus_read(&bus, UINT64_MAX, &v, 2));
	cr_expect(!bus_read(&bus, UINT64_MAX - 3, &v, 8));
	cr_expect_eq(low.nreads, 0);
}

Test(bus, whole_address_space_but_one_byte)
{
	struct fake f = fake(1, UINT64_MAX), low = fake(0, 1), more = fake(7, 1);
	uint8_t v;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_assert_eq(bus_map(&bus, &low.range), 0);
	cr_expect_eq(bus_map(&bus, &more.range), -EEXIST);
	cr_expect(bus_read(&bus, UINT64_MAX, &v, 1));
	cr_expect_eq(f.off, UINT64_MAX - 1);
}

Test(bus, every_kind_of_overlap_is_refused)
{
	static const uint64_t cases[][2] = {
		{0x100, 0x10}, /* the same */
		{0xf0, 0x11},  /* its first byte */
		{0x10f, 0x10}, /* its last byte */
		{0x104, 4},    /* inside */
		{0xf0, 0x100}, /* all round it */
		{0, UINT64_MAX},
	};
	struct fake f = fake(0x100, 0x10);

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake other = fake(cases[i][0], cases[i][1]);

		cr_expect_eq(bus_map(&bus, &other.range), -EEXIST, "case %zu", i);
	}
}

Test(bus, neighbours_are_no_overlap)
{
	struct fake f = fake(0x100, 0x10), below = fake(0xf0, 0x10), above = fake(0x110, 0x10);

	cr_expect_eq(bus_map(&bus, &f.range), 0);
	cr_expect_eq(bus_map(&bus, &below.range), 0);
	cr_expect_eq(bus_map(&bus, &above.range), 0);
}

Test(bus, a_full_table)
{
	static struct fake f[BUS_MAX_RANGES + 1];
	uint8_t v;

	/* in an order that is neither up nor down: 5 and 257 have no common factor */
	for (unsigned i = 0; i <= BUS_MAX_RANGES; i++) {
		f[i] = fake((uint64_t)(i * 5 % 257) * 16, 8);
		cr_assert_eq(bus_map(&bus, &f[i].range), i < BUS_MAX_RANGES ? 0 : -ENOSPC, "%u", i);
	}
	for (unsigned i = 0; i < BUS_MAX_RANGES; i++) {
		cr_expect(bus_read(&bus, f[i].range.base + 7, &v, 1));
		cr_expect(!bus_read(&bus, f[i].range.base + 8, &v, 1));
		cr_expect_eq(f[i].nreads, 1);
	}
	bus_unmap(&bus, &f[7].range);
	cr_expect(!bus_read(&bus, f[7].range.base, &v, 1));
	cr_expect_eq(bus_map(&bus, &f[BUS_MAX_RANGES].range), 0);
	for (unsigned i = 0; i <= BUS_MAX_RANGES; i++)
		cr_expect_eq(bus_read(&bus, f[i].range.base, &v, 1), i != 7);
}

Test(bus, unmapping_what_is_not_mapped)
{
	struct fake f = fake(0, 8), stranger = fake(0, 8);
	uint8_t v;

	cr_assert_eq(bus_map(&bus, &f.range), 0);
	bus_unmap(&bus, &stranger.range);
	cr_expect(bus_read(&bus, 0, &v, 1));
}

Test(bus, a_range_may_move)
{
	struct fake f = fake(0, 8);
	uint8_t v;

	for (unsigned i = 0; i < 1000; i++) {
		f.range.base = i * 4;
		cr_assert_eq(bus_map(&bus, &f.range), 0);
		cr_assert(bus_read(&bus, i * 4 + 7, &v, 1));
		bus_unmap(&bus, &f.range);
		cr_assert(!bus_read(&bus, i * 4 + 7, &v, 1));
	}
}

Test(bus, a_handler_unmaps_another_range)
{
	struct fake ecam = fake(0, 8), bar = fake(0x100, 8);
	uint8_t v = 0;

	ecam.bus = &bus;
	ecam.victim = &bar.range;
	cr_assert_eq(bus_map(&bus, &ecam.range), 0);
	cr_assert_eq(bus_map(&bus, &bar.range), 0);
	cr_expect(bus_write(&bus, 0, &v, 1));
	cr_expect(!bus_read(&bus, 0x100, &v, 1));
	cr_expect(bus_read(&bus, 0, &v, 1));
}

/* --- threads --- */

static void slow_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct fake *f = container_of(r, struct fake, range);

	(void)off;
	memset(data, 0x5a, len);
	f->inside = 1;
	while (!f->leave)
		usleep(1000);
	f->inside = 0;
}

static const struct bus_ops slow_ops = {.read = slow_read, .write = fake_write};

static void *read_once(void *arg)
{
	struct fake *f = arg;
	uint8_t v = 0;

	cr_expect(bus_read(&bus, f->range.base, &v, 1));
	cr_expect_eq(v, 0x5a);
	return NULL;
}

static void *leave_soon(void *arg)
{
	struct fake *f = arg;

	usleep(50000);
	f->leave = 1;
	return NULL;
}

Test(bus, unmap_waits_for_a_running_handler)
{
	struct fake f = fake(0, 8);
	pthread_t reader, helper;

	f.range.ops = &slow_ops;
	cr_assert_eq(bus_map(&bus, &f.range), 0);
	cr_assert_eq(pthread_create(&reader, NULL, read_once, &f), 0);
	while (!f.inside)
		sched_yield();
	cr_assert_eq(pthread_create(&helper, NULL, leave_soon, &f), 0);
	bus_unmap(&bus, &f.range);
	cr_expect_eq(f.leave, 1);
	cr_expect_eq(f.inside, 0);
	pthread_join(reader, NULL);
	pthread_join(helper, NULL);
}

Test(bus, others_go_on_while_one_waits_for_a_handler)
{
	struct fake slow = fake(0, 8), other = fake(0x100, 8), fresh = fake(0x200, 8);
	pthread_t reader;
	uint8_t v;

	slow.range.ops = &slow_ops;
	cr_assert_eq(bus_map(&bus, &slow.range), 0);
	cr_assert_eq(bus_map(&bus, &other.range), 0);
	cr_assert_eq(pthread_create(&reader, NULL, read_once, &slow), 0);
	while (!slow.inside)
		sched_yield();
	cr_expect(bus_read(&bus, 0x100, &v, 1));
	cr_expect_eq(bus_map(&bus, &fresh.range), 0);
	bus_unmap(&bus, &other.range);
	slow.leave = 1;
	pthread_join(reader, NULL);
}

struct traffic {
	_Atomic bool stop;
	_Atomic uint64_t hits;
};

static struct traffic traffic;

static void *read_always(void *arg)
{
	uint8_t v;

	(void)arg;
	while (!traffic.stop)
		traffic.hits += bus_read(&bus, 0x1004, &v, 1);
	return NULL;
}

static void count_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	(void)off;
	/* freed memory would not say so */
	cr_assert_str_eq(r->name, "moving");
	memset(data, 0, len);
}

Test(bus, ranges_come_and_go_under_traffic)
{
	static const struct bus_ops ops = {.read = count_read, .write = fake_write};
	pthread_t thread[4];

	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, read_always, NULL), 0);
	/* A writer must not starve behind readers that never pause: BARs move while queues are busy. */
	for (unsigned i = 0; i < 2000; i++) {
		struct bus_range *r = malloc(sizeof(*r));

		*r = (struct bus_range){.name = "moving", .base = 0x1000, .size = 8, .ops = &ops};
		cr_assert_eq(bus_map(&bus, r), 0);
		if (i % 64 == 0)
			usleep(100);
		bus_unmap(&bus, r);
		memset(r, 0, sizeof(*r));
		free(r);
	}
	traffic.stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	cr_expect_gt(traffic.hits, 0);
}
