/* IPv4 fragments in every order, and fragments that lie. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/ip_reassembly.h"

static struct ip_reassembly *r;
static uint8_t payload[65535];

static void setup(void)
{
	r = calloc(1, sizeof(*r));
	cr_assert(r);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i ^ i >> 8);
}

static void teardown(void)
{
	free(r);
}

TestSuite(ip_reassembly, .init = setup, .fini = teardown, .timeout = 60);

static uint16_t sum(const uint8_t *p, size_t n)
{
	uint32_t s = 0;

	for (size_t i = 0; i < n; i += 2)
		s += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (s >> 16)
		s = (s >> 16) + (s & 0xffff);
	return (uint16_t)~s;
}

struct piece {
	unsigned at, len;
	bool more;
	unsigned id;
	unsigned options; /* bytes */
};

static uint8_t frame[70000];
static size_t make(struct piece p)
{
	uint8_t *ip = frame + 14;
	unsigned header = 20 + p.options;
	uint16_t s;

	memset(frame, 0, 14 + header);
	frame[0] = 0x52;
	frame[12] = 8;
	ip[0] = (uint8_t)(0x40 | header / 4);
	ip[2] = (uint8_t)((header + p.len) >> 8);
	ip[3] = (uint8_t)(header + p.len);
	ip[5] = (uint8_t)p.id;
	ip[6] = (uint8_t)(p.at / 8 >> 8 | (p.more ? 0x20 : 0));
	ip[7] = (uint8_t)(p.at / 8);
	ip[8] = 64;
	ip[9] = 17;
	memcpy(ip + 12, "\12\0\2\17\12\0\2\2", 8);
	s = sum(ip, header);
	ip[10] = (uint8_t)(s >> 8);
	ip[11] = (uint8_t)s;
	memcpy(ip + header, payload + p.at, p.len);
	return 14 + header + p.len;
}

static const uint8_t *take(struct piece p, size_t *len, uint64_t now)
{
	*len = make(p);
	return ip_reassembly_take(r, frame, len, now);
}

static void kept(struct piece p)
{
	size_t len;

	cr_expect_null(take(p, &len, 1), "%u+%u", p.at, p.len);
}

static void whole(struct piece p, unsigned expected)
{
	size_t len;
	const uint8_t *f = take(p, &len, 1);

	cr_assert(f, "%u+%u", p.at, p.len);
	cr_expect_neq(f, frame);
	cr_assert_eq(len, 34 + expected);
	cr_expect_eq(f[0], 0x52);
	cr_expect_eq(f[14], 0x45);
	cr_expect_eq((f[16] << 8 | f[17]), (int)(20 + expected));
	cr_expect_eq((f[20] | f[21]), 0, "no fragment any more");
	cr_expect_eq(sum(f + 14, 20), 0);
	cr_expect_arr_eq(f + 34, payload, expected);
}

Test(ip_reassembly, other_frames_pass_as_they_are)
{
	size_t len;

	cr_expect_eq(take((struct piece){0, 100, false, 1, 0}, &len, 1), frame);
	cr_expect_eq(len, 134);
	make((struct piece){8, 100, true, 1, 0});
	for (len = 0; len < 34; len++)
		cr_expect_eq(ip_reassembly_take(r, frame, &len, 1), frame);
	frame[12] = 0x86;
	len = 134;
	cr_expect_eq(ip_reassembly_take(r, frame, &len, 1), frame);
}

Test(ip_reassembly, any_order)
{
	static const struct piece p[3] = {{0, 800, true, 1, 0},
					  {800, 680, true, 1, 0},
					  {1480, 101, false, 1, 0}};
	static const unsigned order[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (unsigned i = 0; i < 6; i++) {
		kept(p[order[i][0]]);
		kept(p[order[i][1]]);
		whole(p[order[i][2]], 1581);
	}
}

Test(ip_reassembly, datagrams_do_not_mix)
{
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){0, 160, true, 2, 0});
	kept((struct piece){160, 8, true, 2, 0});
	whole((struct piece){80, 5, false, 1, 0}, 85);
	whole((struct piece){168, 5, false, 2, 0}, 173);
}

Test(ip_reassembly, options_go)
{
	kept((struct piece){0, 80, true, 1, 40});
	whole((struct piece){80, 5, false, 1, 8}, 85);
}

Test(ip_reassembly, largest_datagram)
{
	kept((struct piece){0, 40000, true, 1, 0});
	whole((struct piece){40000, 25515, false, 1, 0}, 65515);
}

Test(ip_reassembly, longer_than_a_datagram_can_be_is_dropped)
{
	kept((struct piece){0, 40000, true, 1, 0});
	kept((struct piece){40000, 25516, false, 1, 0});
	kept((struct piece){65528, 7, false, 2, 0});
	whole((struct piece){40000, 5, false, 1, 0}, 40005);
}

Test(ip_reassembly, overlap_ends_the_datagram)
{
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){72, 80, true, 1, 0});
	kept((struct piece){152, 8, false, 1, 0});
	kept((struct piece){0, 152, true, 2, 0});
	kept((struct piece){0, 152, true, 2, 0});
	kept((struct piece){152, 8, false, 2, 0});
}

Test(ip_reassembly, data_past_the_end_ends_the_datagram)
{
	kept((struct piece){80, 8, false, 1, 0});
	kept((struct piece){88, 8, true, 1, 0});
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){80, 8, true, 2, 0});
	kept((struct piece){72, 8, false, 2, 0});
	kept((struct piece){0, 72, true, 2, 0});
	kept((struct piece){80, 8, false, 3, 0});
	kept((struct piece){96, 8, false, 3, 0});
	kept((struct piece){0, 80, true, 3, 0});
}

Test(ip_reassembly, piece_that_is_no_multiple_of_8_is_dropped)
{
	kept((struct piece){0, 81, true, 1, 0});
	kept((struct piece){80, 8, false, 1, 0});
	whole((struct piece){0, 80, true, 1, 0}, 88);
}

Test(ip_reassembly, empty_piece_is_dropped)
{
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){80, 0, false, 1, 0});
	whole((struct piece){80, 8, false, 1, 0}, 88);
}

Test(ip_reassembly, malformed_headers_are_dropped)
{
	size_t len;

	kept((struct piece){0, 80, true, 1, 0});
	for (unsigned bit = 0; bit < 20 * 8; bit++) { /* any one bit: the checksum tells */
		len = make((struct piece){80, 8, false, 1, 0});
		frame[14 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_expect_null(ip_reassembly_take(r, frame, &len, 1), "bit %u", bit);
	}
	len = make((struct piece){80, 8, false, 1, 0}) - 1;
	cr_expect_null(ip_reassembly_take(r, frame, &len, 1));
	whole((struct piece){80, 8, false, 1, 0}, 88);
}

Test(ip_reassembly, total_length_that_lies_is_dropped)
{
	uint16_t checksum;
	size_t len;

	for (unsigned total = 0; total <= 160; total++) {
		len = make((struct piece){80, 80, true, 1, 40});
		frame[16] = 0;
		frame[17] = (uint8_t)total;
		frame[24] = frame[25] = 0;
		checksum = sum(frame + 14, 60);
		frame[24] = (uint8_t)(checksum >> 8);
		frame[25] = (uint8_t)checksum;
		if (total > 140 || total <= 60) /* else it says that there is less data than came */
			cr_expect_null(ip_reassembly_take(r, frame, &len, 1), "%u", total);
	}
	kept((struct piece){0, 80, true, 1, 0});
	whole((struct piece){80, 8, false, 1, 0}, 88);
}

Test(ip_reassembly, holes_are_not_made_up_for_by_overlaps)
{
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){0, 80, true, 1, 0});
	kept((struct piece){160, 8, false, 1, 0});
}

Test(ip_reassembly, holes_are_not_made_up_for_by_data_past_the_end)
{
	kept((struct piece){8, 8, false, 1, 0});
	kept((struct piece){16, 8, true, 1, 0});
	kept((struct piece){16, 8, true, 2, 0});
	kept((struct piece){8, 8, false, 2, 0});
	kept((struct piece){16, 8, false, 3, 0});
	kept((struct piece){8, 8, false, 3, 0});
}

Test(ip_reassembly, padding_is_not_data)
{
	size_t len = make((struct piece){0, 8, true, 1, 0});

	len += 18;
	cr_expect_null(ip_reassembly_take(r, frame, &len, 1));
	whole((struct piece){8, 8, false, 1, 0}, 16);
}

Test(ip_reassembly, waits_half_a_minute)
{
	size_t len;

	cr_expect_null(take((struct piece){0, 80, true, 1, 0}, &len, 1));
	cr_expect(take((struct piece){80, 8, false, 1, 0}, &len, 1 + IP_REASSEMBLY_MS));
	cr_expect_null(take((struct piece){0, 80, true, 1, 0}, &len, 1));
	cr_expect_null(take((struct piece){80, 8, false, 1, 0}, &len, 2 + IP_REASSEMBLY_MS));
}

Test(ip_reassembly, oldest_makes_room)
{
	size_t len;

	for (unsigned i = 0; i < IP_REASSEMBLY_DATAGRAMS + 1; i++)
		cr_expect_null(take((struct piece){0, 80, true, i, 0}, &len, i + 1));
	for (unsigned i = 1; i < IP_REASSEMBLY_DATAGRAMS + 1; i++)
		cr_expect(take((struct piece){80, 8, false, i, 0}, &len, 20));
	cr_expect_null(take((struct piece){80, 8, false, 0, 0}, &len, 20));
}
