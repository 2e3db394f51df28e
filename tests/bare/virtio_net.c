/* A network device and somebody at its other end: who=host is the host's kernel behind a tap (10.9.0.1/24),
 * which answers ARP, pings of all sizes and UDP to nobody; who=user is the user network, which has DHCP. */
#include <linux/virtio_net.h>

#include "lib/virtio.h"

#define HDR    12u
#define NRX    32
#define ROOM   2048u
#define FRAME  16384u
#define OFF_IP 14u
#define OFF_L4 34u

static const uint8_t my_ip[4] = {10, 9, 0, 2}, host_ip[4] = {10, 9, 0, 1};
static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static struct vdev net;
static struct vq *rx, *tx;
static uint8_t my_mac[6], host_mac[6];
static uint8_t *out;      /* header and frame */
static uint8_t in[FRAME]; /* the last frame received */
static uint32_t in_len;
static unsigned in_buffers;

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void copy(uint8_t *to, const uint8_t *from, unsigned n)
{
	while (n--)
		*to++ = *from++;
}

static bool equal(const uint8_t *a, const uint8_t *b, unsigned n)
{
	while (n--)
		if (*a++ != *b++)
			return false;
	return true;
}

static uint32_t sum(const uint8_t *p, unsigned n, uint32_t s)
{
	for (unsigned i = 0; i + 1 < n; i += 2)
		s += get16(p + i);
	return n & 1 ? s + ((uint32_t)p[n - 1] << 8) : s;
}

static unsigned fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* --- frames there and back --- */

static void give_buffer(void *p)
{
	REQUIRE(vq_add(rx, &(struct seg){(uint64_t)p, ROOM, true}, 1, p));
}

/* The frame in `out`, in two pieces; header and all. */
static void send(unsigned len)
{
	const struct seg seg[] = {{(uint64_t)out, HDR, false}, {(uint64_t)out + HDR, len, false}};

	CHECK_EQ(vq_do(tx, seg, 2), 0);
}

/* False: none for as long as it takes. */
static bool receive(unsigned ms)
{
	uint64_t end = rdtsc() + tsc_khz() * ms;
	uint8_t *p;
	uint32_t len;

	for (;;) {
		unsigned seen = rx->irqs;

		vq_want_irq(rx, net.irq != VDEV_POLL);
		if (vq_more(rx))
			break;
		if (rdtsc() > end)
			return false;
		if (net.irq != VDEV_POLL)
			wait_for(&rx->irqs, seen + 1, ms);
	}
	p = vq_get(rx, &len);
	REQUIRE(len >= HDR + 14 && len <= ROOM);
	in_buffers = (unsigned)p[10] | (unsigned)p[11] << 8;
	CHECK_EQ(p[1], VIRTIO_NET_HDR_GSO_NONE);
	in_len = len - HDR;
	copy(in, p + HDR, in_len);
	give_buffer(p);
	for (unsigned i = 1; i < in_buffers; i++) {
		if (!vq_wait(rx))
			finish();
		p = vq_get(rx, &len);
		REQUIRE(in_len + len <= FRAME);
		copy(in + in_len, p, len);
		in_len += len;
		give_buffer(p);
	}
	vq_kick(rx);
	return true;
}

static void ethernet(const uint8_t *to, unsigned type)
{
	for (unsigned i = 0; i < HDR + FRAME; i++)
		out[i] = 0;
	copy(out + HDR, to, 6);
	copy(out + HDR + 6, my_mac, 6);
	put16(out + HDR + 12, type);
}

static void ip(const uint8_t *from, const uint8_t *to, unsigned proto, unsigned payload)
{
	static unsigned id;
	uint8_t *p = out + HDR + OFF_IP;

	p[0] = 0x45;
	put16(p + 2, 20 + payload);
	put16(p + 4, ++id);
	p[8] = 64;
	p[9] = (uint8_t)proto;
	copy(p + 12, from, 4);
	copy(p + 16, to, 4);
	put16(p + 10, ~fold(sum(p, 20, 0)) & 0xffff);
}

/* Who we are, to whom asks */
static void answer_arp(void)
{
	uint8_t asker[6];

	if (in_len < 42 || get16(in + 12) != 0x0806 || get16(in + 20) != 1 || !equal(in + 38, my_ip, 4))
		return;
	copy(asker, in + 6, 6);
	ethernet(asker, 0x0806);
	copy(out + HDR + 14, (const uint8_t[]){0, 1, 8, 0, 6, 4, 0, 2}, 8);
	copy(out + HDR + 22, my_mac, 6);
	copy(out + HDR + 28, my_ip, 4);
	copy(out + HDR + 32, asker, 6);
	copy(out + HDR + 38, host_ip, 4);
	send(60);
}

static void arp(void)
{
	ethernet(everybody, 0x0806);
	copy(out + HDR + 14, (const uint8_t[]){0, 1, 8, 0, 6, 4, 0, 1}, 8);
	copy(out + HDR + 22, my_mac, 6);
	copy(out + HDR + 28, my_ip, 4);
	copy(out + HDR + 38, host_ip, 4);
	send(60);
	while (receive(WAIT_MS))
		if (get16(in + 12) == 0x0806 && get16(in + 20) == 2) {
			CHECK(equal(in + 28, host_ip, 4));
			CHECK(equal(in, my_mac, 6));
			copy(host_mac, in + 22, 6);
			return;
		}
	FAIL("no answer to ARP");
	finish();
}

/* An ICMP message of some type for us; other frames are passed over. */
static bool icmp_heard(unsigned type, unsigned ms)
{
	while (receive(ms)) {
		answer_arp();
		if (get16(in + 12) == 0x0800 && in[OFF_IP + 9] == 1 && in[OFF_L4] == type)
			return true;
	}
	return false;
}

static void ping(unsigned len, bool offload)
{
	uint8_t *icmp = out + HDR + OFF_L4;
	static uint16_t seq;

	ethernet(host_mac, 0x0800);
	icmp[0] = 8;
	put16(icmp + 4, 0x77);
	put16(icmp + 6, ++seq);
	for (unsigned i = 8; i < 8 + len; i++)
		icmp[i] = (uint8_t)rnd();
	if (!offload)
		put16(icmp + 2, ~fold(sum(icmp, 8 + len, 0)) & 0xffff);
	ip(my_ip, host_ip, 1, 8 + len);
	if (offload) {
		out[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		out[6] = OFF_L4;
		out[8] = 2;
	}
	send(OFF_L4 + 8 + len);
	if (!icmp_heard(0, WAIT_MS)) {
		FAIL("no answer to a ping of %u bytes%s", len, offload ? " without a checksum" : "");
		finish();
	}
	CHECK_EQ(get16(in + OFF_IP + 2), 20 + 8 + len);
	CHECK_EQ(get16(in + OFF_L4 + 6), seq);
	CHECK(equal(in + OFF_L4 + 8, icmp + 8, len));
	CHECK_EQ(fold(sum(in + OFF_L4, 8 + len, 0)), 0xffff);
	if (in_len > ROOM - HDR)
		CHECK_EQ(in_buffers, (HDR + in_len + ROOM - 1) / ROOM);
	else
		CHECK_EQ(in_buffers, 1);
}

/* UDP to nobody: who gets it says so; a wrong checksum is nobody's. */
static void udp(bool offload, bool wrong)
{
	uint8_t *p = out + HDR + OFF_L4;
	unsigned pseudo;

	ethernet(host_mac, 0x0800);
	put16(p, 4000);
	put16(p + 2, 4001);
	put16(p + 4, 8 + 100);
	for (unsigned i = 0; i < 100; i++)
		p[8 + i] = (uint8_t)rnd();
	ip(my_ip, host_ip, 17, 108);
	pseudo = fold(sum(out + HDR + OFF_IP + 12, 8, 17 + 108));
	put16(p + 6, offload ? pseudo : (~fold(sum(p, 108, pseudo)) & 0xffff) ^ (wrong ? 0x1234 : 0));
	if (offload) {
		out[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		out[6] = OFF_L4;
		out[8] = 6;
	}
	send(OFF_L4 + 108);
	if (icmp_heard(3, wrong ? 200 : WAIT_MS) == wrong)
		FAIL("UDP with a %s checksum is %s",
		     offload ? "partial"
		     : wrong ? "wrong"
			     : "whole",
		     wrong ? "taken" : "not answered");
	if (!wrong && in_len >= OFF_L4 + 8 + 28) /* it quotes what it has got */
		CHECK(equal(in + OFF_L4 + 8 + 20, p, 6));
}

static void host(void)
{
	static const unsigned size[] = {0, 1, 17, 56, 473, 1024, 1471, 1472};
	unsigned large = (unsigned)option("large", 0);

	arp();
	for (unsigned i = 0; i < 20; i++)
		for (unsigned k = 0; k < ARRAY_SIZE(size); k++)
			ping(size[k], false);
	for (unsigned len = 1500; len <= large; len += 777)
		ping(len, false);
	udp(false, false);
	udp(false, true);
	if (vdev_has(&net, VIRTIO_NET_F_CSUM)) {
		ping(300, true);
		udp(true, false);
	}
}

/* DISCOVER is answered with an offer. */
static void dhcp(void)
{
	static const uint8_t nobody[4], all[4] = {255, 255, 255, 255};
	uint8_t *p = out + HDR + OFF_L4;

	ethernet(everybody, 0x0800);
	put16(p, 68);
	put16(p + 2, 67);
	put16(p + 4, 8 + 300);
	p += 8;
	copy(p, (const uint8_t[]){1, 1, 6, 0, 0xca, 0xfe, 0xba, 0xbe}, 8);
	copy(p + 28, my_mac, 6);
	copy(p + 236, (const uint8_t[]){0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255}, 8);
	ip(nobody, all, 17, 308);
	send(OFF_L4 + 308);
	while (receive(WAIT_MS))
		if (get16(in + 12) == 0x0800 && in[OFF_IP + 9] == 17 && get16(in + OFF_L4 + 2) == 68) {
			p = in + OFF_L4 + 8;
			CHECK_EQ(p[0], 2);
			CHECK(equal(p + 4, (const uint8_t[]){0xca, 0xfe, 0xba, 0xbe}, 4));
			CHECK(equal(p + 28, my_mac, 6));
			CHECK_EQ(p[16], 10);
			CHECK_EQ(p[242], 2); /* the first option, the type: OFFER */
			print("# offered %u.%u.%u.%u\n", p[16], p[17], p[18], p[19]);
			return;
		}
	FAIL("no DHCP offer");
}

int main(void)
{
	vdev_open(&net, VIRTIO_ID_NET, 0);
	vdev_begin(&net, BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	if (option("large", 0))
		CHECK(vdev_has(&net, VIRTIO_NET_F_MRG_RXBUF));
	rx = vq_new(&net, 0, 64);
	tx = vq_new(&net, 1, 64);
	for (unsigned i = 0; i < 6; i++)
		my_mac[i] = (uint8_t)vdev_config(&net, i, 1);
	for (unsigned i = 0; i < NRX; i++)
		give_buffer(alloc(ROOM, 64));
	out = alloc(HDR + FRAME, 64);
	vdev_driver_ok(&net);
	vq_kick(rx);
	if (option_is("who", "host"))
		host();
	else
		dhcp();
	CHECK_EQ(vdev_status(&net), 0xf);
	return 0;
}
