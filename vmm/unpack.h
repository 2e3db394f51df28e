/* Compressed data into memory, by the formats Linux packs its kernels in. */
#ifndef VMM_UNPACK_H
#define VMM_UNPACK_H
#include <stddef.h>
#include <stdint.h>

/* Unpacks the whole of src into dst, which has room for `room` bytes.  Returns the unpacked length;
 * -ENOTSUP: a format not known here (src was not touched further than its magic), -ENOBUFS: more than
 * room, -EBADMSG: broken data, -ENOMEM.  What follows the compressed data in src is ignored. */
int64_t unpack(const void *src, size_t len, void *dst, size_t room);

/* "zstd", "xz", "lz4", "gzip", or NULL. */
const char *unpack_format(const void *src, size_t len);
#endif
