/* The VMM's end of what guest-images/init/wire.h describes: a command's stdin, stdout and stderr, how it went,
 * and what the guest's init has to say.  There are two ways to the guest; the one by which a HELLO comes is
 * used.
 *
 * The guest is not believed: what is no frame, or more than there was room for, ends the conversation. */
#ifndef VMM_CHANNEL_H
#define VMM_CHANNEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest-images/init/wire.h"
#include "lib/err.h"

struct channel;
struct evloop;

enum channel_way { CHANNEL_PORT, CHANNEL_SERIAL, CHANNEL_WAYS };

struct channel_exit {
	int status; /* as a shell has it: 128 + N for signal N */
	uint32_t taint;
};

struct channel_config {
	/* What came; they must not wait, nor call channel_receive().  On the thread of channel_receive(). */
	void (*hello)(void *opaque, const char *release);
	void (*started)(void *opaque);
	/* At most WIRE_WINDOW bytes of a stream more than channel_taken() has given back. */
	void (*output)(void *opaque, enum wire_stream stream, const void *data, size_t len);
	void (*complaint)(void *opaque, const char *text); /* printable */
	void (*exited)(void *opaque, const struct channel_exit *how);
	void (*broken)(void *opaque, const char *why); /* a sentence; nothing comes after it */
	/* Bytes for the guest; how many were taken.  After fewer than len channel_room() is due.  Loop's
	 * thread, no lock held. */
	size_t (*send)(void *opaque, enum channel_way way, const void *data, size_t len);
	void *opaque;
	int input_fd; /* the command's stdin, borrowed and read on the loop's thread; -1: none */
};

/* NULL with a sentence in e. */
struct channel *channel_new(const struct channel_config *cfg, struct evloop *loop, struct err *e);
void channel_free(struct channel *c); /* nobody else uses it any more; NULL is fine */

/* Another life of the guest, which has not begun; all that the last one wrote is taken. */
void channel_restart(struct channel *c);

/* Any thread: */

/* What the guest sent that way. */
void channel_receive(struct channel *c, enum channel_way way, const void *data, size_t len);
/* send() would take more. */
void channel_room(struct channel *c);
/* So many bytes of output are where they belong: the command may write as many more. */
void channel_taken(struct channel *c, enum wire_stream stream, size_t len);
/* Nobody reads that stream any more: the command's next write to it is its SIGPIPE. */
void channel_gone(struct channel *c, enum wire_stream stream);
/* A signal for the command's process group.  False: no command runs. */
bool channel_signal(struct channel *c, int sig);
#endif
