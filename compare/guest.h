/* The guests that do the work, and what they say.
 *
 * A guest prints lines on its output (Linux: the standard output of "ringlet run -- command"; bare: the serial
 * port), each "compare: WORD..."; other text is kept for messages only.
 *	offered HEX                         bare, with probe: the device's feature bits
 *	features HEX                        taken by the driver
 *	begin WORKLOAD [busy]               counters are read now ...
 *	stop WORKLOAD                       ... and now, or else with what follows
 *	end WORKLOAD COUNT SECONDS RATE     COUNT packets or I/Os were done, in SECONDS of work
 *	latency WORKLOAD US...              LATENCY_POINTS percentiles, in microseconds
 *	failed WORKLOAD WHY                 the next one may still work
 * busy: the guest works all the time, and COUNT and SECONDS are of about the time between the two.  Without it
 * nothing is done for GUEST_HOLD_MS around either: all that is spent between them is spent on COUNT, in SECONDS
 * of that time.  RATE, in the workload's unit, is the tool's word, of all of its run. */
#ifndef COMPARE_GUEST_H
#define COMPARE_GUEST_H
#include <stddef.h>

#include "compare/result.h"

#define GUEST_HOLD_MS 300

enum guest_word {
	GUEST_OTHER,
	GUEST_OFFERED,
	GUEST_FEATURES,
	GUEST_BEGIN,
	GUEST_STOP,
	GUEST_END,
	GUEST_LATENCY,
	GUEST_FAILED
};

struct guest_line {
	enum guest_word word;
	bool busy;
	uint64_t bits;
	char workload[32];
	double count, seconds, rate;
	double latency_us[LATENCY_POINTS];
	char why[200]; /* printable; of GUEST_FAILED, else "" */
};

/* Reads one line, which may be anything.  What begins with "compare:" and is not understood is GUEST_FAILED, as
 * is what the bare guest's library complains of. */
void guest_line(const char *text, struct guest_line *out);

/* The words for the bare guest's kernel command line.  probe: w may be NULL.  The caller's to free; NULL: no
 * memory. */
char *guest_bare_append(const struct plan *p, const struct workload *w, bool packed, bool probe);
/* What a shell in a Linux guest is to do, as in "sh -c SCRIPT sh COMMAND...": all workloads of the plan, in
 * turn; its arguments are the user's own command.  The caller's to free; NULL: no memory. */
char *guest_linux_script(const struct plan *p);
/* The nth program that the host must run for a Linux guest, static; NULL past the last.  One that has served a
 * guest which died may be busy for ever: each guest wants new ones. */
char *const *guest_host_server(const struct plan *p, unsigned n);

/* The bare guest, an ELF file in this binary. */
extern const unsigned char guest_bare_elf[], guest_bare_elf_end[];
/* What every Linux guest does; guest_linux_script() is this behind the plan's numbers. */
extern const char guest_script[];
#endif
