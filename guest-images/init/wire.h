// SPDX-License-Identifier: MIT
/*
 * What init and the VMM say to each other, on a virtio console's port or, where the guest has no driver for
 * that, on its second serial port.  Included by both.
 *
 * Frames: MARK, a type, the payload's length (little endian, 2 bytes), the payload.  Init begins with HELLO;
 * what comes before it is noise of the line.  Each stream of bytes has a window: at most WIRE_WINDOW bytes are
 * sent that the other side has not said TAKEN of.  So neither side ever has to stop reading frames, and a
 * stream that nobody reads holds up no other.  Numbers are little endian.
 */
#ifndef INIT_WIRE_H
#define INIT_WIRE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_PORT    "org.ringlet.command" /* the port's name */
#define WIRE_NAME    "ringlet"             /* HELLO begins with it, and the version */
#define WIRE_VERSION 1

#define WIRE_MARK   0xa5u
#define WIRE_HEAD   4u
#define WIRE_MAX    16384u /* payload of a stream's frame */
#define WIRE_SMALL  1024u  /* of any other */
#define WIRE_WINDOW 49152u

enum wire_stream { WIRE_STDIN, WIRE_STDOUT, WIRE_STDERR, WIRE_STREAMS };

enum wire_type {
	WIRE_HELLO = 'h',     /* init: name, version (1 byte), the kernel's release */
	WIRE_STARTED = 's',   /* init: the command runs */
	WIRE_OUT = 'o',       /* init: bytes of its stdout */
	WIRE_ERR = 'e',       /* init: ... stderr */
	WIRE_EXIT = 'x',      /* init, last: struct wire_exit's 6 bytes */
	WIRE_COMPLAINT = 'c', /* init: a sentence */
	WIRE_IN = 'i',        /* VMM: bytes for stdin */
	WIRE_IN_EOF = 'z',    /* VMM: there are no more */
	WIRE_SIGNAL = 'k',    /* VMM: its number (1 byte), for the command's process group */
	WIRE_GONE = 'g',      /* VMM: nobody reads that stream (1 byte) any more */
	WIRE_TAKEN = 't',     /* both: stream (1 byte), so many bytes (4) left the window */
};

#define WIRE_FROM_INIT "hsoexct"
#define WIRE_FROM_VMM  "izkgt"

#define WIRE_EXIT_LEN  6u /* by signal (0 or 1), status or signal, the kernel's taint (4) */
#define WIRE_TAKEN_LEN 5u

static inline uint32_t wire_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void wire_put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static inline void wire_put_head(uint8_t *p, enum wire_type type, size_t len)
{
	p[0] = WIRE_MARK;
	p[1] = (uint8_t)type;
	p[2] = (uint8_t)len;
	p[3] = (uint8_t)(len >> 8);
}

static inline bool wire_is_stream(uint8_t type)
{
	return type == WIRE_OUT || type == WIRE_ERR || type == WIRE_IN;
}

/* --- reading --- */

struct wire_reader {
	const char *types; /* that may come: WIRE_FROM_... */
	uint8_t head[WIRE_HEAD];
	size_t nhead, left; /* of the frame in hand: bytes of its head, what is missing of its payload */
	uint8_t small[WIRE_SMALL];
	size_t nsmall;
};

/* A whole frame, or of a stream's a part. */
struct wire_piece {
	uint8_t type;
	const uint8_t *data;
	size_t len;
};

/* Takes bytes from *p on, at most *n.  1: *piece, valid until the next call.  0: more bytes are needed.  -1:
 * this is no frame; nothing more is to be read. */
static inline int wire_next(struct wire_reader *r, const uint8_t **p, size_t *n, struct wire_piece *piece)
{
	while (*n || (r->nhead == WIRE_HEAD && !r->left)) {
		size_t take;

		if (r->nhead < WIRE_HEAD) {
			r->head[r->nhead++] = *(*p)++;
			(*n)--;
			if (r->head[0] != WIRE_MARK)
				return -1;
			if (r->nhead < WIRE_HEAD)
				continue;
			r->left = (size_t)(r->head[2] | r->head[3] << 8);
			r->nsmall = 0;
			if (!r->head[1] || !strchr(r->types, r->head[1]) ||
			    r->left > (wire_is_stream(r->head[1]) ? WIRE_MAX : WIRE_SMALL))
				return -1;
			continue;
		}
		take = *n < r->left ? *n : r->left;
		piece->type = r->head[1];
		if (wire_is_stream(r->head[1])) {
			piece->data = *p;
			piece->len = take;
		} else {
			memcpy(r->small + r->nsmall, *p, take);
			r->nsmall += take;
			piece->data = r->small;
			piece->len = r->nsmall;
		}
		*p += take;
		*n -= take;
		r->left -= take;
		if (!r->left)
			r->nhead = 0;
		if (!r->left || wire_is_stream(piece->type))
			return 1;
	}
	return 0;
}
#endif
