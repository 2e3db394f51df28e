/* unpack(): every format both ways round, and everything broken. */
#include <criterion/criterion.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/unpack.h"

#define SIZE (20u << 20) /* more than two lz4 blocks */
#define ROOM (SIZE + 64)

static uint8_t *plain, *packed, *out;
static size_t packed_len;

static void setup(void)
{
	uint32_t x = 1;

	plain = malloc(SIZE);
	packed = malloc(2 * (size_t)SIZE);
	out = malloc(ROOM);
	for (size_t i = 0; i < SIZE; i++) { /* packs well, but not to nothing */
		x = x * 1664525 + 1013904223;
		plain[i] = i % 64 < 48 ? (uint8_t)(i >> 6) : (uint8_t)(x >> 24);
	}
}

static void teardown(void)
{
	free(plain);
	free(packed);
	free(out);
}

TestSuite(unpack, .init = setup, .fini = teardown);

static void pack_zstd(void)
{
	packed_len = ZSTD_compress(packed, 2 * (size_t)SIZE, plain, SIZE, 1);
}

static void pack_xz(void)
{
	packed_len = 0;
	cr_assert_eq(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, plain, SIZE, packed, &packed_len,
					     2 * (size_t)SIZE),
		     LZMA_OK);
}

static void pack_gzip(void)
{
	z_stream z = {.next_in = plain, .avail_in = SIZE, .next_out = packed, .avail_out = 2 * SIZE};

	cr_assert_eq(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	packed_len = z.total_out;
	deflateEnd(&z);
}

static void put32(size_t at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		packed[at + i] = (uint8_t)(v >> 8 * i);
}

static void pack_lz4(void)
{
	packed_len = 4;
	put32(0, 0x184c2102);
	for (size_t at = 0; at < SIZE; at += 8u << 20) {
		int n = SIZE - at < 8u << 20 ? (int)(SIZE - at) : 8 << 20;

		n = LZ4_compress_default((char *)plain + at, (char *)packed + packed_len + 4, n, 16 << 20);
		put32(packed_len, (uint32_t)n);
		packed_len += 4 + (size_t)n;
	}
}

static const struct {
	const char *name;
	void (*pack)(void);
} formats[] = {{"zstd", pack_zstd}, {"xz", pack_xz}, {"gzip", pack_gzip}, {"lz4", pack_lz4}};

#define EACH(f) for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++)

Test(unpack, gives_back_what_was_packed)
{
	EACH(f)
	{
		formats[f].pack();
		memset(out, 0xa5, ROOM);
		cr_expect_str_eq(unpack_format(packed, packed_len), formats[f].name);
		cr_expect_eq(unpack(packed, packed_len, out, ROOM), SIZE, "%s", formats[f].name);
		cr_expect_arr_eq(out, plain, SIZE, "%s", formats[f].name);
		cr_expect_eq(out[SIZE], 0xa5, "%s wrote past its end", formats[f].name);
	}
}

Test(unpack, ignores_the_length_the_kernel_build_appends)
{
	EACH(f)
	{
		formats[f].pack();
		put32(packed_len, SIZE);
		cr_expect_eq(unpack(packed, packed_len + 4, out, ROOM), SIZE, "%s", formats[f].name);
	}
}

Test(unpack, never_writes_past_the_room)
{
	EACH(f)
	{
		formats[f].pack();
		for (size_t room = SIZE - 1; room; room = room < 1000 ? 0 : room / 7) {
			out[room] = 0xa5;
			cr_expect_eq(unpack(packed, packed_len, out, room), -ENOBUFS, "%s, room %zu",
				     formats[f].name, room);
			cr_expect_eq(out[room], 0xa5, "%s, room %zu", formats[f].name, room);
		}
	}
}

Test(unpack, refuses_what_is_cut_short)
{
	EACH(f)
	{
		formats[f].pack();
		for (size_t len = packed_len - 1; len > 16; len = len * 2 / 3) {
			int64_t n = unpack(packed, len, out, ROOM);

			/* lz4's legacy frame has no end mark: whole blocks are all right */
			cr_expect(n < 0 || (!strcmp(formats[f].name, "lz4") && n < SIZE), "%s, %zu of %zu: %ld",
				  formats[f].name, len, packed_len, (long)n);
		}
	}
}

Test(unpack, knows_what_it_does_not_know)
{
	static const char *const others[] = {"",  "\x1f", "BZh91AY", "\x5d\0\0\x80\0\xff", "\x89LZO\0\r\n",
					     "MZ"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		cr_expect_eq(unpack(others[i], strlen(others[i]), out, ROOM), -ENOTSUP);
}

Test(unpack, survives_flipped_bits, .timeout = 120)
{
	uint32_t x = 7;

	EACH(f)
	{
		formats[f].pack();
		for (int round = 0; round < 60; round++) { /* the damage adds up */
			for (int i = 0; i < 4; i++) {
				x = x * 1664525 + 1013904223;
				packed[(round % 2 ? x : x % 4096) % packed_len] ^= (uint8_t)(1u << (x >> 29));
			}
			out[ROOM - 1] = 0xa5;
			unpack(packed, packed_len, out, ROOM - 1);
			cr_assert_eq(out[ROOM - 1], 0xa5, "%s", formats[f].name);
		}
	}
}
