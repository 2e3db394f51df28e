#include "vmm/aml.h"

#include <assert.h>
#include <string.h>

void aml_init(struct aml *a, void *buf, size_t size)
{
	*a = (struct aml){.buf = buf, .size = size};
}

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->full || len > a->size - a->len) {
		a->full = true;
		return;
	}
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

static void byte(struct aml *a, unsigned value)
{
	uint8_t b = (uint8_t)value;

	aml_bytes(a, &b, 1);
}

static void little_endian(struct aml *a, uint64_t value, unsigned nbytes)
{
	for (unsigned i = 0; i < nbytes; i++)
		byte(a, (unsigned)(value >> (8 * i)) & 0xff);
}

void aml_op(struct aml *a, enum aml_op op)
{
	byte(a, (unsigned)op);
}

void aml_path(struct aml *a, const char *path)
{
	unsigned nsegs = 1;

	if (*path == '\\') {
		byte(a, '\\');
		path++;
	}
	for (const char *p = path; *p; p++)
		nsegs += *p == '.';
	if (nsegs == 2)
		byte(a, 0x2e);
	if (nsegs > 2) {
		byte(a, 0x2f);
		byte(a, nsegs);
	}
	while (nsegs--) {
		char seg[4] = {'_', '_', '_', '_'};
		size_t n = strcspn(path, ".");

		assert(n && n <= sizeof(seg));
		memcpy(seg, path, n);
		aml_bytes(a, seg, sizeof(seg));
		path += n + (path[n] == '.');
	}
}

void aml_int(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		byte(a, (unsigned)value); /* ZeroOp, OneOp */
	} else if (value <= UINT8_MAX) {
		byte(a, 0x0a);
		little_endian(a, value, 1);
	} else if (value <= UINT16_MAX) {
		byte(a, 0x0b);
		little_endian(a, value, 2);
	} else if (value <= UINT32_MAX) {
		byte(a, 0x0c);
		little_endian(a, value, 4);
	} else {
		byte(a, 0x0e);
		little_endian(a, value, 8);
	}
}

void aml_string(struct aml *a, const char *text)
{
	byte(a, 0x0d);
	aml_bytes(a, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisa_id(struct aml *a, const char *id)
{
	unsigned value = 0;

	assert(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++)
		value = value << 5 | ((unsigned)id[i] - 0x40);
	for (unsigned i = 3; i < 7; i++)
		value = value << 4 | hex_digit(id[i]);
	/* three letters and four digits, most significant byte first; always a DWord */
	byte(a, 0x0c);
	for (unsigned i = 4; i--;)
		byte(a, value >> (8 * i) & 0xff);
}

/* The length counts the bytes that hold it.  It has its place already known but not its size, so what
 * came after the place moves up. */
static void insert_length(struct aml *a, size_t at)
{
	uint8_t length[4];
	size_t body = a->len - at;
	unsigned n = 1;
	size_t total;

	if (a->full)
		return;
	if (body + 1 > 0x3f)
		n = body + 2 <= 0xfff ? 2 : body + 3 <= 0xfffff ? 3 : 4;
	total = body + n;
	if (n == 1) {
		length[0] = (uint8_t)total;
	} else {
		length[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
		for (unsigned i = 1; i < n; i++)
			length[i] = (uint8_t)(total >> (8 * i - 4));
	}
	if (n > a->size - a->len) {
		a->full = true;
		return;
	}
	memmove(a->buf + at + n, a->buf + at, body);
	memcpy(a->buf + at, length, n);
	a->len += n;
}

static void open_here(struct aml *a)
{
	assert(a->depth < AML_MAX_DEPTH);
	a->open[a->depth++] = a->len;
}

void aml_close(struct aml *a)
{
	assert(a->depth);
	insert_length(a, a->open[--a->depth]);
}

void aml_buffer(struct aml *a, const void *data, size_t len)
{
	byte(a, 0x11);
	open_here(a);
	aml_int(a, len);
	aml_bytes(a, data, len);
	aml_close(a);
}

void aml_name(struct aml *a, const char *name)
{
	byte(a, 0x08);
	aml_path(a, name);
}

void aml_scope(struct aml *a, const char *path)
{
	byte(a, 0x10);
	open_here(a);
	aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
	byte(a, 0x5b);
	byte(a, 0x82);
	open_here(a);
	aml_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned nargs)
{
	byte(a, 0x14);
	open_here(a);
	aml_path(a, name);
	byte(a, nargs | 1u << 3); /* serialized: it may create names */
}

void aml_if(struct aml *a)
{
	byte(a, 0xa0);
	open_here(a);
}

void aml_else(struct aml *a)
{
	byte(a, 0xa1);
	open_here(a);
}

void aml_package(struct aml *a, uint8_t nelements)
{
	byte(a, 0x12);
	open_here(a);
	byte(a, nelements);
}

/* --- resource descriptors --- */

void aml_res_io(struct aml *r, uint16_t port, uint8_t len)
{
	byte(r, 0x47);
	byte(r, 1); /* all 16 address bits are decoded */
	little_endian(r, port, 2);
	little_endian(r, port, 2);
	byte(r, 1); /* alignment */
	byte(r, len);
}

void aml_res_memory32(struct aml *r, uint32_t base, uint32_t len)
{
	byte(r, 0x86);
	little_endian(r, 9, 2);
	byte(r, 1); /* read and write */
	little_endian(r, base, 4);
	little_endian(r, len, 4);
}

void aml_res_interrupt(struct aml *r, enum aml_interrupt type, uint32_t gsi)
{
	byte(r, 0x89);
	little_endian(r, 6, 2);
	byte(r, 1u | (type == AML_EDGE_HIGH ? 1u << 1 : 0)); /* consumer, high, exclusive */
	byte(r, 1);
	little_endian(r, gsi, 4);
}

enum window_type { WINDOW_MEMORY = 0, WINDOW_IO = 1, WINDOW_BUS = 2 };

/* 6.4.3.5: both ends fixed, handed on to the devices below (a producer). */
static void window(struct aml *r, unsigned tag, unsigned width, enum window_type type, unsigned flags,
		   uint64_t first, uint64_t last)
{
	byte(r, tag);
	little_endian(r, 3 + 5 * width, 2);
	byte(r, (unsigned)type);
	byte(r, 1u << 2 | 1u << 3);
	byte(r, flags);
	little_endian(r, 0, width); /* granularity */
	little_endian(r, first, width);
	little_endian(r, last, width);
	little_endian(r, 0, width); /* translation */
	little_endian(r, last - first + 1, width);
}

void aml_res_bus_range(struct aml *r, uint16_t first, uint16_t last)
{
	window(r, 0x88, 2, WINDOW_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *r, uint16_t first, uint16_t last)
{
	window(r, 0x88, 2, WINDOW_IO, 3, first, last); /* the entire range, ISA or not */
}

void aml_res_memory_window32(struct aml *r, uint32_t first, uint32_t last)
{
	window(r, 0x87, 4, WINDOW_MEMORY, 1, first, last); /* not cacheable, read and write */
}

void aml_res_memory_window64(struct aml *r, uint64_t first, uint64_t last)
{
	window(r, 0x8a, 8, WINDOW_MEMORY, 1, first, last);
}

void aml_crs(struct aml *a, struct aml *r)
{
	byte(r, 0x79);
	byte(r, 0); /* no checksum: taken as right */
	a->full = a->full || r->full;
	aml_name(a, "_CRS");
	aml_buffer(a, r->buf, r->len);
}
