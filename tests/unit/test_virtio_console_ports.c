/* The console with ports: their control queue, and the configuration space. */
#include <criterion/criterion.h>
#include <endian.h>

#include "lib/cleanup.h"
#include "tests/unit/virtio_console_rig.h"

TestSuite(virtio_console_ports, .init = setup, .fini = teardown_once, .timeout = 30);

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

WholeTest(virtio_console_ports, ports_are_introduced_in_the_order_linux_needs)
{
	start_ports();
	cr_expect_eq(dev->nqueues, 8);
	introduce();
}

WholeTest(virtio_console_ports, nothing_is_said_before_the_driver_is_ready)
{
	start_ports();
	give_control_buffers(8);
	turn();
	GOT_NOTHING(2);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 0);
	GOT_NOTHING(2);
}

WholeTest(virtio_console_ports, messages_wait_for_buffers)
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

WholeTest(virtio_console_ports, a_port_is_added_once_and_told_of_once)
{
	start_ports();
	introduce();
	for (unsigned i = 0; i < 50; i++) {
		say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
		say(1, VIRTIO_CONSOLE_PORT_READY, 1);
	}
	GOT_NOTHING(2);
}

WholeTest(virtio_console_ports, a_reset_begins_all_over)
{
	start_ports();
	introduce();
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	cr_expect_eq(ends[1].opens, 1);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
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

WholeTest(virtio_console_ports, a_reset_forgets_what_was_to_be_said)
{
	start_ports();
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		halt(i);
	virtio_set_status(dev, 0);
	run_all(MULTIPORT);
	give_control_buffers(8);
	GOT_NOTHING(2);
}

WholeTest(virtio_console_ports, a_message_that_does_not_fit_is_dropped)
{
	start_ports();
	receive(2, sizeof(struct virtio_console_control) - 1);
	give_control_buffers(4);
	say(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	GOT(2, "");
	HEARS(1, PORT_ADD);
}

WholeTest(virtio_console_ports, nonsense_on_the_control_queue_does_no_harm)
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

WholeTest(virtio_console_ports, a_message_may_come_in_pieces_and_be_too_long)
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

WholeTest(virtio_console_ports, input_waits_until_the_port_is_open)
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

WholeTest(virtio_console_ports, who_stands_behind_a_port_hears_of_opening_and_closing)
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

WholeTest(virtio_console_ports, each_port_has_its_own_streams)
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

WholeTest(virtio_console_ports, a_slow_reader_stops_its_own_port_only)
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

WholeTest(virtio_console_ports, a_driver_without_ports_has_the_first)
{
	make((struct console_device_config){.nports = NPORTS}, names);
	run_all(0);
	receive(0, 64);
	input(0, "abc");
	GOT(0, "abc");
	cr_expect(put(1, "def", 3));
	output_is(0, "def");
}

WholeTest(virtio_console_ports, a_broken_ring_needs_a_reset)
{
	for (unsigned i = 0; i < RIG_QUEUES; i++) {
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

WholeTest(virtio_console_ports, the_configuration_has_size_and_ports)
{
	make((struct console_device_config){.nports = NPORTS, .cols = 80, .rows = 25}, names);
	cr_expect_eq(read_config(CONFIG(cols), 2), 80);
	cr_expect_eq(read_config(CONFIG(rows), 2), 25);
	cr_expect_eq(read_config(CONFIG(max_nr_ports), 4), NPORTS);
	cr_expect_eq(read_config(CONFIG(emerg_wr), 4), 0);
}

WholeTest(virtio_console_ports, a_new_size_changes_the_configuration)
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

WholeTest(virtio_console_ports, consoles_are_told_a_new_size)
{
	start_ports();
	introduce();
	virtio_console_resize(dev, 0x102, 0x304);
	turn();
	hears(0, VIRTIO_CONSOLE_RESIZE, 1, "\x02\x01\x04\x03", 4);
	GOT_NOTHING(2);
}

WholeTest(virtio_console_ports, old_linux_is_told_rows_first)
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

WholeTest(virtio_console_ports, emergency_writes_come_out_at_any_time)
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

WholeTest(virtio_console_ports, ports_that_cannot_be_are_refused)
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
