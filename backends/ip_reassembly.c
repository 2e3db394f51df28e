#include "backends/ip_reassembly.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdbool.h>
#include <string.h>

#define IP_LEN  sizeof(struct iphdr)
#define HEADERS (ETH_HLEN + IP_LEN)

/* One fragment, checked. */
struct fragment {
	const uint8_t *frame, *data;
	size_t at, len; /* of its data in the datagram */
	bool last;
	uint8_t key[11];
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i += 2)
		sum += get16(p + i);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t) ~(sum + (sum >> 16));
}

static bool is_fragment(const uint8_t *frame, size_t len)
{
	return len >= HEADERS && get16(frame + 12) == ETH_P_IP &&
	       (get16(frame + ETH_HLEN + 6) & (IP_MF | IP_OFFMASK));
}

static bool parse(const uint8_t *frame, size_t len, struct fragment *f)
{
	const uint8_t *ip = frame + ETH_HLEN;
	size_t header = (ip[0] & 15u) * 4, total = get16(ip + 2);
	uint16_t off = get16(ip + 6);

	if (ip[0] >> 4 != IPVERSION || header < IP_LEN || header > total || total > len - ETH_HLEN ||
	    checksum(ip, header))
		return false;
	f->frame = frame;
	f->data = ip + header;
	f->at = (size_t)(off & IP_OFFMASK) * IP_REASSEMBLY_BLOCK;
	f->len = total - header;
	f->last = !(off & IP_MF);
	memcpy(f->key, ip + 12, 8);
	memcpy(f->key + 8, ip + 4, 2);
	f->key[10] = ip[9];
	return f->len && (f->last || !(f->len % IP_REASSEMBLY_BLOCK)) &&
	       f->at + f->len <= IP_MAXPACKET - IP_LEN;
}

/* Its datagram, or a new one in the oldest's place. */
static struct ip_datagram *find(struct ip_reassembly *r, const struct fragment *f, uint64_t now_ms)
{
	struct ip_datagram *oldest = &r->datagram[0];

	for (unsigned i = 0; i < IP_REASSEMBLY_DATAGRAMS; i++) {
		struct ip_datagram *d = &r->datagram[i];

		if (d->since_ms && now_ms - d->since_ms > IP_REASSEMBLY_MS)
			d->since_ms = 0;
		if (d->since_ms && !memcmp(d->key, f->key, sizeof(f->key)))
			return d;
		if (d->since_ms < oldest->since_ms)
			oldest = d;
	}
	oldest->since_ms = now_ms;
	oldest->len = oldest->end = oldest->nblocks = 0;
	memset(oldest->have, 0, sizeof(oldest->have));
	memcpy(oldest->key, f->key, sizeof(f->key));
	return oldest;
}

/* False: it contradicts what came before.  Overlaps are nobody's honest work (RFC 5722 says so of
 * IPv6). */
static bool add(struct ip_datagram *d, const struct fragment *f)
{
	size_t first = f->at / IP_REASSEMBLY_BLOCK;
	size_t n = (f->len + IP_REASSEMBLY_BLOCK - 1) / IP_REASSEMBLY_BLOCK;

	if (f->last ? d->len || d->end > f->at : d->len && f->at + f->len > d->len)
		return false;
	for (size_t i = first; i < first + n; i++) {
		if (d->have[i / 64] >> i % 64 & 1)
			return false;
		d->have[i / 64] |= UINT64_C(1) << i % 64;
	}
	d->nblocks += (unsigned)n;
	if (f->last)
		d->len = f->at + f->len;
	if (f->at + f->len > d->end)
		d->end = f->at + f->len;
	if (!f->at)
		memcpy(d->frame, f->frame, HEADERS);
	memcpy(d->frame + HEADERS + f->at, f->data, f->len);
	return true;
}

const uint8_t *ip_reassembly_take(struct ip_reassembly *r, const uint8_t *frame, size_t *len, uint64_t now_ms)
{
	struct ip_datagram *d;
	struct fragment f;
	uint8_t *ip;

	if (!is_fragment(frame, *len))
		return frame;
	if (!parse(frame, *len, &f))
		return NULL;
	d = find(r, &f, now_ms);
	if (!add(d, &f)) {
		d->since_ms = 0;
		return NULL;
	}
	if (!d->len || d->nblocks != (d->len + IP_REASSEMBLY_BLOCK - 1) / IP_REASSEMBLY_BLOCK)
		return NULL;
	d->since_ms = 0;
	ip = d->frame + ETH_HLEN;
	ip[0] = IPVERSION << 4 | IP_LEN / 4;
	put16(ip + 2, IP_LEN + d->len);
	put16(ip + 6, 0);
	put16(ip + 10, 0);
	put16(ip + 10, checksum(ip, IP_LEN));
	*len = HEADERS + d->len;
	return d->frame;
}
