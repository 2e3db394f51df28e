/* What the guests of these tests share: a way to be told what to do, by bytes on ttyS0. */
#ifndef TESTS_PEERS_GUEST_H
#define TESTS_PEERS_GUEST_H
#include "lib/virtio.h"

/* The next byte the host has typed, or 0; it costs an exit. */
static inline uint8_t typed(void)
{
	return inb(0x3fd) & 1 ? inb(0x3f8) : 0;
}

/* Milliseconds since somewhen. */
static inline uint64_t now_ms(void)
{
	static uint64_t khz;

	if (!khz)
		khz = tsc_khz();
	return rdtsc() / khz;
}

/* As zlib's, for the host to compare with. */
static inline uint32_t crc32(uint32_t crc, const uint8_t *p, size_t len)
{
	static uint32_t table[256];

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (unsigned k = 0; k < 8; k++)
				c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
			table[i] = c;
		}
	crc = ~crc;
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

/* What block or frame n holds from byte `from` on. */
static inline uint8_t pattern_byte(uint64_t n, uint32_t at)
{
	return (uint8_t)(((n + 1) * 0x9e3779b97f4a7c15ul >> (at & 7) * 8) ^ at ^ at >> 8);
}

static inline void pattern_put(uint8_t *p, uint64_t n, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		p[i] = pattern_byte(n, i);
}

/* Where it first differs, or `to`. */
static inline uint32_t pattern_check(const uint8_t *p, uint64_t n, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (p[i] != pattern_byte(n, i))
			return i;
	return to;
}

/* Status 0, which a back end that stands still with the rings in its hands holds up. */
static inline void patient_reset(struct vdev *d)
{
	uint64_t end = now_ms() + 60000;

	vdev_set_status(d, 0);
	while (vdev_status(d))
		if (now_ms() > end) {
			FAIL("the reset does not end");
			finish();
		}
}
#endif
