#include "devices/virtio/feature_names.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

#include "lib/cleanup.h"

#define NAME(prefix, name)                                                                                     \
	{                                                                                                      \
		prefix##name, #name                                                                            \
	}

struct name {
	unsigned bit;
	const char *name;
};

/* The headers of kernels before 6.2 lack some: their numbers are those of the specification. */
static const struct name net[] = {
	NAME(VIRTIO_NET_F_, CSUM),
	NAME(VIRTIO_NET_F_, GUEST_CSUM),
	NAME(VIRTIO_NET_F_, CTRL_GUEST_OFFLOADS),
	NAME(VIRTIO_NET_F_, MTU),
	NAME(VIRTIO_NET_F_, MAC),
	NAME(VIRTIO_NET_F_, GUEST_TSO4),
	NAME(VIRTIO_NET_F_, GUEST_TSO6),
	NAME(VIRTIO_NET_F_, GUEST_ECN),
	NAME(VIRTIO_NET_F_, GUEST_UFO),
	NAME(VIRTIO_NET_F_, HOST_TSO4),
	NAME(VIRTIO_NET_F_, HOST_TSO6),
	NAME(VIRTIO_NET_F_, HOST_ECN),
	NAME(VIRTIO_NET_F_, HOST_UFO),
	NAME(VIRTIO_NET_F_, MRG_RXBUF),
	NAME(VIRTIO_NET_F_, STATUS),
	NAME(VIRTIO_NET_F_, CTRL_VQ),
	NAME(VIRTIO_NET_F_, CTRL_RX),
	NAME(VIRTIO_NET_F_, CTRL_VLAN),
	NAME(VIRTIO_NET_F_, CTRL_RX_EXTRA),
	NAME(VIRTIO_NET_F_, GUEST_ANNOUNCE),
	NAME(VIRTIO_NET_F_, MQ),
	NAME(VIRTIO_NET_F_, CTRL_MAC_ADDR),
	{54, "GUEST_USO4"},
	{55, "GUEST_USO6"},
	{56, "HOST_USO"},
};

static const struct name blk[] = {
	NAME(VIRTIO_BLK_F_, SIZE_MAX), NAME(VIRTIO_BLK_F_, SEG_MAX),      NAME(VIRTIO_BLK_F_, GEOMETRY),
	NAME(VIRTIO_BLK_F_, RO),       NAME(VIRTIO_BLK_F_, BLK_SIZE),     NAME(VIRTIO_BLK_F_, FLUSH),
	NAME(VIRTIO_BLK_F_, TOPOLOGY), NAME(VIRTIO_BLK_F_, CONFIG_WCE),   NAME(VIRTIO_BLK_F_, MQ),
	NAME(VIRTIO_BLK_F_, DISCARD),  NAME(VIRTIO_BLK_F_, WRITE_ZEROES),
};

static const struct name console[] = {{0, "SIZE"}, {1, "MULTIPORT"}, {2, "EMERG_WRITE"}};

static const struct name balloon[] = {
	{0, "MUST_TELL_HOST"}, {1, "STATS_VQ"},    {2, "DEFLATE_ON_OOM"},
	{3, "FREE_PAGE_HINT"}, {4, "PAGE_POISON"}, {5, "REPORTING"},
};

static const struct name scsi[] = {{0, "INOUT"}, {1, "HOTPLUG"}, {2, "CHANGE"}, {3, "T10_PI"}};
static const struct name vsock[] = {{0, "STREAM"}, {1, "SEQPACKET"}};
static const struct name fs[] = {{0, "NOTIFICATION"}};

static const struct name ring[] = {
	{VIRTIO_RING_F_INDIRECT_DESC, "INDIRECT_DESC"},
	{VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX"},
	NAME(VIRTIO_F_, VERSION_1),
	NAME(VIRTIO_F_, ACCESS_PLATFORM),
	NAME(VIRTIO_F_, RING_PACKED),
	NAME(VIRTIO_F_, IN_ORDER),
	NAME(VIRTIO_F_, ORDER_PLATFORM),
	NAME(VIRTIO_F_, SR_IOV),
	{40, "RING_RESET"},
};

static const char *find(const struct name *names, size_t n, unsigned bit)
{
	for (size_t i = 0; i < n; i++)
		if (names[i].bit == bit)
			return names[i].name;
	return NULL;
}

static const char *name_of(uint32_t device_id, unsigned bit)
{
	const char *name = find(ring, ARRAY_SIZE(ring), bit);

	if (!name && device_id == VIRTIO_ID_NET)
		name = find(net, ARRAY_SIZE(net), bit);
	if (!name && device_id == VIRTIO_ID_BLOCK)
		name = find(blk, ARRAY_SIZE(blk), bit);
	if (!name && device_id == VIRTIO_ID_CONSOLE)
		name = find(console, ARRAY_SIZE(console), bit);
	if (!name && device_id == VIRTIO_ID_BALLOON)
		name = find(balloon, ARRAY_SIZE(balloon), bit);
	if (!name && device_id == VIRTIO_ID_SCSI)
		name = find(scsi, ARRAY_SIZE(scsi), bit);
	if (!name && device_id == VIRTIO_ID_VSOCK)
		name = find(vsock, ARRAY_SIZE(vsock), bit);
	if (!name && device_id == VIRTIO_ID_FS)
		name = find(fs, ARRAY_SIZE(fs), bit);
	return name;
}

const char *feature_names(uint32_t device_id, uint64_t bits, char *out, size_t len)
{
	size_t at = 0;

	*out = '\0';
	for (unsigned bit = 0; bit < 64 && at < len; bit++) {
		const char *name = name_of(device_id, bit);
		char number[16];

		if (!(bits >> bit & 1))
			continue;
		snprintf(number, sizeof(number), "bit %u", bit);
		at += (size_t)snprintf(out + at, len - at, "%s%s", at ? ", " : "", name ? name : number);
	}
	return out;
}
