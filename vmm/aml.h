/* A tiny encoder of ACPI Machine Language (ACPI 6.5, chapter 20), as much as acpi.c needs.
 *
 * Bytes go into a buffer of the caller.  When it is too small nothing is written past its end, `full`
 * gets set and stays so: the caller looks once, at the end. */
#ifndef VMM_AML_H
#define VMM_AML_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_MAX_DEPTH 8

struct aml {
	uint8_t *buf;
	size_t size;
	size_t len;
	bool full;
	unsigned depth;
	size_t open[AML_MAX_DEPTH]; /* where the package lengths go */
};

enum aml_op { /* the ones without a function of their own */
	      AML_ARG0 = 0x68,
	      AML_ARG1 = 0x69,
	      AML_ARG3 = 0x6b,
	      AML_OR = 0x7d,
	      AML_NOTIFY = 0x86,
	      AML_CREATE_DWORD_FIELD = 0x8a,
	      AML_LNOT = 0x92,
	      AML_LEQUAL = 0x93,
	      AML_RETURN = 0xa4
};

void aml_init(struct aml *a, void *buf, size_t size);

void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_op(struct aml *a, enum aml_op op);
/* "\\_SB.PWRB": names shorter than four characters are padded with '_' (20.2.2). */
void aml_path(struct aml *a, const char *path);
void aml_int(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *text);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0501", 19.6.37 */
void aml_buffer(struct aml *a, const void *data, size_t len);

/* Name (name, ...): what follows is the object. */
void aml_name(struct aml *a, const char *name);

/* Everything up to the matching aml_close() is inside.  The length is encoded in as few bytes as it
 * needs (20.2.4), so iasl makes the same bytes of the disassembly. */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned nargs);
void aml_if(struct aml *a);
void aml_else(struct aml *a);
void aml_package(struct aml *a, uint8_t nelements);
void aml_close(struct aml *a);

/* Resource descriptors (6.4), to be gathered in a struct aml of their own. */
enum aml_interrupt { AML_LEVEL_HIGH, AML_EDGE_HIGH };

void aml_res_io(struct aml *r, uint16_t port, uint8_t len);
void aml_res_memory32(struct aml *r, uint32_t base, uint32_t len);
void aml_res_interrupt(struct aml *r, enum aml_interrupt type, uint32_t gsi);
void aml_res_bus_range(struct aml *r, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *r, uint16_t first, uint16_t last);
void aml_res_memory_window32(struct aml *r, uint32_t first, uint32_t last);
void aml_res_memory_window64(struct aml *r, uint64_t first, uint64_t last);
/* Name (_CRS, ResourceTemplate () { ... }); r may not be used afterwards. */
void aml_crs(struct aml *a, struct aml *r);
#endif
