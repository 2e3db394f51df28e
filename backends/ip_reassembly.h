/* IPv4 fragments put together before libslirp sees them: some releases of it (4.7 among them) crash on a
 * last fragment that comes first, and the code there has a history of worse. */
#ifndef BACKENDS_IP_REASSEMBLY_H
#define BACKENDS_IP_REASSEMBLY_H
#include <stddef.h>
#include <stdint.h>

#define IP_REASSEMBLY_DATAGRAMS 8
#define IP_REASSEMBLY_BLOCK     8 /* bytes: RFC 791's unit of offsets */
#define IP_REASSEMBLY_BLOCKS    (65536 / IP_REASSEMBLY_BLOCK)
#define IP_REASSEMBLY_MS        30000

struct ip_datagram {
	uint64_t since_ms; /* 0: free */
	size_t len;        /* of the payload; 0 while the last fragment is missing */
	size_t end;        /* of what came so far */
	unsigned nblocks;
	uint64_t have[IP_REASSEMBLY_BLOCKS / 64];
	uint8_t key[11];                /* addresses, identification, protocol */
	uint8_t frame[14 + 20 + 65536]; /* Ethernet and IP header (without options) of the fragment at 0 */
};

struct ip_reassembly { /* all zero to begin with */
	struct ip_datagram datagram[IP_REASSEMBLY_DATAGRAMS];
};

/* frame itself when it is no IPv4 fragment; the whole, valid until the next call, and its length, when
 * this fragment was the last one missing; else NULL: kept, or malformed and dropped.  now_ms is not 0. */
const uint8_t *ip_reassembly_take(struct ip_reassembly *r, const uint8_t *frame, size_t *len, uint64_t now_ms);
#endif
