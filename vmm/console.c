/* #syscalls[console]: write poll */
#include "vmm/console.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/thread.h"

#define RING_SIZE (64u << 10) /* a power of two */
#define JOIN_NS   200000000   /* a writer that has nothing to write ends at once */
#define GATHER_NS 4000000     /* how long a partial line waits for the rest of it */

struct console {
	struct console_config cfg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more, space;
	char ring[RING_SIZE]; /* written bytes stay: it is the tail as well */
	uint64_t in, out;     /* bytes ever put in, ever taken out */
	uint64_t lines;       /* writes with a newline among them */
	bool waiting;         /* the writer sleeps until somebody brings the first byte */
	bool quit;
	bool ended; /* the writer is about to return */
	bool out_dead, log_dead;
	_Atomic bool lost; /* what was for the user and could not be written */
	struct console_words words;
};

/* False: this reader is gone for good. */
static bool write_all(struct console *c, int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);

		if (done > 0) {
			p += done;
			n -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) { /* somebody made our stdout non-blocking */
			struct pollfd pfd = {.fd = fd, .events = POLLOUT};

			poll(&pfd, 1, 100);
			pthread_mutex_lock(&c->lock);
			if (c->quit)
				n = 0;
			pthread_mutex_unlock(&c->lock);
		} else if (done < 0 && errno != EINTR) {
			return false;
		}
	}
	return true;
}

static void write_log(struct console *c, size_t at, size_t n)
{
	if (write_all(c, c->cfg.log_fd, c->ring + at, n))
		return;
	log_warn("--log: %s; the rest of the console's output is not in it", strerror(errno));
	c->log_dead = true;
}

static void write_out(struct console *c, size_t at, size_t n)
{
	if (write_all(c, c->cfg.out_fd, c->ring + at, n))
		return;
	c->out_dead = true;
	c->lost = errno != EPIPE; /* a reader that left wants no more */
	if (c->lost)
		log_warn("standard output: %s; the rest is lost", strerror(errno));
}

static void deadline(struct timespec *t, uint64_t ns)
{
	clock_gettime(CLOCK_MONOTONIC, t);
	ns += (uint64_t)t->tv_nsec;
	t->tv_sec += (time_t)(ns / 1000000000u);
	t->tv_nsec = (long)(ns % 1000000000u);
}

/* With the lock held: waits for bytes, and a little longer for a whole line. */
static void gather(struct console *c)
{
	struct timespec until;
	uint64_t lines;

	while (c->in == c->out && !c->quit) {
		c->waiting = true;
		pthread_cond_wait(&c->more, &c->lock);
	}
	c->waiting = false;
	lines = c->lines;
	deadline(&until, GATHER_NS);
	while (!c->quit && c->lines == lines && c->in - c->out < RING_SIZE / 4 &&
	       pthread_cond_timedwait(&c->more, &c->lock, &until) != ETIMEDOUT)
		;
}

static void *writer(void *arg)
{
	struct console *c = arg;
	bool gone = false;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		size_t at, n;

		gather(c);
		if (c->in == c->out && c->quit)
			break;
		at = c->out % RING_SIZE;
		n = (size_t)(c->in - c->out);
		if (n > RING_SIZE - at)
			n = RING_SIZE - at;
		pthread_mutex_unlock(&c->lock);
		/* These bytes are ours until `out` moves. */
		if (c->cfg.log_fd >= 0 && !c->log_dead)
			write_log(c, at, n);
		if (c->cfg.out_fd >= 0 && !c->out_dead)
			write_out(c, at, n);
		pthread_mutex_lock(&c->lock);
		c->out += n;
		if (!c->quit && c->cfg.taken)
			c->cfg.taken(c->cfg.opaque, n);
		if (!c->quit && c->cfg.gone && c->out_dead && !gone)
			c->cfg.gone(c->cfg.opaque);
		gone |= c->out_dead;
		pthread_cond_broadcast(&c->space);
	}
	c->ended = true;
	pthread_cond_broadcast(&c->space);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct console *console_new(const struct console_config *cfg, struct err *e)
{
	struct console *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	int rc;

	if (!c) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	c->cfg = *cfg;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->more, &attr);
	pthread_cond_init(&c->space, &attr);
	pthread_condattr_destroy(&attr);
	rc = thread_start(&c->thread, NULL, THREAD_CONSOLE, writer, c);
	if (rc) {
		err_set(e, rc, "cannot start the console's thread: %s", strerror(-rc));
		free(c);
		return NULL;
	}
	pthread_setname_np(c->thread, "console");
	return c;
}

void console_free(struct console *c, unsigned ms)
{
	struct timespec until;
	bool ended;

	if (!c)
		return;
	console_flush(c, ms);
	deadline(&until, JOIN_NS);
	pthread_mutex_lock(&c->lock);
	c->quit = true;
	pthread_cond_broadcast(&c->more);
	while (!c->ended && pthread_cond_timedwait(&c->space, &c->lock, &until) != ETIMEDOUT)
		;
	ended = c->ended;
	pthread_mutex_unlock(&c->lock);
	if (!ended) { /* it hangs in write(): a reader that never reads */
		pthread_detach(c->thread);
		return;
	}
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->more);
	pthread_cond_destroy(&c->space);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void console_write(struct console *c, const void *data, size_t len)
{
	size_t room, at, first;
	bool wake;

	pthread_mutex_lock(&c->lock);
	room = RING_SIZE - (size_t)(c->in - c->out);
	len = len < room ? len : room;
	at = c->in % RING_SIZE;
	first = len < RING_SIZE - at ? len : RING_SIZE - at;
	memcpy(c->ring + at, data, first);
	memcpy(c->ring, (const char *)data + first, len - first);
	c->in += len;
	if (c->cfg.noticed)
		words_read(&c->words, data, len, c->cfg.noticed, c->cfg.opaque);
	wake = c->waiting && len;
	if (len && memchr(data, '\n', len)) {
		c->lines++;
		wake = true;
	}
	if (wake || c->in - c->out >= RING_SIZE / 4) {
		c->waiting = false;
		pthread_cond_signal(&c->more);
	}
	pthread_mutex_unlock(&c->lock);
}

bool console_wait(struct console *c, unsigned ms)
{
	struct timespec until;
	bool room;

	pthread_mutex_lock(&c->lock);
	room = c->in - c->out < RING_SIZE - CONSOLE_SLACK;
	if (!room && ms) {
		deadline(&until, (uint64_t)ms * 1000000u);
		while (!(room = c->in - c->out < RING_SIZE - CONSOLE_SLACK) &&
		       pthread_cond_timedwait(&c->space, &c->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&c->lock);
	return room;
}

bool console_flush(struct console *c, unsigned ms)
{
	struct timespec until;
	uint64_t target, out;
	bool whole;

	pthread_mutex_lock(&c->lock);
	target = c->in;
	do {
		out = c->out;
		deadline(&until, (uint64_t)ms * 1000000u);
		while (c->out < target && c->out == out &&
		       pthread_cond_timedwait(&c->space, &c->lock, &until) != ETIMEDOUT)
			;
	} while (c->out < target && c->out != out);
	whole = c->out >= target && !c->lost;
	pthread_mutex_unlock(&c->lock);
	return whole;
}

bool console_lost(struct console *c)
{
	return c->lost;
}

void console_watch_again(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	words_reset(&c->words);
	pthread_mutex_unlock(&c->lock);
}

void console_trouble(struct console *c, enum trouble kind, char line[WORDS_LINE])
{
	pthread_mutex_lock(&c->lock);
	if (c->cfg.noticed)
		words_end(&c->words, c->cfg.noticed, c->cfg.opaque);
	snprintf(line, WORDS_LINE, "%s", c->words.line[kind]);
	pthread_mutex_unlock(&c->lock);
}

size_t console_tail(struct console *c, char *buf, size_t size)
{
	uint64_t from, n;
	size_t len = 0;

	pthread_mutex_lock(&c->lock);
	n = c->in < RING_SIZE ? c->in : RING_SIZE;
	if (n > size - 1)
		n = size - 1;
	from = c->in - n;
	/* Begin with a whole line.  (What stood before the oldest byte kept is not known.) */
	if (from && (n == RING_SIZE || c->ring[(from - 1) % RING_SIZE] != '\n'))
		while (from < c->in && c->ring[from++ % RING_SIZE] != '\n')
			;
	while (from < c->in)
		buf[len++] = c->ring[from++ % RING_SIZE];
	pthread_mutex_unlock(&c->lock);
	buf[len] = 0;
	return len;
}
