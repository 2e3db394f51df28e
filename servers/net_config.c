/* What a card is to its driver. */
#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "devices/net/net_port.h"
#include "servers/net_link.h"

uint64_t net_features(bool offloads, bool mq)
{
	uint64_t f = NET_BIT(VIRTIO_F_VERSION_1) | NET_BIT(VIRTIO_F_RING_PACKED) | NET_BIT(VIRTIO_F_IN_ORDER) |
		     NET_BIT(VIRTIO_RING_F_EVENT_IDX) | NET_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		     NET_BIT(VIRTIO_NET_F_MRG_RXBUF) | NET_BIT(VIRTIO_NET_F_MTU);

	if (mq) /* the control queue is the front end's own */
		f |= NET_BIT(VIRTIO_NET_F_MQ) | NET_BIT(VIRTIO_NET_F_CTRL_VQ);
	if (offloads)
		f |= NET_BIT(VIRTIO_NET_F_CSUM) | NET_BIT(VIRTIO_NET_F_HOST_TSO4) |
		     NET_BIT(VIRTIO_NET_F_HOST_TSO6) | NET_BIT(VIRTIO_NET_F_HOST_ECN) |
		     NET_BIT(VIRTIO_NET_F_HOST_USO) | NET_BIT(VIRTIO_NET_F_GUEST_CSUM) |
		     NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | NET_BIT(VIRTIO_NET_F_GUEST_TSO6) |
		     NET_BIT(VIRTIO_NET_F_GUEST_ECN) | NET_BIT(VIRTIO_NET_F_GUEST_USO4) |
		     NET_BIT(VIRTIO_NET_F_GUEST_USO6);
	return f;
}

struct server_config net_server_config(const struct net_link_config *c, unsigned side, uint64_t features,
				       bool polls)
{
	const bool vduse = c->vduse[side];

	return (struct server_config){
		.path = c->path[side],
		.connects = c->connects[side],
		.vduse = c->vduse[side],
		.device_id = VIRTIO_ID_NET,
		/* Of a socket the front end has the config space, and so the MTU. */
		.features = vduse && !c->mtu ? features & ~NET_BIT(VIRTIO_NET_F_MTU) : features,
		.config_len = vduse ? sizeof(struct virtio_net_config) : 0,
		.max_queues = 2 * c->npairs,
		.queue_num = c->npairs,
		.max_queue_size = NET_IOV,
		.mtu = true,
		.polls = polls,
	};
}

int net_config_read(const struct net_link_config *c, uint32_t off, void *buf, uint32_t len)
{
	const struct virtio_net_config config = {
		.status = htole16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = htole16((uint16_t)c->npairs),
		.mtu = htole16(c->mtu),
	};

	memcpy(buf, (const char *)&config + off, len);
	return 0;
}
