/* A guest that says anything on the command's line, in any pieces and by both ways.  What must hold: no more
 * output comes than there is room for, one answer or one complaint about the guest at most and nothing after
 * it, and what is sent back is frames. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/channel.h"
#include "vmm/evloop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(cond)                                                                                             \
	do {                                                                                                   \
		if (!(cond)) {                                                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
			__builtin_trap();                                                                      \
		}                                                                                              \
	} while (0)

static size_t waiting[WIRE_STREAMS];
static bool over;
static struct wire_reader reader;

static void on_hello(void *opaque, const char *release)
{
	(void)opaque;
	must(!over && strlen(release) < 65);
}

static void on_started(void *opaque)
{
	(void)opaque;
	must(!over);
}

static void on_output(void *opaque, enum wire_stream stream, const void *data, size_t len)
{
	static volatile uint8_t sum;

	(void)opaque;
	must(!over);
	waiting[stream] += len;
	must(waiting[stream] <= WIRE_WINDOW);
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
}

static void on_complaint(void *opaque, const char *text)
{
	(void)opaque;
	must(!over);
	for (; *text; text++)
		must((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void on_exited(void *opaque, const struct channel_exit *how)
{
	(void)opaque;
	must(!over && how->status >= 0 && how->status <= 255);
	over = true;
}

static void on_broken(void *opaque, const char *why)
{
	(void)opaque;
	must(!over && *why);
	over = true;
}

static size_t on_send(void *opaque, enum channel_way way, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t n = len;
	struct wire_piece f;
	int rc;

	(void)opaque;
	(void)way;
	while ((rc = wire_next(&reader, &p, &n, &f)) > 0)
		;
	must(!rc);
	return len;
}

static void on_stop(struct ev_timer *t)
{
	evloop_quit(t->loop, 0);
}

/* The other end writes out what came. */
static void take(struct channel *c)
{
	for (unsigned s = WIRE_STDOUT; s <= WIRE_STDERR; s++) {
		size_t n = waiting[s];

		waiting[s] = 0;
		channel_taken(c, (enum wire_stream)s, n);
	}
}

/* Each byte of control: how many bytes follow it, and by which way; 0: another event. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct channel_config cfg = {
		.hello = on_hello,
		.started = on_started,
		.output = on_output,
		.complaint = on_complaint,
		.exited = on_exited,
		.broken = on_broken,
		.send = on_send,
		.input_fd = -1,
	};
	struct evloop *loop = evloop_new();
	struct err e = {0};
	struct channel *c = loop ? channel_new(&cfg, loop, &e) : NULL;
	struct ev_timer stop;

	if (!c || ev_timer_init(&stop, loop, on_stop))
		abort();
	over = false;
	memset(waiting, 0, sizeof(waiting));
	reader = (struct wire_reader){.types = WIRE_FROM_VMM};
	while (size) {
		size_t n = *data & 0x7f;
		enum channel_way way = *data & 0x80 ? CHANNEL_SERIAL : CHANNEL_PORT;

		data++;
		size--;
		if (n > size)
			n = size;
		if (!n) {
			channel_gone(c, WIRE_STDERR);
			channel_signal(c, 15);
			take(c);
			continue;
		}
		channel_receive(c, way, data, n);
		data += n;
		size -= n;
	}
	ev_timer_arm(&stop, 1);
	evloop_run(loop);
	channel_free(c);
	ev_timer_fini(&stop);
	evloop_free(loop);
	return 0;
}
