/* The file behind guest RAM: of one length for ever, and what others map is what we have. */
#ifndef VMM_RAM_FILE_H
#define VMM_RAM_FILE_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct mem_config;

/* Of cfg->size bytes, all of them zero; it has no name anywhere.  By cfg: of path=; of huge pages, a sealed
 * memfd; else, with thp, in pages of 2 MiB where the host has them, and 4 KiB where not; without, a sealed
 * memfd.  *page_size (bytes) is what one page of it surely has, before the call what cfg asks for.
 * A descriptor that the caller owns, or -errno. */
int ram_file_open(const struct mem_config *cfg, uint64_t *page_size, struct err *e);
/* Whether that is in pages of 2 MiB here, with thp and nothing else. */
bool ram_file_large(void);
/* 0, or -EINVAL: size is no multiple of page_size.  Both in bytes. */
int ram_file_check_size(uint64_t size, uint64_t page_size, struct err *e);
#endif
