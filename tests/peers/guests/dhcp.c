/* A network device with a DHCP server behind it: one DISCOVER, and what the offer says. */
#include <linux/virtio_net.h>

#include "guest.h"

#define HDR   sizeof(struct virtio_net_hdr_v1)
#define ROOM  2048u
#define IP    14u
#define UDP   34u
#define BOOTP 42u
#define SIZE  300u

static struct vdev net;
static uint8_t mac[6];

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void put(uint8_t *p, const char *bytes, unsigned n)
{
	while (n--)
		*p++ = (uint8_t)*bytes++;
}

static unsigned sum(const uint8_t *p, unsigned n)
{
	uint32_t s = 0;

	for (unsigned i = 0; i < n; i += 2)
		s += get16(p + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static void make_discover(uint8_t *f)
{
	put(f, "\xff\xff\xff\xff\xff\xff", 6);
	for (unsigned i = 0; i < 6; i++)
		f[6 + i] = f[BOOTP + 28 + i] = mac[i];
	put16(f + 12, 0x0800);
	f[IP] = 0x45;
	put16(f + IP + 2, 28 + SIZE);
	f[IP + 8] = 64;
	f[IP + 9] = 17;
	put(f + IP + 16, "\xff\xff\xff\xff", 4);
	put16(f + IP + 10, ~sum(f + IP, 20) & 0xffff);
	put16(f + UDP, 68);
	put16(f + UDP + 2, 67);
	put16(f + UDP + 4, 8 + SIZE);
	put(f + BOOTP, "\1\1\6\0\xca\xfe\xba\xbe", 8);
	put(f + BOOTP + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
}

static bool is_offer(const uint8_t *f, uint32_t len)
{
	const uint8_t *b = f + BOOTP;
	const char cookie[] = "\x63\x82\x53\x63";
	unsigned at;

	if (len < BOOTP + 300 || get16(f + 12) != 0x0800 || f[IP + 9] != 17 || get16(f + UDP + 2) != 68)
		return false;
	CHECK_EQ(sum(f + IP, 20), 0xffff);
	CHECK_EQ(b[0], 2);
	CHECK_EQ((unsigned)get16(b + 4) << 16 | get16(b + 6), 0xcafebabe);
	for (unsigned i = 0; i < 6; i++)
		CHECK_EQ(b[28 + i], mac[i]);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(b[236 + i], (uint8_t)cookie[i]);
	CHECK(b[16]);
	for (at = 240; at + 3 < 300 && b[at] != 53; at += 2 + b[at + 1])
		if (b[at] == 255)
			break;
	CHECK_EQ(b[at] << 16 | b[at + 1] << 8 | b[at + 2], 0x350102); /* type: OFFER */
	print("offered %u.%u.%u.%u\n", b[16], b[17], b[18], b[19]);
	return true;
}

int main(void)
{
	struct vq *rx, *tx;
	uint64_t end;
	uint8_t *out, *in;
	uint32_t len;

	vdev_open(&net, VIRTIO_ID_NET, 0);
	vdev_begin(&net, BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CSUM) |
				 BIT(VIRTIO_NET_F_GUEST_CSUM));
	print("features 0x%lx\n", net.features);
	CHECK_EQ(vdev_has(&net, VIRTIO_NET_F_CSUM), option("csum", 0));
	CHECK_EQ(vdev_has(&net, VIRTIO_NET_F_GUEST_CSUM), option("csum", 0));
	rx = vq_new(&net, 0, 0);
	tx = vq_new(&net, 1, 0);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)vdev_config(&net, i, 1);
	for (unsigned i = 0; i < 32; i++) {
		in = alloc(ROOM, 64);
		REQUIRE(vq_add(rx, &(struct seg){(uint64_t)in, ROOM, true}, 1, in));
	}
	out = alloc(ROOM, 64);
	make_discover(out + HDR);
	vdev_driver_ok(&net);
	vq_kick(rx);
	end = now_ms() + 2 * WAIT_MS;
	vq_do(tx, &(struct seg){(uint64_t)out, HDR + BOOTP + SIZE, false}, 1);
	while (now_ms() < end)
		if ((in = vq_get(rx, &len)) && is_offer(in + HDR, len - (uint32_t)HDR))
			return 0;
	FAIL("no offer");
	return 0;
}
