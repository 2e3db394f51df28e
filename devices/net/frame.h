/* Bytes of a frame that lies in pieces. */
#ifndef NET_FRAME_H
#define NET_FRAME_H
#include <stddef.h>
#include <sys/uio.h>

/* Copies [off, off + len) of what iov[0 .. n) holds; fewer bytes if it ends before.  Returns how many. */
size_t frame_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len);
size_t frame_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len);
#endif
