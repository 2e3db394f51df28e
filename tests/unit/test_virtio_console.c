/* The console device, by a driver's rings.  What Linux does is from its drivers/char/virtio_console.c. */
#include <criterion/criterion.h>
#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/console/virtio_console.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "tests/fake/driver_ring.h"

#define BIT(n)    (1ull << (n))
#define SIZE      32
#define MULTIPORT BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define NQUEUES   8
#define NPORTS    3
#define CONTROL   4096 /* bytes in a buffer for control messages, as Linux has them */

static struct driver_mem m;
static struct evloop *loop;
static struct virtio_device *dev;
static struct err e;

static struct queue {
	struct driver_ring ring;
	struct queue_stats stats;
	struct virtqueue *vq;
	gpa_t buf[SIZE]; /* by id, where receive() put them */
} queue[NQUEUES];

/* Who stands behind a port. */
static struct end {
	char out[1u << 20];
	size_t len, largest;
	unsigned chunks;
	size_t grant; /* bytes until it is not ready */
	atomic_uint rooms;
	unsigned opens, closes;
} ends[NPORTS];

static void on_output(void *opaque, const void *data, size_t len)
{
	struct end *end = opaque;

	cr_assert_leq(end->len + len, sizeof(end->out));
	memcpy(end->out + end->len, data, len);
	end->len += len;
	end->chunks++;
	end->largest = len > end->largest ? len : end->largest;
	end->grant -= len < end->grant ? len : end->grant;
}

static bool on_ready(void *opaque)
{
	return ((struct end *)opaque)->grant > 0;
}

static void on_room(void *opaque)
{
	((struct end *)opaque)->rooms++;
}

static void on_opened(void *opaque, bool open)
{
	struct end *end = opaque;

	*(open ? &end->opens : &end->closes) += 1;
}

static void make(struct console_device_config c, const char *const *name)
{
	struct console_port_config port[NPORTS];

	memset(ends, 0, sizeof(ends));
	for (unsigned i = 0; i < NPORTS; i++) {
		ends[i].grant = SIZE_MAX;
		port[i] = (struct console_port_config){
			.name = name ? name[i] : NULL,
			.console = !i,
			.output = on_output,
			.ready = on_ready,
			.room = on_room,
			.opened = on_opened,
			.opaque = &ends[i],
		};
	}
	c.name = "console0";
	c.mem = &m.mem;
	c.loop = loop;
	c.port = port;
	dev = virtio_console_new(&c, &e);
	cr_assert(dev, "%s", e.text);
}

static void setup(void)
{
	driver_mem_init(&m);
	loop = evloop_new();
}

static void halt(unsigned i)
{
	struct queue *q = &queue[i];

	if (!q->vq)
		return;
	dev->ops->halt(dev, q->vq);
	cr_expect(vq_error(q->vq) || !vq_inflight(q->vq));
	vq_free(q->vq);
	q->vq = NULL;
	driver_ring_fini(&q->ring);
}

static void unmake(void)
{
	if (!dev)
		return;
	for (unsigned i = 0; i < NQUEUES; i++)
		halt(i);
	virtio_fini(dev);
	dev->ops->destroy(dev);
	dev = NULL;
}

static void teardown(void)
{
	unmake();
	evloop_free(loop);
	driver_mem_fini(&m);
}

TestSuite(virtio_console, .init = setup, .fini = teardown, .timeout = 30);

static uint64_t offered(void)
{
	return virtio_features(dev, 0) | (uint64_t)virtio_features(dev, 1) << 32;
}

static void run(unsigned i)
{
	struct queue *q = &queue[i];
	struct datapath_queue dq = {.index = i, .kick_fd = -1, .call_fd = -1, .stats = &q->stats};

	memset(&q->stats, 0, sizeof(q->stats));
	driver_ring_init(&q->ring, &m, SIZE, dev->accepted,
			 (uint16_t)(virtio_has(dev, VIRTIO_F_RING_PACKED) ? 0x8000 : 0));
	driver_ring_queue(&q->ring, &dq);
	cr_assert_eq(vq_new(&q->vq, &dq, &m.mem, dev->accepted), 0);
	cr_assert_eq(dev->ops->run(dev, q->vq), 0);
	dev->ops->kick(dev, q->vq);
}

static void negotiate(uint64_t features)
{
	features |= BIT(VIRTIO_F_VERSION_1);
	virtio_set_features(dev, 0, (uint32_t)features);
	virtio_set_features(dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_status(dev,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	cr_assert(virtio_status(dev) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static void run_all(uint64_t features)
{
	negotiate(features);
	for (unsigned i = 0; i < (features & MULTIPORT ? dev->nqueues : 2); i++)
		run(i);
}

/* A lone console. */
static void start(uint64_t features)
{
	make((struct console_device_config){.nports = 1}, NULL);
	run_all(features);
}

static const char *const names[NPORTS] = {NULL, "org.qemu.guest_agent.0", "second"};

/* A console and two streams. */
static void start_ports(void)
{
	make((struct console_device_config){.nports = NPORTS, .cols = 132, .rows = 43}, names);
	run_all(MULTIPORT);
}

static void kick(unsigned i)
{
	driver_ring_kick(&queue[i].ring);
	dev->ops->kick(dev, queue[i].vq);
}

static void on_turn_end(struct ev_watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	evloop_quit(loop, 0);
}

/* What the loop would do with what is ready now. */
static void turn(void)
{
	struct ev_watch w = {.fd = eventfd(1, EFD_CLOEXEC), .fn = on_turn_end};

	cr_assert_eq(evloop_add(loop, &w, EPOLLIN), 0);
	evloop_run(loop);
	evloop_del(loop, &w);
	close(w.fd);
}

static gpa_t text(const void *data, size_t len)
{
	gpa_t at = driver_mem_alloc(&m, len + 1, 1);

	memcpy(driver_mem_ptr(&m, at, len), data, len);
	return at;
}

/* The guest writes; true if the device took it at once. */
static bool put(unsigned q, const void *data, size_t len)
{
	uint32_t used = 77;

	cr_assert_geq(driver_ring_add(&queue[q].ring,
				      (struct driver_buf[]){{text(data, len), (uint32_t)len, false}}, 1),
		      0);
	kick(q);
	if (!driver_ring_collect(&queue[q].ring, NULL, &used))
		return false;
	cr_expect_eq(used, 0);
	return true;
}

/* The guest offers a buffer to read into. */
static void receive(unsigned q, uint32_t len)
{
	gpa_t at = driver_mem_alloc(&m, len, 1);
	int id = driver_ring_add(&queue[q].ring, (struct driver_buf[]){{at, len, true}}, 1);

	cr_assert_geq(id, 0);
	memset(driver_mem_ptr(&m, at, len), '#', len);
	queue[q].buf[id] = at;
	kick(q);
}

/* What is in the next buffer that came back; NULL: none has.  buf has room. */
static const char *got(unsigned q, uint32_t *len)
{
	static char buf[16384];
	uint16_t id;

	if (!driver_ring_collect(&queue[q].ring, &id, len))
		return NULL;
	cr_assert_lt(*len, sizeof(buf));
	memcpy(buf, driver_mem_ptr(&m, queue[q].buf[id], *len), *len);
	buf[*len] = 0;
	return buf;
}

#define GOT(q, s)                                                                                              \
	do {                                                                                                   \
		uint32_t len_ = 0;                                                                             \
		const char *text_ = got(q, &len_);                                                             \
		cr_assert(text_);                                                                              \
		cr_expect_str_eq(text_, s);                                                                    \
		cr_expect_eq(len_, strlen(s));                                                                 \
	} while (0)
#define GOT_NOTHING(q) cr_expect_not(driver_ring_collect(&queue[q].ring, NULL, NULL))

static size_t input(unsigned port, const char *s)
{
	size_t n = virtio_console_input(dev, port, s, strlen(s));

	turn();
	return n;
}

static void output_is(unsigned port, const char *s)
{
	cr_expect_eq(ends[port].len, strlen(s));
	cr_expect_arr_eq(ends[port].out, s, strlen(s));
}

/* --- one console, without ports --- */

Test(virtio_console, a_lone_console_has_two_queues)
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

Test(virtio_console, output_comes_out_in_order)
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

Test(virtio_console, output_in_pieces_is_put_together)
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

Test(virtio_console, writable_pieces_are_no_output)
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

Test(virtio_console, a_long_write_comes_in_chunks)
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

Test(virtio_console, input_goes_into_the_drivers_buffers)
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

Test(virtio_console, input_is_spread_over_small_buffers)
{
	gpa_t at;

	start(0);
	receive(0, 3);
	at = driver_mem_alloc(&m, 4, 1);
	cr_assert_eq(driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 1, true}, {at + 2, 2, true}},
				     2),
		     1);
	queue[0].buf[1] = at;
	kick(0);
	receive(0, 100);
	input(0, "abcdefgh");
	GOT(0, "abc");
	cr_expect_eq(driver_ring_collect(&queue[0].ring, NULL, NULL), 1);
	cr_expect_arr_eq(driver_mem_ptr(&m, at, 4), "d\0ef", 4);
	GOT(0, "gh");
}

Test(virtio_console, input_waits_for_buffers)
{
	static const uint64_t kinds[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX), BIT(VIRTIO_F_RING_PACKED)};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		start(kinds[i]);
		cr_expect_eq(input(0, "abc"), 3);
		cr_expect_eq(input(0, "def"), 3);
		cr_assert_eq(driver_ring_add(&queue[0].ring,
					     (struct driver_buf[]){{driver_mem_alloc(&m, 64, 1), 64, true}}, 1),
			     0);
		queue[0].buf[0] = m.next - 64;
		cr_expect(driver_ring_kick(&queue[0].ring), "the device wants to hear of buffers");
		dev->ops->kick(dev, queue[0].vq);
		GOT(0, "abcdef");
		receive(0, 64);
		GOT_NOTHING(0);
		unmake();
	}
}

Test(virtio_console, nobody_is_told_of_buffers_that_nobody_needs)
{
	start(0);
	receive(0, 64);
	driver_ring_add(&queue[0].ring, (struct driver_buf[]){{driver_mem_alloc(&m, 64, 1), 64, true}}, 1);
	cr_expect_not(driver_ring_kick(&queue[0].ring));
}

Test(virtio_console, readable_buffers_take_no_input)
{
	gpa_t at;

	start(0);
	at = text("secret", 6);
	cr_assert_eq(driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 6, false}}, 1), 0);
	queue[0].buf[0] = at;
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

Test(virtio_console, input_is_refused_when_full_and_asked_for_again)
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

Test(virtio_console, output_waits_until_its_reader_is_ready)
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

Test(virtio_console, a_reader_may_become_slow_in_the_middle_of_a_write)
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

Test(virtio_console, nothing_is_held_when_the_queue_halts)
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

Test(virtio_console, a_guest_that_writes_without_end_lets_others_have_their_turn)
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

/* --- ports --- */

static void say(uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control c = {htole32(id), htole16(event), htole16(value)};

	cr_expect(put(3, &c, sizeof(c)));
}

/* The next control message is this one, followed by `more`. */
static void hears(uint32_t id, uint16_t event, uint16_t value, const char *more, size_t len)
{
	struct virtio_console_control c;
	uint32_t n = 0;
	const char *s = got(2, &n);

	cr_assert(s, "no message, not %u for %u", event, id);
	cr_assert_eq(n, sizeof(c) + len, "%u bytes for event %u", n, event);
	memcpy(&c, s, sizeof(c));
	cr_expect_eq(le32toh(c.id), id);
	cr_expect_eq(le16toh(c.event), event, "event %u, not %u", le16toh(c.event), event);
	cr_expect_eq(le16toh(c.value), value);
	cr_expect_arr_eq(s + sizeof(c), more, len);
}

#define HEARS(id, event) hears(id, VIRTIO_CONSOLE_##event, 1, "", 0)

static void give_control_buffers(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		receive(2, CONTROL);
}

/* As Linux: it is ready, hears of each port, says that each is ready, hears what it is. */
static void introduce(void)
{
	give_control_buffers(SIZE - 4);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < NPORTS; i++)
		HEARS(i, PORT_ADD);
	for (unsigned i = 0; i < NPORTS; i++)
		say(i, VIRTIO_CONSOLE_PORT_READY, 1);
	HEARS(0, CONSOLE_PORT);
	hears(0, VIRTIO_CONSOLE_RESIZE, 1, "\x84\0\x2b", 4); /* 132 columns, 43 rows */
	HEARS(0, PORT_OPEN);
	for (unsigned i = 1; i < NPORTS; i++) {
		hears(i, VIRTIO_CONSOLE_PORT_NAME, 1, names[i], strlen(names[i]));
		HEARS(i, PORT_OPEN);
	}
	GOT_NOTHING(2);
}

Test(virtio_console, ports_are_introduced_in_the_order_linux_needs)
{
	start_ports();
	cr_expect_eq(dev->nqueues, 8);
	introduce();
}

Test(virtio_console, nothing_is_said_before_the_driver_is_ready)
{
	start_ports();
	give_control_buffers(8);
	turn();
	GOT_NOTHING(2);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 0);
	GOT_NOTHING(2);
}

Test(virtio_console, messages_wait_for_buffers)
{
	start_ports();
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(0, VIRTIO_CONSOLE_PORT_READY, 1);
	receive(2, CONTROL);
	HEARS(0, PORT_ADD);
	GOT_NOTHING(2);
	give_control_buffers(2);
	HEARS(0, CONSOLE_PORT);
	hears(0, VIRTIO_CONSOLE_RESIZE, 1, "\x84\0\x2b", 4);
	give_control_buffers(1);
	HEARS(0, PORT_OPEN);
	give_control_buffers(3);
	HEARS(1, PORT_ADD);
	HEARS(2, PORT_ADD);
	GOT_NOTHING(2);
}

Test(virtio_console, a_port_is_added_once_and_told_of_once)
{
	start_ports();
	introduce();
	for (unsigned i = 0; i < 50; i++) {
		say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
		say(1, VIRTIO_CONSOLE_PORT_READY, 1);
	}
	GOT_NOTHING(2);
}

Test(virtio_console, a_reset_begins_all_over)
{
	start_ports();
	introduce();
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	cr_expect_eq(ends[1].opens, 1);
	for (unsigned i = 0; i < NQUEUES; i++)
		halt(i);
	virtio_set_status(dev, 0);
	cr_expect_eq(ends[1].closes, 1);
	m.next = 4096;
	run_all(MULTIPORT);
	introduce();
	receive(4, 64);
	input(1, "abc");
	GOT_NOTHING(4);
}

Test(virtio_console, a_reset_forgets_what_was_to_be_said)
{
	start_ports();
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < NQUEUES; i++)
		halt(i);
	virtio_set_status(dev, 0);
	run_all(MULTIPORT);
	give_control_buffers(8);
	GOT_NOTHING(2);
}

Test(virtio_console, a_message_that_does_not_fit_is_dropped)
{
	start_ports();
	receive(2, sizeof(struct virtio_console_control) - 1);
	give_control_buffers(4);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	GOT(2, "");
	HEARS(1, PORT_ADD);
}

Test(virtio_console, nonsense_on_the_control_queue_does_no_harm)
{
	static const uint32_t ids[] = {0, 1, NPORTS, 31, 0x7fffffff, VIRTIO_CONSOLE_BAD_ID};
	const struct virtio_console_control c = {htole32(VIRTIO_CONSOLE_BAD_ID), VIRTIO_CONSOLE_DEVICE_READY,
						 htole16(1)};

	start_ports();
	give_control_buffers(2);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) /* no port was added yet */
		for (uint16_t event = 1; event < 12; event++)
			say(ids[i], event, 1);
	for (size_t len = 0; len < 8; len++)
		put(3, &c, len);
	GOT_NOTHING(2);
	cr_expect_eq(ends[0].opens + ends[1].opens, 0);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	HEARS(0, PORT_ADD);
}

Test(virtio_console, a_message_may_come_in_pieces_and_be_too_long)
{
	struct virtio_console_control c = {htole32(VIRTIO_CONSOLE_BAD_ID), VIRTIO_CONSOLE_DEVICE_READY,
					   htole16(1)};
	gpa_t at;

	start_ports();
	give_control_buffers(1);
	at = text(&c, sizeof(c));
	driver_ring_add(
		&queue[3].ring,
		(struct driver_buf[]){{at, 1, false}, {at + 1, 6, false}, {at + 7, 1, false}, {at, 8, false}},
		4);
	kick(3);
	HEARS(0, PORT_ADD);
}

Test(virtio_console, input_waits_until_the_port_is_open)
{
	start_ports();
	introduce();
	receive(0, 64);
	receive(4, 64);
	input(0, "console");
	input(1, "agent");
	GOT_NOTHING(0);
	GOT_NOTHING(4);
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	GOT(4, "agent");
	GOT_NOTHING(0);
	say(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	GOT(0, "console");
	receive(4, 64);
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	input(1, "later");
	GOT_NOTHING(4);
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	GOT(4, "later");
}

Test(virtio_console, who_stands_behind_a_port_hears_of_opening_and_closing)
{
	start_ports();
	introduce();
	for (unsigned i = 0; i < 3; i++) {
		say(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
		say(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
		say(2, VIRTIO_CONSOLE_PORT_OPEN, 0);
	}
	cr_expect_eq(ends[2].opens, 3);
	cr_expect_eq(ends[2].closes, 3);
	cr_expect_eq(ends[1].opens, 0);
}

Test(virtio_console, each_port_has_its_own_streams)
{
	static const unsigned rx[NPORTS] = {0, 4, 6};
	static const char *const in[NPORTS] = {"in 0", "in 1", "in 2"};

	start_ports();
	introduce();
	for (unsigned i = 0; i < NPORTS; i++) {
		say(i, VIRTIO_CONSOLE_PORT_OPEN, 1);
		receive(rx[i], 64);
		input(i, in[i]);
		GOT(rx[i], in[i]);
		cr_expect(put(rx[i] + 1, in[i], 4));
		output_is(i, in[i]);
	}
}

Test(virtio_console, a_slow_reader_stops_its_own_port_only)
{
	start_ports();
	introduce();
	ends[1].grant = 0;
	cr_expect_not(put(5, "waits", 5));
	cr_expect(put(7, "goes", 4));
	cr_expect(put(1, "goes", 4));
	output_is(1, "");
	output_is(2, "goes");
	output_is(0, "goes");
}

Test(virtio_console, a_driver_without_ports_has_the_first)
{
	make((struct console_device_config){.nports = NPORTS}, names);
	run_all(0);
	receive(0, 64);
	input(0, "abc");
	GOT(0, "abc");
	cr_expect(put(1, "def", 3));
	output_is(0, "def");
}

Test(virtio_console, a_broken_ring_needs_a_reset)
{
	for (unsigned i = 0; i < NQUEUES; i++) {
		start_ports();
		if (i == 2)
			say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
		if (i == 0 || i == 4 || i == 6) {
			introduce();
			say(i ? i / 2 - 1 : 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
			input(i ? i / 2 - 1 : 0, "abc");
		}
		driver_ring_offer(&queue[i].ring, SIZE);
		kick(i);
		cr_expect(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET, "queue %u", i);
		turn();
		unmake();
		m.next = 4096;
	}
}

/* --- configuration --- */

static uint32_t read_config(size_t off, unsigned len)
{
	uint32_t value = 0;

	virtio_config_read(dev, off, &value, len);
	return le32toh(value);
}

#define CONFIG(field) offsetof(struct virtio_console_config, field)

Test(virtio_console, the_configuration_has_size_and_ports)
{
	make((struct console_device_config){.nports = NPORTS, .cols = 80, .rows = 25}, names);
	cr_expect_eq(read_config(CONFIG(cols), 2), 80);
	cr_expect_eq(read_config(CONFIG(rows), 2), 25);
	cr_expect_eq(read_config(CONFIG(max_nr_ports), 4), NPORTS);
	cr_expect_eq(read_config(CONFIG(emerg_wr), 4), 0);
}

Test(virtio_console, a_new_size_changes_the_configuration)
{
	uint32_t generation;

	start(0);
	generation = dev->config_generation;
	virtio_console_resize(dev, 200, 50);
	cr_expect_eq(read_config(CONFIG(cols), 2), 200);
	cr_expect_eq(read_config(CONFIG(rows), 2), 50);
	cr_expect_neq(dev->config_generation, generation);
	generation = dev->config_generation;
	virtio_console_resize(dev, 200, 50);
	cr_expect_eq(dev->config_generation, generation);
}

Test(virtio_console, consoles_are_told_a_new_size)
{
	start_ports();
	introduce();
	virtio_console_resize(dev, 0x102, 0x304);
	turn();
	hears(0, VIRTIO_CONSOLE_RESIZE, 1, "\x02\x01\x04\x03", 4);
	GOT_NOTHING(2);
}

Test(virtio_console, old_linux_is_told_rows_first)
{
	make((struct console_device_config){.nports = 1, .multiport = true, .rows_first = true}, NULL);
	run_all(MULTIPORT);
	give_control_buffers(8);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(0, VIRTIO_CONSOLE_PORT_READY, 1);
	HEARS(0, PORT_ADD);
	HEARS(0, CONSOLE_PORT);
	HEARS(0, PORT_OPEN); /* no size is known */
	virtio_console_resize(dev, 0x102, 0x304);
	turn();
	hears(0, VIRTIO_CONSOLE_RESIZE, 1, "\x04\x03\x02\x01", 4);
}

Test(virtio_console, emergency_writes_come_out_at_any_time)
{
	const uint64_t wide = 0x4444444443434343; /* reaches into the register from before it */

	make((struct console_device_config){.nports = 1}, NULL);
	virtio_config_write(dev, CONFIG(emerg_wr), "A\0\0\0", 4);
	virtio_config_write(dev, CONFIG(emerg_wr), "B", 1);
	virtio_config_write(dev, CONFIG(max_nr_ports), &wide, 8);
	output_is(0, "ABD");
	virtio_config_write(dev, CONFIG(emerg_wr) + 1, "xyz", 3);
	for (size_t off = 0; off < CONFIG(emerg_wr); off++)
		virtio_config_write(dev, off, "x", 1);
	output_is(0, "ABD");
	cr_expect_eq(read_config(CONFIG(max_nr_ports), 4), 1);
}

Test(virtio_console, ports_that_cannot_be_are_refused)
{
	struct console_port_config port[CONSOLE_PORTS_MAX + 1] = {{.output = on_output, .opaque = &ends[0]}};
	struct console_device_config c = {.name = "console0", .mem = &m.mem, .loop = loop, .port = port};
	char name[CONSOLE_NAME_MAX + 2];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	cr_expect_null(virtio_console_new(&c, &e));
	c.nports = CONSOLE_PORTS_MAX + 1;
	cr_expect_null(virtio_console_new(&c, &e));
	c.nports = 1;
	port[0].name = name;
	cr_expect_null(virtio_console_new(&c, &e));
	cr_expect(strstr(e.text, "xxx"));
	port[0].name = "";
	cr_expect_null(virtio_console_new(&c, &e));
	port[0].name = name + 1;
	for (unsigned i = 1; i < CONSOLE_PORTS_MAX; i++)
		port[i] = (struct console_port_config){.output = on_output, .opaque = &ends[0]};
	c.nports = CONSOLE_PORTS_MAX;
	dev = virtio_console_new(&c, &e);
	cr_assert(dev);
	cr_expect_eq(dev->nqueues, VIRTIO_MAX_QUEUES);
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
		gpa_t at = queue[0].buf[id];
		const char *s = driver_mem_ptr(&m, at, len);

		for (uint32_t i = 0; i < len; i++)
			r->wrong += s[i] != (char)r->len++;
		queue[0].buf[driver_ring_add(&queue[0].ring, (struct driver_buf[]){{at, 100, true}}, 1)] = at;
		kick(0);
	}
}

Test(virtio_console, input_from_another_thread_arrives_whole_and_in_order)
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

Test(virtio_console, devices_come_and_go_while_their_loop_runs)
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
