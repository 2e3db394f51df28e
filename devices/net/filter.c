#include "devices/net/filter.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>

void net_filter_init(struct net_filter *f, bool check_mac, bool check_vlan, const uint8_t mac[6])
{
	memset(f, 0, sizeof(*f));
	f->promisc = true;
	f->check_mac = check_mac;
	f->check_vlan = check_vlan;
	memcpy(f->mac, mac, sizeof(f->mac));
}

void net_filter_set_table(struct net_filter_table *t, const uint8_t (*mac)[6], uint32_t n)
{
	t->overflow = n > NET_FILTER_MACS;
	t->n = t->overflow ? 0 : n;
	if (t->n)
		memcpy(t->mac, mac, t->n * sizeof(t->mac[0]));
}

int net_filter_vlan(struct net_filter *f, uint16_t vid, bool on)
{
	uint64_t bit = 1ull << vid % 64;

	if (vid >= NET_FILTER_NVLANS)
		return -EINVAL;
	if (on)
		f->vlan[vid / 64] |= bit;
	else
		f->vlan[vid / 64] &= ~bit;
	return 0;
}

static bool holds(const struct net_filter_table *t, const uint8_t *mac)
{
	if (t->overflow)
		return true;
	for (unsigned i = 0; i < t->n; i++)
		if (!memcmp(t->mac[i], mac, 6))
			return true;
	return false;
}

static bool wants_mac(const struct net_filter *f, const uint8_t *mac)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (!memcmp(mac, broadcast, 6))
		return !f->nobcast;
	if (mac[0] & 1)
		return !f->nomulti && (f->allmulti || holds(&f->multicast, mac));
	return !f->nouni && (f->alluni || !memcmp(mac, f->mac, 6) || holds(&f->unicast, mac));
}

static bool wants_vlan(const struct net_filter *f, const uint8_t *frame, size_t len)
{
	unsigned vid;

	if (len < 16 || (frame[12] << 8 | frame[13]) != ETH_P_8021Q)
		return true;
	vid = (unsigned)(frame[14] << 8 | frame[15]) % NET_FILTER_NVLANS;
	/* 0 is a priority without a VLAN (802.1Q). */
	return !vid || f->vlan[vid / 64] >> vid % 64 & 1;
}

bool net_filter_wants(const struct net_filter *f, const uint8_t *frame, size_t len)
{
	if (net_filter_open(f))
		return true;
	if (f->check_vlan && !wants_vlan(f, frame, len))
		return false;
	return !f->check_mac || len < 6 || wants_mac(f, frame);
}
