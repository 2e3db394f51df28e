/* What a kernel says of its own trouble, read on its console.  The words are Linux's: kernel/panic.c,
 * arch/x86's and arm64's die(), kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, lib/bug.c,
 * mm/kasan, mm/kfence. */
#ifndef VMM_CONSOLE_WORDS_H
#define VMM_CONSOLE_WORDS_H
#include <stdbool.h>
#include <stddef.h>

enum trouble {
	TROUBLE_PANIC,
	TROUBLE_OOPS,   /* an oops, a BUG, a report of KASAN's or KFENCE's; not a WARNING */
	TROUBLE_LOCKUP, /* a soft or hard lock-up, an RCU stall, a hung task */
	TROUBLES
};

#define WORDS_LINE 256 /* of a line so many bytes are looked at, and kept */

struct console_words {
	bool seen[TROUBLES];
	char line[TROUBLES][WORDS_LINE]; /* the first of each, without its time stamp */
	char now[WORDS_LINE];            /* the line that comes in */
	size_t len, matched;             /* of it; of a panic's words */
};

/* Called once for each kind: a panic as its words come, since the guest may end with them; the others with
 * their line's end. */
typedef void words_noticed(void *opaque, enum trouble kind);

void words_read(struct console_words *w, const char *data, size_t len, words_noticed *noticed, void *opaque);
/* Nothing more comes: a line that has not ended counts as well. */
void words_end(struct console_words *w, words_noticed *noticed, void *opaque);
/* Another life of the guest. */
void words_reset(struct console_words *w);
#endif
