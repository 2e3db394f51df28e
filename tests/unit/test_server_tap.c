/* The net server between a front end and a port. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "servers/net_tap.h"
#include "tests/fake/fake_port.h"
#include "tests/fake/vhost_user_frontend.h"

#define P(f)   (1ull << VHOST_USER_PROTOCOL_F_##f)
#define BIT(n) (1ull << (n))
#define HDR    12u
#define SLOTS  32u

static struct {
	char path[64];
	struct fake_port port;
	struct net_tap *tap;
	struct frontend f;
	gpa_t by_id[64], out;
	uint32_t slot;
} t;

static void serve(bool poll)
{
	const struct net_link_config c = {.path = {t.path}, .npairs = 1, .poll = poll, .offloads = true};
	struct net_port *port = &t.port.port;
	struct err e = {0};

	fake_port_init(&t.port);
	t.port.features = FAKE_PORT_FEATURES;
	snprintf(t.path, sizeof(t.path), "/tmp/test-server-tap-%d", getpid());
	cr_assert_eq(net_tap_new(&t.tap, &c, &port, &e), 0, "%s", e.text);
}

static void offer(uint32_t len)
{
	struct driver_buf b = {driver_mem_alloc(&t.f.m, len, 64), len, true};
	int id = driver_ring_add(&t.f.q[0].ring, &b, 1);

	cr_assert_geq(id, 0);
	t.by_id[id] = b.addr;
	t.slot = len;
	frontend_kick(&t.f, 0);
}

static void come(uint64_t features, uint32_t slot)
{
	frontend_connect(&t.f, t.path);
	cr_assert_eq(frontend_greet(&t.f, features | BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK)), 0);
	cr_assert_eq(frontend_share(&t.f), 0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(frontend_start(&t.f, i, 64, 0), 0);
	for (unsigned i = 0; slot && i < SLOTS; i++)
		offer(slot);
	t.out = driver_mem_alloc(&t.f.m, 70000, 64);
}

static void end(void)
{
	frontend_close(&t.f);
	net_tap_free(t.tap);
	cr_assert_eq(t.port.attaches, t.port.detaches);
	fake_port_fini(&t.port);
}

TestSuite(server_tap, .timeout = 60);

static void send_and_compare(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const uint32_t len = HDR + 14 + i * 13;
		uint8_t *p = driver_mem_ptr(&t.f.m, t.out, len);
		struct driver_buf b[] = {{t.out, 5, false}, {t.out + 5, len - 5, false}};
		struct fake_frame *got = NULL;

		for (unsigned k = 0; k < len; k++)
			p[k] = (uint8_t)(k * 7 + i);
		cr_assert_geq(driver_ring_add(&t.f.q[1].ring, b, 2), 0);
		frontend_kick(&t.f, 1);
		cr_assert_eq(frontend_collect(&t.f, 1, NULL, NULL, 5000), 1);
		got = fake_port_take(&t.port);
		cr_assert(got);
		cr_assert_eq(got->len, len);
		cr_assert_eq(memcmp(got->data, p, len), 0, "header and all");
		free(got);
	}
}

Test(server_tap, what_is_sent_goes_to_the_port)
{
	serve(false);
	come(0, 0);
	cr_assert_eq(t.port.hdr_len, HDR);
	send_and_compare(100);
	end();
}

Test(server_tap, what_is_sent_goes_to_the_port_polled)
{
	serve(true);
	come(0, 0);
	send_and_compare(100);
	end();
}

static uint8_t frame[70000], got[70000];

static uint32_t receive(void)
{
	uint32_t at = 0;

	for (unsigned n = 1, i = 0; i < n; i++) {
		uint16_t id;
		uint32_t len;
		uint8_t *p;

		cr_assert_eq(frontend_collect(&t.f, 0, &id, &len, 5000), 1);
		p = driver_mem_ptr(&t.f.m, t.by_id[id], t.slot);
		memcpy(got + at, p, len);
		if (!i)
			n = got[10] | (unsigned)got[11] << 8;
		at += len;
		{
			struct driver_buf b = {t.by_id[id], t.slot, true};
			int again = driver_ring_add(&t.f.q[0].ring, &b, 1);

			cr_assert_geq(again, 0);
			t.by_id[again] = b.addr;
			frontend_kick(&t.f, 0);
		}
	}
	return at;
}

static void give(uint32_t len, unsigned seed)
{
	memset(frame, 0, HDR);
	for (unsigned k = HDR; k < len; k++)
		frame[k] = (uint8_t)(k * 5 + seed + (k >> 8));
	fake_port_give(&t.port, frame, len);
}

static void give_and_compare(uint32_t len, unsigned seed)
{
	give(len, seed);
	cr_assert_eq(receive(), len);
	cr_assert_eq(got[10] | got[11] << 8, (int)((len + t.slot - 1) / t.slot));
	cr_assert_eq(memcmp(got + HDR, frame + HDR, len - HDR), 0, "%u bytes", len);
}

Test(server_tap, what_comes_from_the_port_is_received)
{
	serve(false);
	come(BIT(VIRTIO_NET_F_MRG_RXBUF), 2048);
	for (unsigned i = 0; i < 300; i++)
		give_and_compare(HDR + 60 + i * 5, i);
	for (unsigned i = 0; i < 60; i++)
		give_and_compare(HDR + 60 + i % 7 * 9000, i);
	cr_assert_eq(t.port.accepted, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	end();
}

Test(server_tap, frames_wait_for_buffers)
{
	serve(false);
	come(BIT(VIRTIO_NET_F_MRG_RXBUF), 0);
	give(1000, 1);
	usleep(20000);
	cr_assert_eq(fake_port_waiting(&t.port), 1);
	offer(2048);
	cr_assert_eq(receive(), 1000);
	cr_assert_eq(memcmp(got + HDR, frame + HDR, 1000 - HDR), 0);
	end();
}

Test(server_tap, a_frame_that_fits_nowhere_is_lost_alone)
{
	serve(false);
	come(0, 1526);
	give(HDR + 3000, 1);
	give_and_compare(HDR + 1514, 2);
	end();
}

/* --- buffers in more pieces than one read takes --- */

static ssize_t (*fake_recv)(struct net_port *p, const struct iovec *iov, int n);
static _Atomic unsigned reads;
static _Atomic int fails;

/* As readv() is. */
static ssize_t recv_as_tap(struct net_port *p, const struct iovec *iov, int n)
{
	reads++;
	if (fails)
		return fails;
	return n > IOV_MAX ? -EINVAL : fake_recv(p, iov, n);
}

static void serve_as_tap(void)
{
	static struct net_port_ops as_tap;

	serve(false);
	as_tap = *t.port.port.ops;
	fake_recv = as_tap.recv;
	as_tap.recv = recv_as_tap;
	t.port.port.ops = &as_tap;
}

static void offer_pieces(unsigned n, uint32_t len)
{
	const gpa_t table = driver_mem_alloc(&t.f.m, 16 * (size_t)n, 16),
		    at = driver_mem_alloc(&t.f.m, n * len, 64);
	static struct driver_buf b[IOV_MAX];
	int id;

	for (unsigned i = 0; i < n; i++)
		b[i] = (struct driver_buf){at + i * len, len, true};
	id = driver_ring_add_indirect(&t.f.q[0].ring, table, b, n);
	cr_assert_geq(id, 0);
	t.by_id[id] = at;
	frontend_kick(&t.f, 0);
}

static void come_with_long_ring(uint64_t features)
{
	frontend_connect(&t.f, t.path);
	features |= BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC);
	cr_assert_eq(frontend_greet(&t.f, features, P(REPLY_ACK)), 0);
	cr_assert_eq(frontend_share(&t.f), 0);
	cr_assert_eq(frontend_start(&t.f, 0, IOV_MAX, 0), 0);
}

static struct net_counts counts_in(void)
{
	struct net_counts out, in;

	net_tap_counts(t.tap, &out, &in);
	return in;
}

static void lost(uint64_t n)
{
	for (unsigned i = 0; i < 5000 && counts_in().dropped < n; i++)
		usleep(1000);
	cr_assert_eq(counts_in().dropped, n);
}

/* Of a pair that stands still. */
static void nothing_goes_on(void)
{
	unsigned before;

	usleep(20000);
	before = reads;
	usleep(20000);
	cr_assert_eq(reads, before, "it turns and turns");
}

Test(server_tap, as_many_pieces_as_there_may_be)
{
	serve_as_tap();
	come_with_long_ring(0);
	for (unsigned i = 0; i < 20; i++) {
		const uint32_t len = IOV_MAX - i % 3; /* the last of them beyond what one read takes */

		offer_pieces(IOV_MAX, 1);
		give(len, i);
		t.slot = IOV_MAX;
		cr_assert_eq(frontend_collect(&t.f, 0, &(uint16_t){0}, &(uint32_t){0}, 5000), 1);
		cr_assert_eq(counts_in().frames, i + 1);
		cr_assert_eq(memcmp((uint8_t *)driver_mem_ptr(&t.f.m, t.by_id[0], len) + HDR, frame + HDR,
				    len - HDR),
			     0);
	}
	cr_assert_eq(counts_in().dropped, 0);
	end();
}

Test(server_tap, many_buffers_of_many_pieces)
{
	serve_as_tap();
	come_with_long_ring(BIT(VIRTIO_NET_F_MRG_RXBUF));
	for (unsigned i = 0; i < 20; i++) {
		const uint32_t len = 1500 + i;
		uint16_t id;
		uint32_t n, at = 0;

		offer_pieces(1000, 1);
		offer_pieces(1000, 1);
		give(len, i);
		while (at < len) {
			cr_assert_eq(frontend_collect(&t.f, 0, &id, &n, 5000), 1);
			memcpy(got + at, driver_mem_ptr(&t.f.m, t.by_id[id], n), n);
			at += n;
		}
		cr_assert_eq(at, len);
		cr_assert_eq(got[10], 2);
		cr_assert_eq(memcmp(got + HDR, frame + HDR, len - HDR), 0);
	}
	end();
}

Test(server_tap, pieces_that_are_too_few_cost_a_frame_each)
{
	serve_as_tap();
	come_with_long_ring(0);
	offer_pieces(IOV_MAX, 1);
	give(3000, 1);
	lost(1);
	nothing_goes_on();
	end();
}

Test(server_tap, a_buffer_without_room_for_a_header_costs_a_frame_each)
{
	serve_as_tap();
	come_with_long_ring(0);
	offer_pieces(3, 3);
	for (unsigned i = 1; i < 5; i++) {
		give(1000, i);
		lost(i);
	}
	nothing_goes_on();
	end();
}

Test(server_tap, a_port_that_fails_is_left_alone_until_a_kick)
{
	serve_as_tap();
	come_with_long_ring(0);
	fails = -EFAULT;
	offer_pieces(1, 1526);
	give(1000, 1);
	lost(1);
	nothing_goes_on();
	fails = 0;
	eventfd_write(t.f.q[0].kick, 1);
	cr_assert_eq(frontend_collect(&t.f, 0, &(uint16_t){0}, &(uint32_t){0}, 5000), 1);
	end();
}

Test(server_tap, front_ends_come_and_go)
{
	serve(false);
	for (unsigned i = 0; i < 10; i++) {
		come(BIT(VIRTIO_NET_F_MRG_RXBUF), 1526);
		send_and_compare(5);
		give_and_compare(1000, i);
		frontend_close(&t.f);
	}
	come(BIT(VIRTIO_NET_F_MRG_RXBUF), 1526);
	end();
}
