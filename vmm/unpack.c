#include "vmm/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20)

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int64_t unpack_zstd(const void *src, size_t len, void *dst, size_t room)
{
	size_t frame = ZSTD_findFrameCompressedSize(src, len), n;

	if (ZSTD_isError(frame))
		return -EBADMSG;
	n = ZSTD_decompress(dst, room, src, frame);
	if (!ZSTD_isError(n))
		return (int64_t)n;
	return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? -ENOBUFS : -EBADMSG;
}

static int64_t unpack_xz(const void *src, size_t len, void *dst, size_t room)
{
	uint64_t memory = UINT64_MAX;
	size_t in = 0, out = 0;

	switch (lzma_stream_buffer_decode(&memory, 0, NULL, src, &in, len, dst, &out, room)) {
	case LZMA_OK:
		return (int64_t)out;
	case LZMA_BUF_ERROR:
		return -ENOBUFS;
	case LZMA_MEM_ERROR:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

/* lz4 -l: blocks of at most 8 MiB, each behind its length; Linux: lib/decompress_unlz4.c */
static int64_t unpack_lz4(const uint8_t *src, size_t len, uint8_t *dst, size_t room)
{
	size_t at = 4, out = 0;

	while (len - at >= 4) {
		uint32_t block = get32(src + at);
		size_t space = room - out < LZ4_LEGACY_BLOCK ? room - out : LZ4_LEGACY_BLOCK;
		int n;

		if (!block || block > len - at - 4 ||
		    block > LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK)) /* what stands behind the last block */
			break;
		n = LZ4_decompress_safe((const char *)src + at + 4, (char *)dst + out, (int)block, (int)space);
		if (n < 0)
			return space < LZ4_LEGACY_BLOCK ? -ENOBUFS : -EBADMSG;
		out += (size_t)n;
		at += 4 + block;
	}
	return out ? (int64_t)out : -EBADMSG;
}

static int64_t unpack_gzip(const void *src, size_t len, void *dst, size_t room)
{
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)len, .next_out = dst, .avail_out = (uInt)room};
	int64_t out;
	int rc;

	if (len > UINT32_MAX || room > UINT32_MAX)
		return -ENOBUFS;
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	out = (int64_t)z.total_out;
	inflateEnd(&z);
	if (rc == Z_STREAM_END)
		return out;
	return rc == Z_BUF_ERROR && !z.avail_out ? -ENOBUFS : -EBADMSG;
}

static bool starts(const void *src, size_t len, const char *magic, size_t n)
{
	return len >= n && !memcmp(src, magic, n);
}

const char *unpack_format(const void *src, size_t len)
{
	if (starts(src, len, "\x28\xb5\x2f\xfd", 4))
		return "zstd";
	if (starts(src, len,
		   "\xfd"
		   "7zXZ",
		   6))
		return "xz";
	if (len >= 8 && get32(src) == LZ4_LEGACY_MAGIC)
		return "lz4";
	if (starts(src, len, "\x1f\x8b\x08", 3))
		return "gzip";
	return NULL;
}

int64_t unpack(const void *src, size_t len, void *dst, size_t room)
{
	const char *format = unpack_format(src, len);

	if (!format)
		return -ENOTSUP;
	switch (format[0]) {
	case 'z':
		return unpack_zstd(src, len, dst, room);
	case 'x':
		return unpack_xz(src, len, dst, room);
	case 'l':
		return unpack_lz4(src, len, dst, room);
	default:
		return unpack_gzip(src, len, dst, room);
	}
}
