/* Rate limits: the bucket alone with a clock of the test's own, then in the device. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "lib/token_bucket.h"
#include "tests/fake/net_rig.h"

#define NS  1000000000ull
#define HDR ((uint32_t)sizeof(struct virtio_net_hdr_v1))

TestSuite(net_rate, .timeout = 60);

Test(net_rate, no_rate_is_no_limit)
{
	struct token_bucket b;

	token_bucket_init(&b, 0, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(token_bucket_wait(&b, 0), 0);
		token_bucket_take(&b, UINT64_MAX);
	}
}

Test(net_rate, starts_with_a_burst_and_then_waits)
{
	struct token_bucket b;

	token_bucket_init(&b, 1000, 100, 5 * NS);
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(token_bucket_wait(&b, 5 * NS), 0);
		token_bucket_take(&b, 10);
	}
	cr_assert_eq(token_bucket_wait(&b, 5 * NS), 1);
	cr_assert_eq(token_bucket_wait(&b, 5 * NS + 1), 0);
}

Test(net_rate, opens_when_it_said_and_not_before)
{
	struct token_bucket b;
	uint64_t wait;

	token_bucket_init(&b, 3, 1, 0);
	token_bucket_take(&b, 5); /* 4 in debt */
	wait = token_bucket_wait(&b, 0);
	cr_assert_eq(wait, 4 * NS / 3 + 1);
	cr_assert_neq(token_bucket_wait(&b, wait - 1), 0);
	cr_assert_eq(token_bucket_wait(&b, wait), 0);
}

Test(net_rate, what_is_larger_than_the_burst_passes_and_is_paid_off)
{
	struct token_bucket b;

	token_bucket_init(&b, 1000, 100, 0);
	cr_assert_eq(token_bucket_wait(&b, 0), 0);
	token_bucket_take(&b, 5100);
	cr_assert_neq(token_bucket_wait(&b, 5 * NS), 0);
	cr_assert_eq(token_bucket_wait(&b, 5 * NS + 1), 0);
}

Test(net_rate, is_exact_in_the_long_run)
{
	struct token_bucket b;
	uint64_t now = 0, taken = 0, wait;

	token_bucket_init(&b, 7777777, 80000, 0); /* divides nothing */
	while (now < 1000 * NS) {
		wait = token_bucket_wait(&b, now);
		if (wait) {
			now += wait + 123457; /* late, as timers are */
			continue;
		}
		token_bucket_take(&b, 1514);
		taken += 1514;
	}
	cr_assert_leq(taken, 80000 + 7777777ull * 1000 + 3000);
	cr_assert_geq(taken, 7777777ull * 1000 - 3000);
}

Test(net_rate, idling_saves_up_one_burst_only)
{
	struct token_bucket b;
	unsigned n = 0;

	token_bucket_init(&b, 1000, 100, 0);
	while (!token_bucket_wait(&b, 3600 * NS)) {
		token_bucket_take(&b, 1);
		n++;
	}
	cr_assert_eq(n, 100);
}

Test(net_rate, a_clock_that_stands_or_jumps_back_gives_nothing)
{
	struct token_bucket b;

	token_bucket_init(&b, 1000, 100, 10 * NS);
	token_bucket_take(&b, 100);
	cr_assert_neq(token_bucket_wait(&b, 10 * NS), 0);
	cr_assert_neq(token_bucket_wait(&b, 9 * NS), 0);
	cr_assert_neq(token_bucket_wait(&b, 10 * NS), 0);
}

Test(net_rate, extreme_numbers_do_not_overflow)
{
	struct token_bucket b;

	token_bucket_init(&b, UINT64_MAX, UINT64_MAX, 0);
	token_bucket_take(&b, UINT64_MAX);
	token_bucket_take(&b, UINT64_MAX);
	cr_assert_neq(token_bucket_wait(&b, 0), 0);
	cr_assert_eq(token_bucket_wait(&b, UINT64_MAX), 0);
}

/* --- the device --- */

static struct net_rig r;

static void setup(void)
{
	net_rig_init(&r);
}

static void teardown(void)
{
	net_rig_fini(&r);
}

TestSuite(net_rate_device, .init = setup, .fini = teardown, .timeout = 60);

static void start(struct net_rate rx, struct net_rate tx)
{
	r.config.rx = rx;
	r.config.tx = tx;
	net_rig_make(&r);
	net_rig_start(&r, 0);
}

static void transmit(unsigned n, size_t len)
{
	while (n--) {
		gpa_t at = net_rig_buffer(&r, NULL, len);

		memset(driver_mem_ptr(&r.m, at, len), 0, len);
		driver_ring_add(&r.ring[1], &(struct driver_buf){at, (uint32_t)len, false}, 1);
	}
	net_rig_kick(&r, 1);
}

static void give(unsigned n, size_t len)
{
	uint8_t frame[4096] = {0};

	while (n--)
		fake_port_give(&r.port[0], frame, len);
}

static void run_for(unsigned ms)
{
	for (unsigned i = 0; i < ms; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		net_rig_turn(&r);
	}
}

Test(net_rate_device, holds_transmitted_packets_back_and_sends_them_later)
{
	const struct net_counters *c;

	start((struct net_rate){0}, (struct net_rate){.packets_per_s = 200}); /* bursts of 10 */
	c = net_counters(r.dev, 0);
	transmit(20, HDR + 60);
	net_rig_settle(&r);
	cr_assert_geq(c->tx_frames, 10);
	cr_assert_leq(c->tx_frames, 12);
	run_for(80);
	cr_assert_eq(c->tx_frames, 20);
}

Test(net_rate_device, a_kick_does_not_get_round_the_limit)
{
	const struct net_counters *c;

	start((struct net_rate){0}, (struct net_rate){.packets_per_s = 20}); /* bursts of 1 */
	c = net_counters(r.dev, 0);
	for (unsigned i = 0; i < 10; i++) {
		transmit(1, HDR + 60);
		eventfd_write(r.dev->queue[1].kick_fd, 1);
		net_rig_turn(&r);
	}
	cr_assert_leq(c->tx_frames, 2);
}

Test(net_rate_device, holds_transmitted_bytes_back)
{
	const struct net_counters *c;

	start((struct net_rate){0}, (struct net_rate){.bytes_per_s = 100000, .burst = 5000});
	c = net_counters(r.dev, 0);
	transmit(10, HDR + 1000);
	net_rig_settle(&r);
	cr_assert_geq(c->tx_frames, 5);
	cr_assert_leq(c->tx_frames, 7);
	run_for(80);
	cr_assert_eq(c->tx_frames, 10);
}

Test(net_rate_device, leaves_received_packets_in_the_port_until_it_is_time)
{
	const struct net_counters *c;

	start((struct net_rate){.packets_per_s = 200}, (struct net_rate){0});
	c = net_counters(r.dev, 0);
	net_rig_give_buffers(&r, 0, 40, 200);
	give(20, HDR + 60);
	net_rig_settle(&r);
	cr_assert_geq(c->rx_frames, 10);
	cr_assert_leq(c->rx_frames, 12);
	cr_assert_not(r.port[0].enabled);
	run_for(80);
	cr_assert_eq(c->rx_frames, 20);
	cr_assert(r.port[0].enabled);
}

Test(net_rate_device, directions_do_not_share_a_limit)
{
	start((struct net_rate){.packets_per_s = 20}, (struct net_rate){0});
	transmit(30, HDR + 60);
	net_rig_settle(&r);
	cr_assert_eq(net_counters(r.dev, 0)->tx_frames, 30);
}

Test(net_rate_device, pairs_share_a_limit)
{
	struct net_limit l;
	unsigned n = 0;

	net_limit_init(&l, &(struct net_rate){.packets_per_s = 200, .bytes_per_s = 1000000000});
	for (unsigned i = 0; i < 30; i++) /* as many threads would, in turn */
		if (!net_limit_wait(&l)) {
			net_limit_take(&l, 60);
			n++;
		}
	net_limit_fini(&l);
	cr_assert_geq(n, 10);
	cr_assert_leq(n, 12);
}

Test(net_rate_device, can_be_reset_while_it_waits)
{
	start((struct net_rate){.packets_per_s = 20}, (struct net_rate){.packets_per_s = 20});
	net_rig_give_buffers(&r, 0, 10, 200);
	give(5, HDR + 60);
	transmit(5, HDR + 60);
	net_rig_settle(&r);
	net_rig_start(&r, 0);
	net_rig_settle(&r);
}
