/* One console without ports: what it passes on, and for whom it waits. */
#include <criterion/criterion.h>
#include <linux/virtio_ids.h>
#include <pthread.h>

#include "lib/cleanup.h"
#include "tests/unit/virtio_console_rig.h"

TestSuite(virtio_console, .init = setup, .fini = teardown_once, .timeout = 30);

/* --- one console, without ports --- */

WholeTest(virtio_console, a_lone_console_has_two_queues)
{
	make((struct console_device_config){.nports = 1}, NULL);
	cr_expect_eq(dev->ops->id, VIRTIO_ID_CONSOLE);
	cr_expect_eq(dev->nqueues, 2);
	cr_expect_eq(offered() & 0xffffff, BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE));
	unmake();
	make((struct console_device_config){.nports = 1, .multiport = true}, NULL);
	cr_expect_eq(dev->nqueues, 4);
	cr_expect(offered() & MULTIPORT);
}

WholeTest(virtio_console, output_comes_out_in_order)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED),
					 BIT(VIRTIO_F_IN_ORDER)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		start(kinds[i]);
		cr_expect(put(1, "one ", 4));
		cr_expect(put(1, "two ", 4));
		cr_expect(put(1, "three", 5));
		output_is(0, "one two three");
		cr_expect_eq(ends[0].chunks, 3);
		cr_expect_eq(queue[1].stats.bytes, 13);
		unmake();
	}
}

WholeTest(virtio_console, output_in_pieces_is_put_together)
{
	gpa_t at;

	start(0);
	at = text("abcdefgh", 8);
	driver_ring_add(&queue[1].ring,
			(struct driver_buf[]){{at + 6, 2, false}, {at, 3, false}, {at + 3, 3, false}}, 3);
	kick(1);
	output_is(0, "ghabcdef");
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
}

WholeTest(virtio_console, writable_pieces_are_no_output)
{
	gpa_t at;

	start(0);
	at = text("abcdefgh", 8);
	driver_ring_add(&queue[1].ring, (struct driver_buf[]){{at, 3, false}, {at + 3, 3, true}}, 2);
	driver_ring_add(&queue[1].ring, (struct driver_buf[]){{at, 3, true}}, 1);
	kick(1);
	output_is(0, "abc");
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
}

WholeTest(virtio_console, a_long_write_comes_in_chunks)
{
	static char data[50001];

	start(0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 >> 3);
	cr_expect(put(1, data, sizeof(data)));
	cr_expect_eq(ends[0].len, sizeof(data));
	cr_expect_arr_eq(ends[0].out, data, sizeof(data));
	cr_expect_leq(ends[0].largest, CONSOLE_CHUNK_MAX);
}

WholeTest(virtio_console, input_goes_into_the_drivers_buffers)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED),
					 BIT(VIRTIO_F_IN_ORDER)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		start(kinds[i]);
		receive(0, 64);
		receive(0, 64);
		cr_expect_eq(input(0, "hello"), 5);
		GOT(0, "hello");
		GOT_NOTHING(0);
		cr_expect_eq(input(0, "again"), 5);
		GOT(0, "again");
		cr_expect_eq(queue[0].stats.bytes, 10);
		unmake();
	}
}

WholeTest(virtio_console, input_is_spread_over_small_buffers)
{
	gpa_t at;

	start(0);
	receive(0, 3);
	at = driver_mem_alloc(&m, 4, 1);
	cr_assert_eq(driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 1, true}, {at + 2, 2, true}},
				     2),
		     1);
	bufs[0][1] = at;
	kick(0);
	receive(0, 100);
	input(0, "abcdefgh");
	GOT(0, "abc");
	cr_expect_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 1);
	cr_expect_arr_eq(driver_mem_ptr(&m, at, 4), "d\0ef", 4);
	GOT(0, "gh");
}

WholeTest(virtio_console, input_waits_for_buffers)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		start(kinds[i]);
		cr_expect_eq(input(0, "abc"), 3);
		cr_expect_eq(input(0, "def"), 3);
		cr_assert_eq(driver_ring_add(&queue[0].ring,
					     (struct driver_buf[]){{driver_mem_alloc(&m, 64, 1), 64, true}}, 1),
			     0);
		bufs[0][0] = m.next - 64;
		cr_expect(driver_ring_kick(&queue[0].ring), "the device wants to hear of buffers");
		dev->ops->kick(dev, queue[0].vq);
		GOT(0, "abcdef");
		receive(0, 64);
		GOT_NOTHING(0);
		unmake();
	}
}

WholeTest(virtio_console, nobody_is_told_of_buffers_that_nobody_needs)
{
	start(0);
	receive(0, 64);
	driver_ring_add(&queue[0].ring, (struct driver_buf[]){{driver_mem_alloc(&m, 64, 1), 64, true}}, 1);
	cr_expect_not(driver_ring_kick(&queue[0].ring));
}

WholeTest(virtio_console, readable_buffers_take_no_input)
{
	gpa_t at;

	start(0);
	at = text("secret", 6);
	cr_assert_eq(driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 6, false}}, 1), 0);
	bufs[0][0] = at;
	kick(0);
	receive(0, 64);
	input(0, "abc");
	GOT(0, "");
	GOT(0, "abc");
	cr_expect_arr_eq(driver_mem_ptr(&m, at, 6), "secret", 6);
	cr_assert_geq(driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 6, false}, {at + 6, 64, true}},
				      2),
		      0);
	m.next += 64;
	kick(0);
	input(0, "abc");
	cr_expect_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 1);
	cr_expect_arr_eq(driver_mem_ptr(&m, at, 9), "secretabc", 9);
}

WholeTest(virtio_console, input_is_refused_when_full_and_asked_for_again)
{
	static char data[CONSOLE_INPUT_MAX + 100];
	size_t at = 0;

	start(0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)('a' + i % 23);
	cr_expect_eq(virtio_console_input(dev, 0, data, sizeof(data)), CONSOLE_INPUT_MAX);
	cr_expect_eq(virtio_console_input(dev, 0, data, 1), 0);
	turn();
	cr_expect_eq(ends[0].rooms, 0);
	receive(0, 100);
	cr_expect_eq(ends[0].rooms, 0, "there is hardly any");
	receive(0, CONSOLE_INPUT_MAX);
	cr_expect_eq(ends[0].rooms, 1);
	cr_expect_eq(virtio_console_input(dev, 0, data + CONSOLE_INPUT_MAX, 100), 100);
	turn();
	receive(0, 1000);
	cr_expect_eq(ends[0].rooms, 1, "told once");
	for (unsigned i = 0; i < 3; i++) {
		uint32_t len = 0;
		const char *s = got(0, &len);

		cr_assert(s);
		cr_expect_arr_eq(s, data + at, len);
		at += len;
	}
	cr_expect_eq(at, sizeof(data));
}

/* --- a reader that is slow --- */

WholeTest(virtio_console, output_waits_until_its_reader_is_ready)
{
	start(0);
	ends[0].grant = 0;
	cr_expect_not(put(1, "one ", 4));
	cr_expect_not(put(1, "two ", 4));
	turn();
	output_is(0, "");
	ends[0].grant = SIZE_MAX;
	virtio_console_room(dev, 0);
	turn();
	output_is(0, "one two ");
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
	cr_expect(put(1, "three", 5));
	output_is(0, "one two three");
}

WholeTest(virtio_console, a_reader_may_become_slow_in_the_middle_of_a_write)
{
	static char data[5 * CONSOLE_CHUNK_MAX + 7];

	start(0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 >> 3);
	ends[0].grant = CONSOLE_CHUNK_MAX + 1;
	cr_expect_not(put(1, data, sizeof(data)));
	cr_expect_eq(ends[0].len, 2 * CONSOLE_CHUNK_MAX);
	for (unsigned i = 0; i < 10; i++) {
		ends[0].grant = 1;
		virtio_console_room(dev, 0);
		turn();
	}
	cr_expect_eq(ends[0].len, sizeof(data));
	cr_expect_arr_eq(ends[0].out, data, sizeof(data));
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
}

WholeTest(virtio_console, nothing_is_held_when_the_queue_halts)
{
	gpa_t at;

	start(0);
	ends[0].grant = 0;
	cr_expect_not(put(1, "one", 3));
	cr_expect_eq(vq_inflight(queue[1].vq), 1);
	dev->ops->halt(dev, queue[1].vq);
	cr_expect_eq(vq_inflight(queue[1].vq), 0);
	cr_expect_eq(driver_ring_collect(&queue[1].ring, NULL, NULL), 1);
	ends[0].grant = SIZE_MAX;
	at = text("late", 4);
	driver_ring_add(&queue[1].ring, (struct driver_buf[]){{at, 4, false}}, 1);
	driver_ring_kick(&queue[1].ring);
	virtio_console_room(dev, 0);
	turn(); /* nobody touches it now */
	output_is(0, "");
	vq_free(queue[1].vq);
	driver_ring_fini(&queue[1].ring);
	queue[1].vq = NULL;
	run(1);
	cr_expect(put(1, "two", 3));
	output_is(0, "two");
}

WholeTest(virtio_console, a_guest_that_writes_without_end_lets_others_have_their_turn)
{
	gpa_t at;
	struct driver_buf piece[8];
	unsigned turns = 0;

	start(0);
	at = driver_mem_alloc(&m, 1u << 16, 1);
	memset(driver_mem_ptr(&m, at, 1u << 16), 'x', 1u << 16);
	for (unsigned i = 0; i < 8; i++)
		piece[i] = (struct driver_buf){at, 1u << 16, false};
	driver_ring_add(&queue[1].ring, piece, 8);
	kick(1);
	cr_expect_lt(ends[0].len, 8u << 16);
	for (; turns < 100 && !driver_ring_collect(&queue[1].ring, NULL, NULL); turns++)
		turn();
	cr_expect_eq(ends[0].len, 8u << 16);
	cr_expect_gt(turns, 1);
	cr_expect_lt(turns, 100);
}

/* --- threads: the device's loop, and somebody outside --- */

static void *run_loop(void *arg)
{
	(void)arg;
	evloop_run(loop);
	return NULL;
}

struct reader {
	size_t len, wrong;
};

/* On the loop's thread: the guest's driver, as far as this test needs one. */
static void drive(void *arg)
{
	struct reader *r = arg;
	uint16_t id;
	uint32_t len;

	while (driver_ring_collect(&queue[0].ring, &id, &len) == 1) {
		gpa_t at = bufs[0][id];
		const char *s = driver_mem_ptr(&m, at, len);

		for (uint32_t i = 0; i < len; i++)
			r->wrong += s[i] != (char)r->len++;
		bufs[0][driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 100, true}}, 1)] = at;
		kick(0);
	}
}

WholeTest(virtio_console, input_from_another_thread_arrives_whole_and_in_order)
{
	struct reader r = {0};
	pthread_t t;
	size_t sent = 0;
	char buf[300];

	start(0);
	for (unsigned i = 0; i < 8; i++)
		receive(0, 100);
	cr_assert_eq(pthread_create(&t, NULL, run_loop, NULL), 0);
	while (r.len < 100000 || r.len < sent) {
		size_t n = 1 + sent % sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = (char)(sent + i);
		if (sent < 100000)
			sent += virtio_console_input(dev, 0, buf, n);
		if (sent % 7 == 0) {
			virtio_console_room(dev, 0);
			virtio_console_resize(dev, (uint16_t)sent, 25);
		}
		evloop_call(loop, drive, &r);
	}
	evloop_quit(loop, 0);
	pthread_join(t, NULL);
	cr_expect_eq(r.len, sent);
	cr_expect_eq(r.wrong, 0);
}

WholeTest(virtio_console, devices_come_and_go_while_their_loop_runs)
{
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, run_loop, NULL), 0);
	for (unsigned i = 0; i < 50; i++) {
		make((struct console_device_config){.nports = NPORTS}, names);
		virtio_console_input(dev, 1, "abc", 3);
		virtio_console_resize(dev, (uint16_t)(i + 1), 25);
		virtio_set_status(dev, 0);
		unmake();
	}
	evloop_quit(loop, 0);
	pthread_join(t, NULL);
}
