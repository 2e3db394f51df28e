/* Which received frames the driver wants (virtio 1.3, 5.1.6.5.1 to .3).  A plain value: each queue pair has a
 * copy of its own that only its thread sees, so nothing here locks. */
#ifndef NET_FILTER_H
#define NET_FILTER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_FILTER_MACS   64
#define NET_FILTER_NVLANS 4096
#define NET_FILTER_HEAD   18 /* bytes of a frame that net_filter_wants() looks at: Ethernet and a VLAN tag */

struct net_filter_table {
	bool overflow; /* more were given than fit: accept all of this kind */
	unsigned n;
	uint8_t mac[NET_FILTER_MACS][6];
};

struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool check_mac;  /* VIRTIO_NET_F_CTRL_RX */
	bool check_vlan; /* VIRTIO_NET_F_CTRL_VLAN */
	uint8_t mac[6];
	struct net_filter_table unicast, multicast;
	uint64_t vlan[NET_FILTER_NVLANS / 64];
};

/* As after a reset: promiscuous until the driver says otherwise, tables empty. */
void net_filter_init(struct net_filter *f, bool check_mac, bool check_vlan, const uint8_t mac[6]);
void net_filter_set_table(struct net_filter_table *t, const uint8_t (*mac)[6], uint32_t n);
int net_filter_vlan(struct net_filter *f, uint16_t vid, bool on); /* -EINVAL: no such VLAN */
/* The first len bytes of a frame; fewer than NET_FILTER_HEAD only if the frame is that short. */
bool net_filter_wants(const struct net_filter *f, const uint8_t *frame, size_t len);
/* Every frame is wanted: no need to look. */
static inline bool net_filter_open(const struct net_filter *f)
{
	return f->promisc || (!f->check_mac && !f->check_vlan);
}
#endif
