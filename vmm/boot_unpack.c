/* Unpacking a bzImage's kernel here, in place of the stub it carries.
 *
 * The payload is an ELF vmlinux, and behind it the relocations that let it run at another virtual
 * address (boot.rst, payload_offset; arch/x86/boot/compressed/misc.c says what the stub does).  It is
 * unpacked straight into guest RAM, so that its first segment comes to lie where it belongs; the others
 * move a little down.  None of our own pages holds it (but xz keeps a dictionary meanwhile).  The kernel then
 * starts at its own 64-bit entry.
 *
 * Whatever is not as expected is no error: the stub knows better, and is loaded as the protocol says. */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "lib/log.h"
#include "vmm/boot_x86.h"
#include "vmm/layout_x86.h"
#include "vmm/unpack.h"

#define START_KERNEL_MAP  UINT64_C(0xffffffff80000000)
#define KERNEL_IMAGE_SIZE UINT64_C(0x40000000) /* the virtual addresses a relocated kernel may use */
#define FIRST_SEGMENT     UINT64_C(0x200000)   /* where vmlinux.lds puts it in the file */
#define MAX_SEGMENTS      16

struct unpacked {
	uint8_t *image; /* in guest RAM, at gpa */
	gpa_t gpa;
	uint64_t len;
	gpa_t load, end; /* what the kernel may use for itself */
	unsigned nsegments;
	Elf64_Phdr segment[MAX_SEGMENTS]; /* PT_LOAD only */
	uint64_t entry;
};

/* Copies of the headers, checked: every segment lies in the image and goes into [load, end). */
static bool read_elf(struct unpacked *u)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (u->len < sizeof(eh))
		return false;
	memcpy(&eh, u->image, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh.e_machine != EM_X86_64 || eh.e_phentsize != sizeof(ph) || eh.e_phoff > u->len ||
	    (u->len - eh.e_phoff) / sizeof(ph) < eh.e_phnum)
		return false;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, u->image + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		if (u->nsegments == MAX_SEGMENTS || ph.p_filesz > ph.p_memsz || ph.p_offset > u->len ||
		    ph.p_filesz > u->len - ph.p_offset || ph.p_paddr < u->load || ph.p_paddr > u->end ||
		    ph.p_memsz > u->end - ph.p_paddr)
			return false;
		u->segment[u->nsegments++] = ph;
	}
	u->entry = eh.e_entry;
	return u->nsegments && u->entry >= u->load && u->entry < u->end;
}

/* Moving one segment must not run over another that still waits for its turn. */
static bool can_move(const struct unpacked *u)
{
	for (unsigned i = 0; i < u->nsegments; i++)
		for (unsigned k = i + 1; k < u->nsegments; k++)
			if (u->segment[i].p_paddr + u->segment[i].p_memsz > u->gpa + u->segment[k].p_offset)
				return false;
	return true;
}

/* --- another virtual address each time, as the stub would choose one --- */

/* What arch/x86/tools/relocs.c put behind the ELF: 0, the places of 64-bit addresses, 0, (before Linux
 * 6.15) those of 32-bit addresses that count backwards, 0, those of 32-bit addresses.  A place is a
 * kernel address, sign-extended from 32 bits. */
struct relocations {
	int32_t *word; /* a copy: moving segments may run over the original */
	size_t nwords;
	size_t zero[3]; /* the first word of each list's separator */
	unsigned nzeros;
};

static bool relocations_read(const struct unpacked *u, struct relocations *r)
{
	Elf64_Ehdr eh;
	uint64_t end;

	memcpy(&eh, u->image, sizeof(eh));
	if (__builtin_add_overflow(eh.e_shoff, (uint64_t)eh.e_shnum * eh.e_shentsize, &end) || end >= u->len ||
	    (u->len - end) % 4)
		return false;
	r->nwords = (u->len - end) / 4;
	r->word = malloc(u->len - end);
	if (!r->word)
		return false;
	memcpy(r->word, u->image + end, u->len - end);
	for (size_t i = 0; i < r->nwords; i++) {
		if (r->word[i])
			continue;
		if (r->nzeros == 3)
			return false;
		r->zero[r->nzeros++] = i;
	}
	return r->nzeros >= 2 && r->zero[0] == 0;
}

/* The place in guest RAM, once the segments lie there.  NULL: outside of what the kernel owns. */
static void *relocation_place(const struct unpacked *u, const struct guest_mem *mem, int32_t word, size_t size)
{
	gpa_t gpa = (uint64_t)(int64_t)word - START_KERNEL_MAP;

	if (gpa < u->load || gpa > u->end - size)
		return NULL;
	return guest_mem_ptr(mem, gpa, size);
}

static void add_to(void *p, uint64_t v, size_t size)
{
	uint64_t x = 0;

	memcpy(&x, p, size);
	x += v;
	memcpy(p, &x, size);
}

/* With apply off it only checks, so that nothing is left half done. */
static bool relocate(const struct unpacked *u, const struct guest_mem *mem, const struct relocations *r,
		     uint64_t delta, bool apply)
{
	for (size_t i = 1; i < r->nwords; i++) {
		const bool wide = i < r->zero[1], backwards = !wide && r->nzeros == 3 && i < r->zero[2];
		const size_t size = wide ? 8 : 4;
		void *p;

		if (!r->word[i])
			continue;
		p = relocation_place(u, mem, r->word[i], size);
		if (!p)
			return false;
		if (apply)
			add_to(p, backwards ? -delta : delta, size);
	}
	return true;
}

static bool wants_kaslr(const char *cmdline)
{
	for (const char *at = cmdline; (at = strstr(at, "nokaslr")); at++) {
		char after = at[strlen("nokaslr")];

		if ((at == cmdline || at[-1] <= ' ') && (!after || after <= ' '))
			return false;
	}
	return true;
}

static void randomise(const struct unpacked *u, const struct guest_mem *mem, const struct relocations *r,
		      struct setup_header *hdr)
{
	uint64_t align = hdr->kernel_alignment, slots, pick, delta;

	if (u->end >= KERNEL_IMAGE_SIZE || !align)
		return;
	slots = (KERNEL_IMAGE_SIZE - u->end) / align + 1;
	if (getrandom(&pick, sizeof(pick), 0) != sizeof(pick))
		return;
	delta = pick % slots * align;
	if (!relocate(u, mem, r, delta, false))
		return;
	relocate(u, mem, r, delta, true);
	hdr->loadflags |= KASLR_FLAG; /* the kernel then randomises the rest of its map by itself */
}

/* --- loading --- */

static void move_segments(struct unpacked *u, const struct guest_mem *mem)
{
	for (unsigned i = 0; i < u->nsegments; i++) {
		const Elf64_Phdr *s = &u->segment[i];

		if (s->p_paddr != u->gpa + s->p_offset)
			memmove(guest_mem_ptr(mem, s->p_paddr, s->p_filesz), u->image + s->p_offset,
				s->p_filesz);
	}
	for (unsigned i = 0; i < u->nsegments; i++) {
		const Elf64_Phdr *s = &u->segment[i];

		memset((char *)guest_mem_ptr(mem, s->p_paddr, s->p_memsz) + s->p_filesz, 0,
		       s->p_memsz - s->p_filesz);
	}
}

static bool unpack_payload(struct unpacked *u, const struct kernel_image *img, uint64_t offset, uint64_t len)
{
	uint64_t skew = offset % 4096, room = u->end - u->gpa;
	uint8_t *map;
	int64_t n;

	if (offset > img->size || len > img->size - offset || !len)
		return false;
	map = mmap(NULL, len + skew, PROT_READ, MAP_PRIVATE, img->fd, (off_t)(offset - skew));
	if (map == MAP_FAILED)
		return false;
	n = unpack(map + skew, len, u->image, room);
	munmap(map, len + skew);
	if (n < 0) {
		if (n != -ENOTSUP)
			memset(u->image, 0, room);
		log_debug("kernel %s: not unpacked here (%s), its own stub will", img->path,
			  n == -ENOTSUP   ? "a format not known"
			  : n == -ENOBUFS ? "too large"
					  : "broken");
		return false;
	}
	u->len = (uint64_t)n;
	return true;
}

bool boot_unpack(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t load, gpa_t end,
		 struct setup_header *hdr, gpa_t *entry)
{
	struct unpacked u = {.load = load, .end = end};
	struct relocations relocations = {0};
	bool randomised;

	if (load != hdr->pref_address || load < LAYOUT_HIGH_RAM + FIRST_SEGMENT || !hdr->payload_length)
		return false;
	u.gpa = load - FIRST_SEGMENT;
	u.image = guest_mem_ptr(mem, u.gpa, end - u.gpa);
	if (!u.image || !unpack_payload(&u, cfg->kernel, bzimage_setup_size(hdr) + hdr->payload_offset,
					hdr->payload_length))
		return false;
	if (!read_elf(&u) || !can_move(&u)) {
		log_debug("kernel %s: what it unpacks to is not as expected, its own stub will do it",
			  cfg->kernel->path);
		memset(u.image, 0, end - u.gpa);
		return false;
	}
	*entry = u.entry;
	randomised = hdr->relocatable_kernel && wants_kaslr(cfg->cmdline) && relocations_read(&u, &relocations);
	move_segments(&u, mem);
	if (randomised)
		randomise(&u, mem, &relocations, hdr);
	free(relocations.word);
	return true;
}
