/* For the tests of the console: a device whose ports end in the test. */
#ifndef TESTS_UNIT_VIRTIO_CONSOLE_RIG_H
#define TESTS_UNIT_VIRTIO_CONSOLE_RIG_H
#include <criterion/criterion.h>
#include <linux/virtio_console.h>
#include <stdatomic.h>
#include <string.h>

#include "devices/console/virtio_console.h"
#include "tests/unit/device_rig.h"

#define MULTIPORT BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define NPORTS    3
#define CONTROL   4096 /* bytes in a buffer for control messages, as Linux has them */

static gpa_t bufs[RIG_QUEUES][SIZE]; /* by id, where receive() put them */

/* Who stands behind a port. */
static struct end {
	char out[1u << 20];
	size_t len, largest;
	unsigned chunks;
	size_t grant; /* bytes until it is not ready */
	atomic_uint rooms;
	unsigned opens, closes;
} ends[NPORTS];

static inline void on_output(void *opaque, const void *data, size_t len)
{
	struct end *end = opaque;

	cr_assert_leq(end->len + len, sizeof(end->out));
	memcpy(end->out + end->len, data, len);
	end->len += len;
	end->chunks++;
	end->largest = len > end->largest ? len : end->largest;
	end->grant -= len < end->grant ? len : end->grant;
}

static inline bool on_ready(void *opaque)
{
	return ((struct end *)opaque)->grant > 0;
}

static inline void on_room(void *opaque)
{
	((struct end *)opaque)->rooms++;
}

static inline void on_opened(void *opaque, bool open)
{
	struct end *end = opaque;

	*(open ? &end->opens : &end->closes) += 1;
}

static inline void make(struct console_device_config c, const char *const *name)
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

static inline void run_all(uint64_t features)
{
	negotiate(features);
	for (unsigned i = 0; i < (features & MULTIPORT ? dev->nqueues : 2); i++)
		run(i);
}

/* A lone console. */
static inline void start(uint64_t features)
{
	make((struct console_device_config){.nports = 1}, NULL);
	run_all(features);
}

static const char *const names[NPORTS] = {NULL, "org.qemu.guest_agent.0", "second"};

/* A console and two streams. */
static inline void start_ports(void)
{
	make((struct console_device_config){.nports = NPORTS, .cols = 132, .rows = 43}, names);
	run_all(MULTIPORT);
}

static inline gpa_t text(const void *data, size_t len)
{
	gpa_t at = driver_mem_alloc(&m, len + 1, 1);

	memcpy(driver_mem_ptr(&m, at, len), data, len);
	return at;
}

/* The guest writes; true if the device took it at once. */
static inline bool put(unsigned q, const void *data, size_t len)
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
static inline void receive(unsigned q, uint32_t len)
{
	gpa_t at = driver_mem_alloc(&m, len, 1);
	int id = driver_ring_add(&queue[q].ring, (struct driver_buf[]){{at, len, true}}, 1);

	cr_assert_geq(id, 0);
	memset(driver_mem_ptr(&m, at, len), '#', len);
	bufs[q][id] = at;
	kick(q);
}

/* What is in the next buffer that came back; NULL: none has.  buf has room. */
static inline const char *got(unsigned q, uint32_t *len)
{
	static char buf[16384];
	uint16_t id;

	if (!driver_ring_collect(&queue[q].ring, &id, len))
		return NULL;
	cr_assert_lt(*len, sizeof(buf));
	memcpy(buf, driver_mem_ptr(&m, bufs[q][id], *len), *len);
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

static inline size_t input(unsigned port, const char *s)
{
	size_t n = virtio_console_input(dev, port, s, strlen(s));

	turn();
	return n;
}

static inline void output_is(unsigned port, const char *s)
{
	cr_expect_eq(ends[port].len, strlen(s));
	cr_expect_arr_eq(ends[port].out, s, strlen(s));
}
#endif
