/* The command in the guest: where its stdin, stdout and stderr are, what became of it and when.  For the
 * machine's files alone. */
#ifndef VMM_MACHINE_COMMAND_H
#define VMM_MACHINE_COMMAND_H
#include <stdbool.h>
#include <stdint.h>

#include "vmm/channel.h"
#include "vmm/console.h"

struct machine;

struct machine_command {
	struct channel *channel;   /* NULL: the guest's init is not ours */
	struct console *out, *err; /* NULL without a command; err also where both are one */
	_Atomic uint64_t init_ns, started_ns, answer_ns; /* CLOCK_MONOTONIC; 0: not so far */
	/* Valid once the time before it is there: */
	char release[65];        /* of the guest's kernel */
	struct channel_exit how; /* what the command answered */
	char broken[256];        /* why there is no answer, or "" */
	unsigned complaints;     /* so many of init's were shown */
	char complaint[512];     /* the last */
	bool unread;             /* its output could not all be written */
};

/* Before devices_open(), which asks machine_command_port().  Nothing where our init does not run. */
int machine_command_init(struct machine *m, struct err *e);
void machine_command_restart(struct machine *m); /* another life of the guest */
/* When the guest has ended: until all the command wrote is with its readers.  Ends without that by --timeout or
 * a signal, whose number it returns (else 0). */
int machine_command_flush(struct machine *m);
void machine_command_fini(struct machine *m);

struct devices_console;
void machine_command_port(struct machine *m, struct devices_console *ends);
/* The second serial port's, in vmm/serial.h's contexts. */
void machine_on_com2(void *opaque, const void *data, size_t len);
void machine_on_com2_room(void *opaque);
#endif
