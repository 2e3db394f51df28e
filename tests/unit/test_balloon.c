/* The memory balloon, by a driver's rings.  Guest memory is anonymous, so what is discarded reads zero. */
#include <criterion/criterion.h>
#include <endian.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/balloon/balloon.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/device_rig.h"

#define PAGE 4096ull

static void make(struct balloon_config c)
{
	c.name = "balloon0";
	c.mem = &m.mem;
	c.loop = loop;
	dev = balloon_new(&c, &e);
	cr_assert(dev, "%s", e.text);
}

TestSuite(balloon, .init = setup, .fini = teardown_once, .timeout = 30);

/* A device with these features accepted and all of its queues running. */
static void start(struct balloon_config c, uint64_t features)
{
	make(c);
	negotiate(features);
	for (unsigned i = 0; i < dev->nqueues; i++)
		run(i);
}

static void request(unsigned i, const struct driver_buf *buf, unsigned n)
{
	uint32_t len = 77;

	cr_assert_geq(driver_ring_add(&queue[i].ring, buf, n), 0);
	kick(i);
	cr_assert_eq(driver_ring_collect(&queue[i].ring, NULL, &len), 1);
	cr_assert_eq(len, 0, "nothing is written, yet used.len is %u", len);
}

/* --- pages --- */

enum { INFLATE, DEFLATE, STATS };

/* The last two MiB of low memory and all of the high part: nothing else of the test lies there. */
#define FIRST     (DRIVER_MEM_LOW_END - (2u << 20))
#define FIRST_PFN ((uint32_t)(FIRST / PAGE))
#define HIGH_PFN  ((uint32_t)(DRIVER_MEM_HIGH_START / PAGE))

static void fill(void)
{
	memset(driver_mem_ptr(&m, FIRST, 2u << 20), 0x5a, 2u << 20);
	memset(driver_mem_ptr(&m, DRIVER_MEM_HIGH_START, 2u << 20), 0x5a, 2u << 20);
}

static bool is_gone(uint32_t pfn)
{
	const uint64_t *p = driver_mem_ptr(&m, pfn * PAGE, PAGE);

	for (unsigned i = 0; i < PAGE / 8; i++)
		cr_assert(p[i] == p[0] && (!p[0] || p[0] == 0x5a5a5a5a5a5a5a5a), "page %#x is torn", pfn);
	return !p[0];
}

/* Of what fill() wrote exactly these pages are gone. */
static void only(const uint32_t *pfn, unsigned n)
{
	for (uint32_t i = 0; i < 512; i++)
		for (unsigned high = 0; high < 2; high++) {
			uint32_t page = (high ? HIGH_PFN : FIRST_PFN) + i;
			bool gone = false;

			for (unsigned k = 0; k < n; k++)
				gone |= pfn[k] == page;
			cr_assert_eq(is_gone(page), gone, "page %#x is %sgone", page, gone ? "not " : "");
		}
}

#define ONLY(...)      only((uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)
#define NOTHING_GONE() only(NULL, 0)

static gpa_t list_of(const uint32_t *pfn, size_t n)
{
	gpa_t at = driver_mem_alloc(&m, 4 * n + 8, 4);

	for (size_t i = 0; i < n; i++) {
		uint32_t raw = htole32(pfn[i]);

		memcpy(driver_mem_ptr(&m, at + 4 * i, 4), &raw, 4);
	}
	return at;
}

static void send(unsigned q, const uint32_t *pfn, unsigned n)
{
	request(q, (struct driver_buf[]){{list_of(pfn, n), 4 * n, false}}, 1);
}

#define SEND(q, ...) send(q, (uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

WholeTest(balloon, inflated_pages_read_zero_and_others_stay)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED),
					 BIT(VIRTIO_F_IN_ORDER)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		start((struct balloon_config){0}, kinds[i]);
		fill();
		SEND(INFLATE, FIRST_PFN, FIRST_PFN + 2, HIGH_PFN + 511);
		ONLY(FIRST_PFN, FIRST_PFN + 2, HIGH_PFN + 511);
		cr_expect_eq(virtio_balloon_discarded(dev), 3 * PAGE);
		unmake();
	}
}

WholeTest(balloon, page_numbers_come_in_any_order_and_more_than_once)
{
	start((struct balloon_config){0}, 0);
	fill();
	SEND(INFLATE, FIRST_PFN + 7, FIRST_PFN + 5, HIGH_PFN, FIRST_PFN + 6, FIRST_PFN + 5, FIRST_PFN + 9,
	     HIGH_PFN);
	ONLY(FIRST_PFN + 5, FIRST_PFN + 6, FIRST_PFN + 7, FIRST_PFN + 9, HIGH_PFN);
	cr_expect_eq(virtio_balloon_discarded(dev), 5 * PAGE);
}

WholeTest(balloon, page_numbers_may_be_cut_into_pieces_anywhere)
{
	gpa_t at;

	start((struct balloon_config){0}, 0);
	fill();
	at = list_of((uint32_t[]){FIRST_PFN + 3, HIGH_PFN + 4, FIRST_PFN + 5}, 3);
	request(INFLATE, (struct driver_buf[]){{at, 1, false}, {at + 1, 6, false}, {at + 7, 5, false}}, 3);
	ONLY(FIRST_PFN + 3, HIGH_PFN + 4, FIRST_PFN + 5);
}

WholeTest(balloon, page_numbers_that_are_not_ram_do_no_harm)
{
	start((struct balloon_config){0}, 0);
	fill();
	/* the hole, what follows RAM, and numbers whose address needs more than 32 bits */
	SEND(INFLATE, (uint32_t)(DRIVER_MEM_LOW_END / PAGE), FIRST_PFN + 511, FIRST_PFN + 510, HIGH_PFN - 1,
	     HIGH_PFN, (uint32_t)(DRIVER_MEM_HIGH_END / PAGE), 0xffffffff, 0x80000000, 1u << 20,
	     (1u << 20) + FIRST_PFN, (1u << 31) + HIGH_PFN, 0xfffffffe);
	ONLY(FIRST_PFN + 510, FIRST_PFN + 511, HIGH_PFN);
	cr_expect_not(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

WholeTest(balloon, a_list_of_odd_length_ends_with_its_last_whole_number)
{
	start((struct balloon_config){0}, 0);
	fill();
	for (unsigned odd = 1; odd < 4; odd++) {
		gpa_t at = list_of((uint32_t[]){FIRST_PFN + odd, FIRST_PFN + 10 + odd}, 2);

		request(INFLATE, (struct driver_buf[]){{at, 4 + odd, false}}, 1);
		request(INFLATE, (struct driver_buf[]){{at + 4, odd, false}}, 1);
	}
	ONLY(FIRST_PFN + 1, FIRST_PFN + 2, FIRST_PFN + 3);
}

WholeTest(balloon, writable_buffers_hold_no_page_numbers)
{
	gpa_t at;

	start((struct balloon_config){0}, 0);
	fill();
	at = list_of((uint32_t[]){FIRST_PFN, FIRST_PFN + 1}, 2);
	request(INFLATE, (struct driver_buf[]){{at, 8, true}}, 1);
	NOTHING_GONE();
	request(INFLATE, (struct driver_buf[]){{at, 4, false}, {at + 4, 4, true}}, 2);
	ONLY(FIRST_PFN);
}

WholeTest(balloon, a_list_without_end_is_cut)
{
	static uint32_t pfn[100000];

	start((struct balloon_config){0}, 0);
	fill();
	pfn[0] = FIRST_PFN;
	for (size_t i = 1; i < ARRAY_SIZE(pfn); i++)
		pfn[i] = FIRST_PFN + 1;
	pfn[ARRAY_SIZE(pfn) - 1] = FIRST_PFN + 2;
	send(INFLATE, pfn, ARRAY_SIZE(pfn));
	ONLY(FIRST_PFN, FIRST_PFN + 1);
}

WholeTest(balloon, a_long_list_in_one_page_is_looked_at_whole)
{
	static uint32_t pfn[1024];

	start((struct balloon_config){0}, 0);
	fill();
	for (size_t i = 0; i < ARRAY_SIZE(pfn); i++)
		pfn[i] = (i % 2 ? HIGH_PFN : FIRST_PFN) + (uint32_t)(i / 2);
	send(INFLATE, pfn, ARRAY_SIZE(pfn));
	only(pfn, ARRAY_SIZE(pfn));
}

WholeTest(balloon, deflating_changes_no_page)
{
	start((struct balloon_config){0}, 0);
	fill();
	SEND(DEFLATE, FIRST_PFN, HIGH_PFN, 0xffffffff);
	NOTHING_GONE();
	SEND(INFLATE, FIRST_PFN);
	*(uint8_t *)driver_mem_ptr(&m, FIRST, 1) = 7;
	SEND(DEFLATE, FIRST_PFN);
	cr_expect_eq(*(uint8_t *)driver_mem_ptr(&m, FIRST, 1), 7);
}

/* A host whose pages are larger than those the balloon counts in. */
WholeTest(balloon, larger_pages_go_when_they_are_given_whole)
{
	start((struct balloon_config){0}, 0);
	fill();
	m.mem.page_size = 4 * PAGE;
	SEND(INFLATE, FIRST_PFN + 6, FIRST_PFN + 4, FIRST_PFN + 5);
	SEND(INFLATE, FIRST_PFN + 7);
	NOTHING_GONE();
	SEND(INFLATE, FIRST_PFN + 13, FIRST_PFN + 12, FIRST_PFN + 15, FIRST_PFN + 14, FIRST_PFN + 16);
	ONLY(FIRST_PFN + 12, FIRST_PFN + 13, FIRST_PFN + 14, FIRST_PFN + 15);
}

/* --- memory that must stay --- */

static int stderr_was, log_fd;

static void catch_log(void)
{
	fflush(stderr);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	stderr_was = dup(STDERR_FILENO);
	dup2(log_fd, STDERR_FILENO);
}

/* How many lines were logged. */
static unsigned end_log(void)
{
	char buf[8192];
	unsigned n = 0;
	ssize_t len;

	fflush(stderr);
	dup2(stderr_was, STDERR_FILENO);
	close(stderr_was);
	len = pread(log_fd, buf, sizeof(buf), 0);
	close(log_fd);
	for (ssize_t i = 0; i < len; i++)
		n += buf[i] == '\n';
	return n;
}

WholeTest(balloon, pinned_memory_stays_and_that_is_said_once)
{
	gpa_t range = FIRST + 64 * PAGE;
	unsigned lines;

	start((struct balloon_config){.reporting = true},
	      BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_REPORTING));
	fill();
	guest_mem_pin(&m.mem);
	catch_log();
	for (unsigned i = 0; i < 5; i++) {
		SEND(INFLATE, FIRST_PFN + i, HIGH_PFN);
		request(4, (struct driver_buf[]){{range, 8 * PAGE, true}}, 1);
	}
	lines = end_log();
	cr_expect_eq(lines, 1, "%u lines", lines);
	NOTHING_GONE();
	cr_expect_eq(virtio_balloon_discarded(dev), 0);
	guest_mem_unpin(&m.mem);
	SEND(INFLATE, FIRST_PFN);
	ONLY(FIRST_PFN);
}

WholeTest(balloon, populated_memory_stays)
{
	start((struct balloon_config){0}, 0);
	fill();
	m.mem.keep = true;
	SEND(INFLATE, FIRST_PFN);
	NOTHING_GONE();
}

WholeTest(balloon, a_driver_that_talks_nonsense_cannot_fill_the_log)
{
	static uint32_t pfn[1000];
	unsigned lines;

	start((struct balloon_config){0}, 0);
	memset(pfn, 0xff, sizeof(pfn));
	catch_log();
	for (unsigned i = 0; i < 100; i++)
		send(INFLATE, pfn, ARRAY_SIZE(pfn));
	lines = end_log();
	cr_expect_leq(lines, 40, "%u lines", lines);
}

/* --- free page reporting --- */

#define REPORTING (BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_REPORTING))

WholeTest(balloon, reported_ranges_read_zero_and_others_stay)
{
	start((struct balloon_config){.reporting = true}, REPORTING);
	fill();
	request(4,
		(struct driver_buf[]){{FIRST + 4 * PAGE, 3 * PAGE, true}, {DRIVER_MEM_HIGH_START, PAGE, true}},
		2);
	ONLY(FIRST_PFN + 4, FIRST_PFN + 5, FIRST_PFN + 6, HIGH_PFN);
	cr_expect_eq(virtio_balloon_discarded(dev), 4 * PAGE);
}

WholeTest(balloon, reported_ranges_lose_whole_pages_only)
{
	start((struct balloon_config){.reporting = true}, REPORTING);
	fill();
	request(4, (struct driver_buf[]){{FIRST + 4 * PAGE - 1, 3 * PAGE, true}, {FIRST + 20, 100, true}}, 2);
	ONLY(FIRST_PFN + 4, FIRST_PFN + 5);
}

WholeTest(balloon, readable_ranges_are_not_reported)
{
	start((struct balloon_config){.reporting = true}, REPORTING);
	fill();
	request(4, (struct driver_buf[]){{FIRST, PAGE, false}, {FIRST + 2 * PAGE, PAGE, true}}, 2);
	ONLY(FIRST_PFN + 2);
}

WholeTest(balloon, a_reported_range_outside_ram_needs_a_reset)
{
	start((struct balloon_config){.reporting = true}, REPORTING);
	fill();
	driver_ring_add(&queue[4].ring, (struct driver_buf[]){{DRIVER_MEM_LOW_END - PAGE, 2 * PAGE, true}}, 1);
	kick(4);
	cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	NOTHING_GONE();
}

/* The specification gives each queue a number for good, Linux counts those there are. */
WholeTest(balloon, the_reporting_queue_is_found_where_linux_has_it)
{
	static const struct {
		uint64_t features;
		unsigned queue;
	} at[] = {{BIT(VIRTIO_BALLOON_F_REPORTING), 2}, {BIT(VIRTIO_BALLOON_F_REPORTING), 4}, {REPORTING, 3}};

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		start((struct balloon_config){.reporting = true}, at[i].features);
		fill();
		request(at[i].queue, (struct driver_buf[]){{FIRST, PAGE, true}}, 1);
		ONLY(FIRST_PFN);
		unmake();
	}
}

WholeTest(balloon, nothing_is_reported_without_the_feature)
{
	start((struct balloon_config){.reporting = true}, BIT(VIRTIO_BALLOON_F_STATS_VQ));
	fill();
	request(4, (struct driver_buf[]){{FIRST, PAGE, true}}, 1);
	NOTHING_GONE();
	unmake();
	make((struct balloon_config){0});
	cr_expect_not(offered() & BIT(VIRTIO_BALLOON_F_REPORTING));
	cr_expect_eq(dev->nqueues, 3);
}

static void write_config(size_t off, uint32_t value, unsigned len)
{
	value = htole32(value);
	virtio_config_write(dev, off, &value, len);
}

static uint32_t read_config(size_t off)
{
	uint32_t value;

	virtio_config_read(dev, off, &value, 4);
	return le32toh(value);
}

#define CONFIG(field) offsetof(struct virtio_balloon_config, field)

WholeTest(balloon, poisoned_pages_keep_their_poison)
{
	make((struct balloon_config){.reporting = true});
	negotiate(REPORTING | BIT(VIRTIO_BALLOON_F_PAGE_POISON));
	write_config(CONFIG(poison_val), 0x5a5a5a5a, 4);
	cr_expect_eq(read_config(CONFIG(poison_val)), 0x5a5a5a5a);
	run(0);
	run(4);
	fill();
	request(4, (struct driver_buf[]){{FIRST, PAGE, true}}, 1);
	NOTHING_GONE();
	SEND(INFLATE, FIRST_PFN); /* what was in the balloon is written anew */
	ONLY(FIRST_PFN);
}

WholeTest(balloon, pages_poisoned_with_zeroes_are_given_back)
{
	make((struct balloon_config){.reporting = true});
	negotiate(REPORTING | BIT(VIRTIO_BALLOON_F_PAGE_POISON));
	write_config(CONFIG(poison_val), 0, 4);
	run(4);
	fill();
	request(4, (struct driver_buf[]){{FIRST, PAGE, true}}, 1);
	ONLY(FIRST_PFN);
}

WholeTest(balloon, the_poison_is_fixed_while_the_driver_runs)
{
	make((struct balloon_config){.reporting = true});
	negotiate(REPORTING | BIT(VIRTIO_BALLOON_F_PAGE_POISON));
	write_config(CONFIG(poison_val), 3, 4);
	dev->status |= VIRTIO_CONFIG_S_DRIVER_OK;
	write_config(CONFIG(poison_val), 4, 4);
	cr_expect_eq(read_config(CONFIG(poison_val)), 3);
	write_config(CONFIG(actual), 4, 4);
	cr_expect_eq(read_config(CONFIG(actual)), 4);
	dev->status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	virtio_set_status(dev, 0);
	cr_expect_eq(read_config(CONFIG(poison_val)), 0);
}

/* --- configuration --- */

WholeTest(balloon, offers_what_it_was_made_for)
{
	const uint64_t all = BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			     BIT(VIRTIO_BALLOON_F_REPORTING) | BIT(VIRTIO_BALLOON_F_PAGE_POISON);

	make((struct balloon_config){0});
	cr_expect_eq(dev->ops->id, VIRTIO_ID_BALLOON);
	cr_expect_eq(offered() & 0xffffff, BIT(VIRTIO_BALLOON_F_STATS_VQ));
	unmake();
	make((struct balloon_config){.deflate_on_oom = true, .reporting = true});
	cr_expect_eq(offered() & 0xffffff, all);
	unmake();
	make((struct balloon_config){.reporting = true, .hidden = BIT(VIRTIO_BALLOON_F_REPORTING)});
	cr_expect_not(offered() & BIT(VIRTIO_BALLOON_F_REPORTING));
}

WholeTest(balloon, the_target_is_what_the_driver_reads)
{
	uint32_t generation;

	make((struct balloon_config){.target = 5 * PAGE + 4095});
	cr_expect_eq(read_config(CONFIG(num_pages)), 5);
	cr_expect_eq(virtio_balloon_target(dev), 5 * PAGE);
	generation = dev->config_generation;
	virtio_balloon_set_target(dev, 1ull << 40);
	cr_expect_eq(read_config(CONFIG(num_pages)), 1u << 28);
	cr_expect_neq(dev->config_generation, generation);
	generation = dev->config_generation;
	virtio_balloon_set_target(dev, 1ull << 40);
	cr_expect_eq(dev->config_generation, generation, "nothing is new");
	virtio_balloon_set_target(dev, 1ull << 46);
	cr_expect_eq(read_config(CONFIG(num_pages)), UINT32_MAX);
	virtio_balloon_set_target(dev, 0);
	cr_expect_eq(read_config(CONFIG(num_pages)), 0);
}

WholeTest(balloon, the_driver_says_how_much_it_gave)
{
	make((struct balloon_config){.target = 8 * PAGE});
	write_config(CONFIG(actual), 0x12345678, 4);
	cr_expect_eq(virtio_balloon_actual(dev), 0x12345678 * PAGE);
	write_config(CONFIG(actual) + 1, 0xaa, 1);
	write_config(CONFIG(actual) + 2, 0xbbcc, 2);
	cr_expect_eq(read_config(CONFIG(actual)), 0xbbccaa78);
	virtio_set_status(dev, 0);
	cr_expect_eq(virtio_balloon_actual(dev), 0, "a reset driver has given nothing");
	cr_expect_eq(virtio_balloon_target(dev), 8 * PAGE, "and is still wanted to");
}

WholeTest(balloon, the_driver_cannot_write_the_rest)
{
	uint64_t wide = UINT64_MAX;

	make((struct balloon_config){.target = 8 * PAGE});
	for (size_t off = 0; off < 24; off++)
		if (off - 4 >= 4) {
			write_config(off, 0xff, 1);
			write_config(off, 0xffff, off == 3 ? 1 : 2);
		}
	cr_expect_eq(virtio_balloon_actual(dev), 0);
	virtio_config_write(dev, 0, &wide, 8);
	cr_expect_eq(read_config(CONFIG(num_pages)), 8);
	cr_expect_eq(read_config(CONFIG(actual)), UINT32_MAX);
	cr_expect_eq(read_config(CONFIG(free_page_hint_cmd_id)), 0);
}

/* --- statistics --- */

#define WITH_STATS BIT(VIRTIO_BALLOON_F_STATS_VQ)

static gpa_t stats_of(const struct virtio_balloon_stat *s, unsigned n)
{
	gpa_t at = driver_mem_alloc(&m, n * sizeof(*s) + 8, 1);

	memcpy(driver_mem_ptr(&m, at, n * sizeof(*s)), s, n * sizeof(*s));
	return at;
}

static void tell(const struct virtio_balloon_stat *s, unsigned n)
{
	driver_ring_add(&queue[STATS].ring,
			(struct driver_buf[]){{stats_of(s, n), n * (uint32_t)sizeof(*s), false}}, 1);
	kick(STATS);
}

/* Is the driver asked for new ones? */
static bool asked(void)
{
	uint32_t len = 77;

	if (!driver_ring_collect(&queue[STATS].ring, NULL, &len))
		return false;
	cr_expect_eq(len, 0);
	return true;
}

WholeTest(balloon, statistics_are_what_the_driver_told_last)
{
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.seq, 0);
	cr_expect_eq(out.known, 0);
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMTOT, 1ull << 40},
					    {VIRTIO_BALLOON_S_MEMFREE, 5}},
	     2);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.seq, 1);
	cr_expect_eq(out.known, 1u << VIRTIO_BALLOON_S_MEMTOT | 1u << VIRTIO_BALLOON_S_MEMFREE);
	cr_expect_eq(out.value[VIRTIO_BALLOON_S_MEMTOT], 1ull << 40);
	cr_expect_eq(out.value[VIRTIO_BALLOON_S_MEMFREE], 5);
}

WholeTest(balloon, the_driver_is_asked_for_statistics_when_somebody_wants_them)
{
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, 5}}, 1);
	turn();
	cr_expect_not(asked());
	virtio_balloon_stats(dev, &out);
	turn();
	cr_expect(asked());
	virtio_balloon_stats(dev, &out); /* while the driver has the buffer */
	turn();
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, 6}}, 1);
	cr_expect_not(asked());
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.seq, 2);
	cr_expect_eq(out.value[VIRTIO_BALLOON_S_MEMFREE], 6);
}

WholeTest(balloon, the_driver_is_asked_for_statistics_every_period)
{
	unsigned n = 0;

	start((struct balloon_config){.stats_period = 2}, WITH_STATS);
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, 5}}, 1);
	for (unsigned i = 0; i < 2000 && n < 3; i++) {
		usleep(1000);
		turn();
		if (asked()) {
			n++;
			tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, n}}, 1);
		}
	}
	cr_expect_eq(n, 3);
	halt(STATS);
	usleep(5000);
	turn();
}

WholeTest(balloon, unknown_statistics_are_ignored)
{
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	tell((struct virtio_balloon_stat[]){{BALLOON_STATS, 1}, {0xffff, 2}, {32, 3}, {BALLOON_STATS - 1, 4}},
	     4);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.known, 1u << (BALLOON_STATS - 1));
	cr_expect_eq(out.value[BALLOON_STATS - 1], 4);
}

WholeTest(balloon, statistics_of_odd_length_end_with_the_last_whole_one)
{
	struct virtio_balloon_stat s[2] = {{VIRTIO_BALLOON_S_MEMFREE, 5}, {VIRTIO_BALLOON_S_MEMTOT, 6}};
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	driver_ring_add(&queue[STATS].ring, (struct driver_buf[]){{stats_of(s, 2), sizeof(s) - 1, false}}, 1);
	kick(STATS);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.known, 1u << VIRTIO_BALLOON_S_MEMFREE);
	driver_ring_add(&queue[STATS].ring, (struct driver_buf[]){{stats_of(s, 2), sizeof(s), true}}, 1);
	kick(STATS);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.seq, 2);
	cr_expect_eq(out.known, 0);
}

WholeTest(balloon, a_second_buffer_of_statistics_takes_the_place_of_the_first)
{
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	for (unsigned i = 0; i < SIZE - 1; i++)
		tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, i}}, 1);
	for (unsigned i = 0; i < SIZE - 2; i++)
		cr_assert(asked());
	cr_expect_not(asked());
	cr_expect_eq(vq_inflight(queue[STATS].vq), 1);
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.value[VIRTIO_BALLOON_S_MEMFREE], SIZE - 2);
}

WholeTest(balloon, nothing_is_held_when_the_queue_halts)
{
	struct balloon_stats out;

	start((struct balloon_config){0}, WITH_STATS);
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, 5}}, 1);
	dev->ops->halt(dev, queue[STATS].vq);
	cr_expect_eq(vq_inflight(queue[STATS].vq), 0);
	cr_expect(asked());
	virtio_balloon_stats(dev, &out);
	turn(); /* and nobody touches it now */
	vq_free(queue[STATS].vq);
	driver_ring_fini(&queue[STATS].ring);
	queue[STATS].vq = NULL;
	run(STATS);
	tell((struct virtio_balloon_stat[]){{VIRTIO_BALLOON_S_MEMFREE, 6}}, 1);
	cr_expect_not(asked());
}

/* --- bursts --- */

static bool kicked_itself(unsigned i)
{
	uint64_t n;

	return read(dev->queue[i].kick_fd, &n, sizeof(n)) == sizeof(n);
}

WholeTest(balloon, takes_a_break_after_many_pages)
{
	static uint32_t pfn[500];
	unsigned done = 0;

	start((struct balloon_config){0}, 0);
	fill();
	for (unsigned i = 0; i < ARRAY_SIZE(pfn); i++)
		pfn[i] = (i % 2 ? HIGH_PFN : FIRST_PFN) + i; /* no two are neighbours */
	for (unsigned i = 0; i < 10; i++)
		driver_ring_add(&queue[INFLATE].ring,
				(struct driver_buf[]){{list_of(pfn, ARRAY_SIZE(pfn)), sizeof(pfn), false}}, 1);
	kick(INFLATE);
	while (driver_ring_collect(&queue[INFLATE].ring, NULL, NULL))
		done++;
	cr_expect_gt(done, 0);
	cr_expect_lt(done, 10);
	for (unsigned i = 0; i < 20 && kicked_itself(INFLATE); i++)
		dev->ops->kick(dev, queue[INFLATE].vq);
	while (driver_ring_collect(&queue[INFLATE].ring, NULL, NULL))
		done++;
	cr_expect_eq(done, 10);
	cr_expect_not(kicked_itself(INFLATE));
	only(pfn, ARRAY_SIZE(pfn));
}

WholeTest(balloon, a_broken_ring_needs_a_reset)
{
	for (unsigned i = 0; i < 5; i++) {
		start((struct balloon_config){.reporting = true}, REPORTING);
		driver_ring_offer(&queue[i].ring, SIZE);
		kick(i);
		cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET, "queue %u", i);
		unmake();
	}
}

/* --- with the core and its loop --- */

static void enable(unsigned i, const struct driver_ring *ring)
{
	virtio_queue_set_size(dev, i, ring->size);
	virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_DESC, false, (uint32_t)ring->desc_gpa);
	virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_AVAIL, false, (uint32_t)ring->avail_gpa);
	virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_USED, false, (uint32_t)ring->used_gpa);
	virtio_queue_set_ready(dev, i, true);
}

WholeTest(balloon, a_guest_inflates_tells_and_is_reset)
{
	struct fake_transport transport;
	static uint32_t pfn[500];
	struct balloon_stats out;
	struct driver_ring *r = &queue[INFLATE].ring, *s = &queue[STATS].ring;
	unsigned done = 0;

	make((struct balloon_config){.target = 500 * PAGE});
	fake_transport_init(&transport, dev);
	negotiate(WITH_STATS);
	driver_ring_init(r, &m, SIZE, dev->accepted, 0);
	driver_ring_init(s, &m, SIZE, dev->accepted, 0);
	enable(INFLATE, r);
	enable(STATS, s);
	virtio_set_status(dev, virtio_status(dev) | VIRTIO_CONFIG_S_DRIVER_OK);
	virtio_balloon_set_target(dev, 400 * PAGE);
	cr_expect_eq(transport.config_irqs, 1);
	fill();
	for (unsigned i = 0; i < ARRAY_SIZE(pfn); i++)
		pfn[i] = (i % 2 ? HIGH_PFN : FIRST_PFN) + i;
	for (unsigned i = 0; i < 10; i++)
		driver_ring_add(r, (struct driver_buf[]){{list_of(pfn, ARRAY_SIZE(pfn)), sizeof(pfn), false}},
				1);
	driver_ring_kick(r);
	virtio_queue_notify(dev, INFLATE);
	driver_ring_add(s, (struct driver_buf[]){{stats_of(&(struct virtio_balloon_stat){1, 2}, 1), 10, false}},
			1);
	driver_ring_kick(s);
	virtio_queue_notify(dev, STATS);
	for (unsigned i = 0; i < 100 && done < 10; i++) {
		turn();
		while (driver_ring_collect(r, NULL, NULL))
			done++;
	}
	cr_expect_eq(done, 10, "one notification does for all");
	only(pfn, ARRAY_SIZE(pfn));
	virtio_balloon_stats(dev, &out);
	cr_expect_eq(out.seq, 1);
	virtio_set_status(dev, 0);
	cr_expect_eq(virtio_status(dev), 0);
	turn();
	driver_ring_fini(r);
	driver_ring_fini(s);
}
