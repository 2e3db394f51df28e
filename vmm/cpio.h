/* A cpio archive ("newc") in memory, as the kernel unpacks it into its first root: what Ringlet adds to
 * the user's initrd. */
#ifndef VMM_CPIO_H
#define VMM_CPIO_H
#include <stddef.h>
#include <stdint.h>

struct cpio {
	uint8_t *data; /* owned */
	size_t len;    /* bytes, a multiple of 4 */
	size_t cap;
	unsigned ino;
	int error; /* -ENOMEM once, and everything after does nothing */
};

/* Paths without a leading slash.  Parents must be added before what is in them. */
void cpio_dir(struct cpio *c, const char *path, unsigned mode);
void cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len);
void cpio_link(struct cpio *c, const char *path, const char *target);
int cpio_end(struct cpio *c); /* 0 or -ENOMEM */
void cpio_fini(struct cpio *c);
#endif
