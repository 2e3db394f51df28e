/* Where the guest's serial output goes: the user's stdout, a log file, and a tail kept for the moment
 * something goes wrong.  A thread of its own writes, so that a slow reader of our stdout stops the
 * guest once the buffer is full (nothing is dropped), and never the loop. */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "vmm/console_words.h"

struct console;

struct console_config {
	int out_fd; /* borrowed, or -1: not shown */
	int log_fd; /* borrowed, or -1 */
	/* These must call nothing of this console.  NULL: nobody is told. */
	words_noticed *noticed; /* by who writes the words */
	/* By the writer: so many bytes are out, or dropped since nobody reads them ... */
	void (*taken)(void *opaque, size_t len);
	void (*gone)(void *opaque); /* ... which it says once */
	void *opaque;
};

struct console *console_new(const struct console_config *cfg, struct err *e);
/* Gives what is buffered `ms` milliseconds to reach the reader, then ends the thread. */
void console_free(struct console *c, unsigned ms);

/* Any thread, never waits.  The buffer has CONSOLE_SLACK bytes more than console_wait() grants, for
 * what is written between asking and the next time of asking; past that the rest is dropped. */
void console_write(struct console *c, const void *data, size_t len);
#define CONSOLE_SLACK (16u << 10)
/* True: there is room.  Else waits for it, at most ms; false if there is still none.  Whoever makes
 * the guest produce output asks this first, holding no lock: a vCPU, between exits. */
bool console_wait(struct console *c, unsigned ms);
/* Waits for all that was written so far to be out; gives up when the reader takes nothing for ms.
 * False: something is lost, or still here. */
bool console_flush(struct console *c, unsigned ms);
bool console_lost(struct console *c); /* what was for the reader could not be written; not one that left */
/* Another life of the guest: its troubles are told anew. */
void console_watch_again(struct console *c);
/* The console's line that told of it, or "" where there was none.  A line that has not ended counts. */
void console_trouble(struct console *c, enum trouble kind, char line[WORDS_LINE]);
/* Copies the last whole lines, at most size - 1 (not 0) bytes, and ends them with a NUL. */
size_t console_tail(struct console *c, char *buf, size_t size);
#endif
