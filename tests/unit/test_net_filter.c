/* Which frames a driver wants. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/net/filter.h"
#include "devices/net/frame.h"

static const uint8_t own[6] = {2, 0, 0, 0, 0, 1}, other[6] = {2, 0, 0, 0, 0, 2}, third[6] = {2, 0, 0, 0, 0, 3};
static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1}, broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static struct net_filter f;

static void setup(void)
{
	net_filter_init(&f, true, true, own);
	f.promisc = false;
}

TestSuite(net_filter, .init = setup, .timeout = 60);

static bool wants(const uint8_t mac[6])
{
	uint8_t frame[60] = {0};

	memcpy(frame, mac, 6);
	return net_filter_wants(&f, frame, sizeof(frame));
}

static bool wants_vlan(uint16_t tci)
{
	uint8_t frame[18] = {[12] = 0x81, [14] = (uint8_t)(tci >> 8), [15] = (uint8_t)tci};

	memcpy(frame, own, 6);
	return net_filter_wants(&f, frame, sizeof(frame));
}

Test(net_filter, is_promiscuous_after_a_reset)
{
	net_filter_init(&f, true, true, own);
	cr_assert(wants(other));
	cr_assert(wants(group));
	cr_assert(wants_vlan(5));
	cr_assert(net_filter_open(&f));
}

Test(net_filter, lets_everything_through_to_a_driver_without_filters)
{
	net_filter_init(&f, false, false, own);
	f.promisc = false;
	cr_assert(wants(other));
	cr_assert(wants(group));
	cr_assert(wants_vlan(5));
}

Test(net_filter, wants_its_own_address_and_broadcasts)
{
	cr_assert(wants(own));
	cr_assert(wants(broadcast));
	cr_assert_not(wants(other));
	cr_assert_not(wants(group));
}

Test(net_filter, wants_what_is_in_the_tables)
{
	net_filter_set_table(&f.unicast, (const uint8_t[1][6]){{2, 0, 0, 0, 0, 2}}, 1);
	cr_assert(wants(other));
	cr_assert_not(wants(third));
	cr_assert_not(wants(group));
	net_filter_set_table(&f.multicast, (const uint8_t[1][6]){{1, 0, 0x5e, 0, 0, 1}}, 1);
	cr_assert(wants(group));
	net_filter_set_table(&f.unicast, NULL, 0);
	cr_assert_not(wants(other));
}

Test(net_filter, wants_all_of_a_kind_when_its_table_overflows)
{
	net_filter_set_table(&f.unicast, NULL, NET_FILTER_MACS + 1);
	cr_assert(wants(third));
	cr_assert_not(wants(group));
	net_filter_set_table(&f.multicast, NULL, UINT32_MAX);
	cr_assert(wants(group));
}

Test(net_filter, fills_a_table_to_the_last_entry)
{
	uint8_t mac[NET_FILTER_MACS][6] = {{0}};

	for (unsigned i = 0; i < NET_FILTER_MACS; i++)
		mac[i][5] = (uint8_t)(i + 10);
	net_filter_set_table(&f.unicast, mac, NET_FILTER_MACS);
	cr_assert(wants(mac[0]));
	cr_assert(wants(mac[NET_FILTER_MACS - 1]));
	cr_assert_not(wants(other));
}

Test(net_filter, modes_widen_and_narrow)
{
	f.allmulti = true;
	cr_assert(wants(group));
	cr_assert_not(wants(other));
	f.alluni = true;
	cr_assert(wants(other));
	f.nomulti = true;
	cr_assert_not(wants(group));
	cr_assert(wants(broadcast));
	f.nouni = true;
	cr_assert_not(wants(own));
	f.nobcast = true;
	cr_assert_not(wants(broadcast));
	f.promisc = true; /* stands above all */
	cr_assert(wants(own));
	cr_assert(wants(group));
	cr_assert(wants(broadcast));
}

Test(net_filter, wants_vlans_that_were_added)
{
	cr_assert_not(wants_vlan(5));
	cr_assert_eq(net_filter_vlan(&f, 5, true), 0);
	cr_assert(wants_vlan(5));
	cr_assert(wants_vlan(0xe005)); /* priority and DEI are no part of the identifier */
	cr_assert_not(wants_vlan(6));
	cr_assert_not(wants_vlan(69));
	cr_assert_eq(net_filter_vlan(&f, 5, false), 0);
	cr_assert_not(wants_vlan(5));
}

Test(net_filter, wants_a_priority_without_a_vlan)
{
	cr_assert(wants_vlan(0xe000));
}

Test(net_filter, refuses_a_vlan_that_cannot_be)
{
	cr_assert_eq(net_filter_vlan(&f, 4095, true), 0);
	cr_assert(wants_vlan(4095));
	cr_assert_eq(net_filter_vlan(&f, 4096, true), -EINVAL);
	cr_assert_eq(net_filter_vlan(&f, 0xffff, false), -EINVAL);
}

Test(net_filter, checks_addresses_within_a_vlan)
{
	uint8_t frame[18] = {[12] = 0x81, [15] = 5};

	net_filter_vlan(&f, 5, true);
	memcpy(frame, other, 6);
	cr_assert_not(net_filter_wants(&f, frame, sizeof(frame)));
}

Test(net_filter, lets_runts_be_judged_by_others)
{
	for (size_t len = 0; len < 6; len++)
		cr_assert(net_filter_wants(&f, other, len));
	cr_assert_not(net_filter_wants(&f, other, 6));
}

/* --- frames in pieces --- */

Test(net_frame, is_read_and_written_across_pieces)
{
	char a[3] = "abc", b[1] = "d", c[4] = "efgh", out[9] = "";
	struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 1}, {NULL, 0}, {c, 4}};

	cr_assert_eq(frame_read(iov, 5, 2, out, 4), 4);
	cr_assert_eq(memcmp(out, "cdef", 4), 0);
	cr_assert_eq(frame_read(iov, 5, 3, out, 9), 5);
	cr_assert_eq(memcmp(out, "defgh", 5), 0);
	cr_assert_eq(frame_read(iov, 5, 8, out, 1), 0);
	cr_assert_eq(frame_read(iov, 5, SIZE_MAX, out, 1), 0);
	cr_assert_eq(frame_write(iov, 5, 2, "1234", 4), 4);
	cr_assert_eq(memcmp(a, "ab1", 3), 0);
	cr_assert_eq(b[0], '2');
	cr_assert_eq(memcmp(c, "34gh", 4), 0);
	cr_assert_eq(frame_write(iov, 5, 7, "xyz", 3), 1);
	cr_assert_eq(c[3], 'x');
	cr_assert_eq(frame_read(NULL, 0, 0, out, 1), 0);
}
