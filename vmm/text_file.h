/* A file that is small enough to be had whole. */
#ifndef VMM_TEXT_FILE_H
#define VMM_TEXT_FILE_H
#include <stddef.h>
#include <stdint.h>

/* Its bytes and a NUL behind them, to be freed; NULL with errno set: -EFBIG for more than max bytes, EINVAL
 * for what is no regular file.  A FIFO is not waited for. */
uint8_t *text_file_bytes(const char *path, size_t max, size_t *len);
/* Likewise, up to the first NUL. */
char *text_file_read(const char *path, size_t max);
#endif
