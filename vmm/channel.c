/* Theory of operation.
 *
 * Receiving happens on whatever thread brings the bytes, under rx_lock.  A command's output is handed on at
 * once: its window is never larger than what waits behind output(), so this cannot have to wait.
 *
 * Sending is the loop's.  What there is to say is not queued: signals, bytes taken and ends of streams are kept
 * as numbers and bits under tx_lock, and become frames when the last one is out.  So memory is bounded whatever
 * the guest does, and stdin is read only when a frame of it can go. */
#include "vmm/channel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/evloop.h"

#define GREETING (WIRE_HEAD + sizeof(WIRE_NAME) - 1) /* what HELLO is known by */

struct channel {
	struct channel_config cfg;
	struct evloop *loop;
	struct ev_watch wake;  /* eventfd: there may be something to send */
	struct ev_watch input; /* cfg.input_fd, watched while a frame could go and there is nothing to read */
	bool watched;

	pthread_mutex_t rx_lock;
	struct wire_reader reader;
	uint8_t greeting[CHANNEL_WAYS][GREETING];
	size_t ngreeting[CHANNEL_WAYS];
	bool begun, greeted, over; /* over: EXIT, or broken */
	enum channel_way way;      /* valid with begun */

	pthread_mutex_t tx_lock;
	bool open, running;           /* after HELLO; between STARTED and EXIT */
	enum channel_way tx_way;      /* valid with open */
	uint64_t window;              /* of stdin: bytes that may be sent */
	uint64_t used[WIRE_STREAMS];  /* of stdout's and stderr's window */
	uint32_t taken[WIRE_STREAMS]; /* not said yet */
	uint64_t signals;             /* bit per number */
	unsigned closed, gone;        /* bit per stream: nobody reads it; ... and that is not said yet */

	/* the loop's: */
	uint8_t frame[WIRE_HEAD + WIRE_MAX];
	size_t from, to;
	bool input_ended, eof_sent;
};

/* --- from the guest --- */

static void broken(struct channel *c, const char *why)
{
	c->over = true;
	pthread_mutex_lock(&c->tx_lock);
	c->open = c->running = false;
	pthread_mutex_unlock(&c->tx_lock);
	c->cfg.broken(c->cfg.opaque, why);
}

static void wake(struct channel *c)
{
	const uint64_t one = 1;

	if (write(c->wake.fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
		return;
}

/* Printable, and ended by NUL. */
static void clean(char *dst, size_t size, const uint8_t *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && text[i] && n + 1 < size; i++)
		dst[n++] = text[i] < ' ' || text[i] == 0x7f ? '?' : (char)text[i];
	dst[n] = '\0';
}

static void on_hello(struct channel *c, const struct wire_piece *f)
{
	const size_t name = sizeof(WIRE_NAME) - 1;
	char text[65];

	if (c->greeted || f->len <= name || f->data[name] != WIRE_VERSION) {
		broken(c, c->greeted ? "the guest's init began a second time"
				     : "the guest's init is of another version of Ringlet");
		return;
	}
	c->greeted = true;
	pthread_mutex_lock(&c->tx_lock);
	c->open = true;
	c->tx_way = c->way;
	pthread_mutex_unlock(&c->tx_lock);
	clean(text, sizeof(text), f->data + name + 1, f->len - name - 1);
	c->cfg.hello(c->cfg.opaque, text);
	wake(c);
}

static void on_output(struct channel *c, const struct wire_piece *f)
{
	enum wire_stream stream = f->type == WIRE_OUT ? WIRE_STDOUT : WIRE_STDERR;
	bool fits;

	pthread_mutex_lock(&c->tx_lock);
	c->used[stream] += f->len;
	fits = c->used[stream] <= WIRE_WINDOW;
	pthread_mutex_unlock(&c->tx_lock);
	if (fits)
		c->cfg.output(c->cfg.opaque, stream, f->data, f->len);
	else
		broken(c, "the guest's init sent more output than it was allowed to");
}

static void on_taken(struct channel *c, const struct wire_piece *f)
{
	if (f->len != WIRE_TAKEN_LEN || f->data[0] != WIRE_STDIN) {
		broken(c, "the guest's init sent a frame that makes no sense");
		return;
	}
	pthread_mutex_lock(&c->tx_lock);
	c->window += wire_get32(f->data + 1);
	pthread_mutex_unlock(&c->tx_lock);
	wake(c);
}

static void on_exit_frame(struct channel *c, const struct wire_piece *f)
{
	struct channel_exit how;

	if (f->len != WIRE_EXIT_LEN || f->data[0] > 1 || (f->data[0] && (!f->data[1] || f->data[1] > 64))) {
		broken(c, "the guest's init sent a frame that makes no sense");
		return;
	}
	how.status = f->data[0] ? 128 + f->data[1] : f->data[1];
	how.taint = wire_get32(f->data + 2);
	c->over = true;
	pthread_mutex_lock(&c->tx_lock);
	c->running = false;
	pthread_mutex_unlock(&c->tx_lock);
	c->cfg.exited(c->cfg.opaque, &how);
}

static void on_piece(struct channel *c, const struct wire_piece *f)
{
	char text[WIRE_SMALL + 1];

	switch (f->type) {
	case WIRE_HELLO:
		on_hello(c, f);
		break;
	case WIRE_STARTED:
		pthread_mutex_lock(&c->tx_lock);
		c->running = true;
		pthread_mutex_unlock(&c->tx_lock);
		c->cfg.started(c->cfg.opaque);
		break;
	case WIRE_OUT:
	case WIRE_ERR:
		on_output(c, f);
		break;
	case WIRE_COMPLAINT:
		clean(text, sizeof(text), f->data, f->len);
		c->cfg.complaint(c->cfg.opaque, text);
		break;
	case WIRE_TAKEN:
		on_taken(c, f);
		break;
	default:
		on_exit_frame(c, f);
		break;
	}
}

static void read_frames(struct channel *c, const uint8_t *p, size_t n)
{
	struct wire_piece f;
	int rc = 1;

	while (!c->over && (rc = wire_next(&c->reader, &p, &n, &f)) > 0)
		on_piece(c, &f);
	if (rc < 0)
		broken(c, "what came from the guest's init is no frame; did something in the guest write to "
			  "its line?");
}

static bool is_greeting(const uint8_t *g, size_t n)
{
	if (n == 1)
		return g[0] == WIRE_MARK;
	if (n == 2)
		return g[1] == WIRE_HELLO;
	return n <= WIRE_HEAD || g[n - 1] == WIRE_NAME[n - 1 - WIRE_HEAD];
}

/* Skips noise before a HELLO; true: it began, and the rest is for the reader. */
static bool greet(struct channel *c, enum channel_way way, const uint8_t **p, size_t *n)
{
	uint8_t *g = c->greeting[way];
	size_t *have = &c->ngreeting[way];

	while (*n && *have < GREETING) {
		uint8_t byte = *(*p)++;

		(*n)--;
		g[(*have)++] = byte;
		if (is_greeting(g, *have))
			continue;
		g[0] = byte;
		*have = byte == WIRE_MARK;
	}
	return *have == GREETING;
}

void channel_receive(struct channel *c, enum channel_way way, const void *data, size_t len)
{
	const uint8_t *p = data;

	pthread_mutex_lock(&c->rx_lock);
	if (!c->begun && greet(c, way, &p, &len)) {
		c->begun = true;
		c->way = way;
		read_frames(c, c->greeting[way], GREETING);
	}
	if (c->begun && c->way == way)
		read_frames(c, p, len);
	pthread_mutex_unlock(&c->rx_lock);
}

/* --- to the guest --- */

static void put(struct channel *c, enum wire_type type, const void *data, size_t len)
{
	wire_put_head(c->frame, type, len);
	if (data)
		memcpy(c->frame + WIRE_HEAD, data, len);
	c->from = 0;
	c->to = WIRE_HEAD + len;
}

/* With tx_lock held: the next of what is due becomes the frame in hand. */
static bool put_due(struct channel *c)
{
	for (uint8_t sig = 1; c->signals && sig < 64; sig++)
		if (c->signals & UINT64_C(1) << sig) {
			c->signals &= ~(UINT64_C(1) << sig);
			put(c, WIRE_SIGNAL, &sig, 1);
			return true;
		}
	for (uint8_t s = WIRE_STDOUT; s <= WIRE_STDERR; s++) {
		uint8_t taken[WIRE_TAKEN_LEN] = {s};

		if (c->gone & 1u << s) {
			c->gone &= ~(1u << s);
			put(c, WIRE_GONE, &s, 1);
			return true;
		}
		/* Half a window at a time: less, and there is always another half. */
		if (c->taken[s] < WIRE_WINDOW / 2)
			continue;
		wire_put32(taken + 1, c->taken[s]);
		c->used[s] -= c->taken[s];
		c->taken[s] = 0;
		put(c, WIRE_TAKEN, taken, sizeof(taken));
		return true;
	}
	return false;
}

static void watch_input(struct channel *c, bool on)
{
	int rc = 0;

	if (c->watched == on)
		return;
	if (on)
		rc = evloop_add(c->loop, &c->input, EPOLLIN);
	else
		evloop_del(c->loop, &c->input);
	c->watched = on && !rc;
}

/* A regular file is always readable. */
static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

/* Of stdin, if there is a byte and room for it.  True: a frame is in hand. */
static bool put_input(struct channel *c, uint64_t window)
{
	size_t most = window < WIRE_MAX ? (size_t)window : WIRE_MAX;
	ssize_t n;

	if (c->input_ended || !window) {
		watch_input(c, false);
		if (!c->input_ended || c->eof_sent)
			return false;
		c->eof_sent = true;
		put(c, WIRE_IN_EOF, NULL, 0);
		return true;
	}
	if (!readable(c->cfg.input_fd)) {
		watch_input(c, true);
		return false;
	}
	n = read(c->cfg.input_fd, c->frame + WIRE_HEAD, most);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		watch_input(c, true);
		return false;
	}
	if (n <= 0) {
		c->input_ended = true;
		return put_input(c, window);
	}
	pthread_mutex_lock(&c->tx_lock);
	c->window -= (uint64_t)n;
	pthread_mutex_unlock(&c->tx_lock);
	put(c, WIRE_IN, NULL, (size_t)n);
	return true;
}

static void pump(struct channel *c)
{
	for (;;) {
		enum channel_way way;
		uint64_t window;
		bool open, due = true;

		pthread_mutex_lock(&c->tx_lock);
		open = c->open;
		way = c->tx_way;
		window = c->window;
		if (open && c->from == c->to)
			due = put_due(c);
		pthread_mutex_unlock(&c->tx_lock);
		if (!open || (!due && (c->cfg.input_fd < 0 || !put_input(c, window))))
			return;
		c->from += c->cfg.send(c->cfg.opaque, way, c->frame + c->from, c->to - c->from);
		if (c->from < c->to) {
			watch_input(c, false);
			return;
		}
	}
}

static void on_wake(struct ev_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		pump(container_of(w, struct channel, wake));
}

static void on_input(struct ev_watch *w, uint32_t events)
{
	(void)events;
	pump(container_of(w, struct channel, input));
}

void channel_room(struct channel *c)
{
	wake(c);
}

void channel_taken(struct channel *c, enum wire_stream stream, size_t len)
{
	bool due;

	pthread_mutex_lock(&c->tx_lock);
	c->taken[stream] += (uint32_t)len;
	due = c->taken[stream] >= WIRE_WINDOW / 2;
	pthread_mutex_unlock(&c->tx_lock);
	if (due)
		wake(c);
}

void channel_gone(struct channel *c, enum wire_stream stream)
{
	pthread_mutex_lock(&c->tx_lock);
	c->closed |= 1u << stream;
	c->gone = c->closed;
	pthread_mutex_unlock(&c->tx_lock);
	wake(c);
}

bool channel_signal(struct channel *c, int sig)
{
	bool running;

	pthread_mutex_lock(&c->tx_lock);
	running = c->running;
	if (running)
		c->signals |= UINT64_C(1) << sig;
	pthread_mutex_unlock(&c->tx_lock);
	wake(c);
	return running;
}

/* --- */

void channel_restart(struct channel *c)
{
	pthread_mutex_lock(&c->rx_lock);
	pthread_mutex_lock(&c->tx_lock);
	c->reader = (struct wire_reader){.types = WIRE_FROM_INIT};
	memset(c->ngreeting, 0, sizeof(c->ngreeting));
	c->begun = c->greeted = c->over = c->open = c->running = false;
	c->window = c->signals = 0;
	memset(c->used, 0, sizeof(c->used));
	memset(c->taken, 0, sizeof(c->taken));
	c->gone = c->closed;
	c->from = c->to = 0;
	c->eof_sent = false;
	pthread_mutex_unlock(&c->tx_lock);
	pthread_mutex_unlock(&c->rx_lock);
	watch_input(c, false);
}

struct channel *channel_new(const struct channel_config *cfg, struct evloop *loop, struct err *e)
{
	struct channel *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	c->cfg = *cfg;
	c->loop = loop;
	c->reader.types = WIRE_FROM_INIT;
	pthread_mutex_init(&c->rx_lock, NULL);
	pthread_mutex_init(&c->tx_lock, NULL);
	c->wake.fn = on_wake;
	c->input.fn = on_input;
	c->input.fd = cfg->input_fd;
	c->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = c->wake.fd < 0 ? -errno : evloop_add(loop, &c->wake, EPOLLIN);
	if (rc) {
		err_set(e, rc, "the command's channel: %s", strerror(-rc));
		cleanup_fd_(&c->wake.fd);
		free(c);
		return NULL;
	}
	return c;
}

void channel_free(struct channel *c)
{
	if (!c)
		return;
	watch_input(c, false);
	evloop_del(c->loop, &c->wake);
	close(c->wake.fd);
	pthread_mutex_destroy(&c->rx_lock);
	pthread_mutex_destroy(&c->tx_lock);
	free(c);
}
