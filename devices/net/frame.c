#include "devices/net/frame.h"

#include <string.h>

/* The next piece at or after off: 0 when there is none.  Moves *iov and *off to it. */
static size_t piece(const struct iovec **iov, unsigned *n, size_t *off, size_t len)
{
	while (*n && *off >= (*iov)->iov_len) {
		*off -= (*iov)->iov_len;
		++*iov;
		--*n;
	}
	if (!*n)
		return 0;
	return (*iov)->iov_len - *off < len ? (*iov)->iov_len - *off : len;
}

size_t frame_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len)
{
	size_t done = 0;

	for (size_t k; done < len && (k = piece(&iov, &n, &off, len - done)); done += k, off += k)
		memcpy((char *)dst + done, (const char *)iov->iov_base + off, k);
	return done;
}

size_t frame_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len)
{
	size_t done = 0;

	for (size_t k; done < len && (k = piece(&iov, &n, &off, len - done)); done += k, off += k)
		memcpy((char *)iov->iov_base + off, (const char *)src + done, k);
	return done;
}
