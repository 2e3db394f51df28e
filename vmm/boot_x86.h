/* What kernel_image.c, boot_x86.c and boot_elf.c share; nobody else includes it. */
#ifndef VMM_BOOT_X86_H
#define VMM_BOOT_X86_H
#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/boot.h"

#define BOOT_MIB UINT64_C(0x100000)

/* The setup header in the file, and the room boot_params has for it. */
#define SETUP_HEADER_OFFSET offsetof(struct boot_params, hdr)
#define SETUP_HEADER_END    offsetof(struct boot_params, edd_mbr_sig_buffer)
#define SETUP_HEADER_MAGIC  0x53726448u /* "HdrS" */
#define SETUP_BOOT_FLAG     0xaa55u
#define SETUP_SECTOR        512u

/* Reads until len bytes or the end of the file: the count, or -errno. */
int64_t kernel_file_read(int fd, void *buf, size_t len, uint64_t offset);

/* Bytes before the protected-mode code: the boot sector and the setup sectors. */
uint64_t bzimage_setup_size(const struct setup_header *hdr);

/* Last part of kernel_image_open() for a file with the ELF magic: checks headers and segments
 * against img->size and sets kind and pvh_entry. */
int elf_inspect(struct kernel_image *img, struct err *e);
int boot_load_elf(const struct boot_config *cfg, const struct guest_mem *mem, struct boot_entry *entry,
		  struct err *e);

/* Unpacks the bzImage's kernel into [load, end) of guest RAM itself and says where it begins; hdr, the
 * copy for the guest, is told of a randomised address.  False: nothing was done, and the stub in the
 * file must do it (an unknown format, an unexpected layout). */
bool boot_unpack(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t load, gpa_t end,
		 struct setup_header *hdr, gpa_t *entry);

/* First address above the RAM that begins at 0, never past the hole. */
gpa_t boot_low_ram_end(const struct guest_mem *mem);

/* Sorted, without overlaps; at most E820_MAX_ENTRIES_ZEROPAGE entries.  Returns how many. */
unsigned boot_memory_map(const struct guest_mem *mem, gpa_t rsdp, struct boot_e820_entry *map);

/* The command line, with its final zero byte, to LAYOUT_CMDLINE; limit does not count that byte. */
int boot_write_cmdline(const struct boot_config *cfg, const struct guest_mem *mem, uint64_t limit,
		       struct err *e);

/* Lays the parts out as high as last_byte and low RAM allow, above kernel_end.  *len is 0, and *addr
 * too, when there is nothing to load. */
int boot_load_initrd(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t kernel_end,
		     gpa_t last_byte, gpa_t *addr, uint64_t *len, struct err *e);

/* The fields of the zero page that do not come from the kernel file. */
void boot_fill_params(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t initrd,
		      uint64_t initrd_len, struct boot_params *bp);

/* GDT (0x08 32-bit code, 0x10 64-bit code, 0x18 data), page tables, and the fields of entry that
 * lead to them. */
int boot_long_mode(const struct guest_mem *mem, struct boot_entry *entry, struct err *e);

/* guest_mem_load() of [offset, + len) of a file, with a sentence for what can go wrong; what is
 * "kernel" or "initrd". */
int boot_load_file(const struct guest_mem *mem, gpa_t gpa, const char *what, const char *path, int fd,
		   uint64_t offset, uint64_t len, struct err *e);
#endif
