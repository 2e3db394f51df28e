/* Command lines: parsed, refused, printed and parsed again.  Lines begin after COMMAND. */
#ifndef TESTS_UNIT_CONFIG_RIG_H
#define TESTS_UNIT_CONFIG_RIG_H
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_keys.h"
#include "vmm/config_options.h"
#include "vmm/config_values.h"

#ifndef COMMAND
#define COMMAND "ringlet run "
#endif
#define MAX_ARGS 64
#define N(a)     (sizeof(a) / sizeof((a)[0]))

static struct config cfg, again;
static struct err err;
static const struct devices_config *const dev = &cfg.run.dev;

static inline void config_rig_done(void)
{
	config_free(&cfg);
	config_free(&again);
}

/* Takes line apart as a shell would, for spaces and single quotes, in place. */
static inline int unquote(char *line, char *argv[], int max)
{
	char *out = line;
	int argc = 0;

	while (*line) {
		cr_assert_lt(argc, max);
		argv[argc++] = out;
		for (; *line && *line != ' '; line++) {
			if (*line == '\\') {
				*out++ = *++line;
			} else if (*line == '\'') {
				for (line++; *line != '\''; line++) {
					cr_assert(*line, "a quote without its end");
					*out++ = *line;
				}
			} else {
				*out++ = *line;
			}
		}
		if (*line)
			line++;
		*out++ = '\0';
	}
	argv[argc] = NULL;
	return argc;
}

/* The words live until the test ends. */
static inline int parse(const char *line)
{
	static char words[8192];
	static char *argv[MAX_ARGS + 1];
	int argc;

	snprintf(words, sizeof(words), COMMAND "%s", line);
	argc = unquote(words, argv, MAX_ARGS);
	config_free(&cfg);
	memset(&err, 0, sizeof(err));
	return config_parse(&cfg, argc, argv, &err);
}

static inline void takes(const char *line)
{
	cr_assert_eq(parse(line), 0, "%s: %s", line, err.text);
}

/* Refused, and the sentence has every one of the words (ended by NULL) in it. */
static inline void refuses(const char *line, ...)
{
	const char *word;
	va_list ap;

	cr_assert_eq(parse(line), -EINVAL, "\"%s\" is taken", line);
	va_start(ap, line);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(err.text, word), "\"%s\" misses \"%s\" in: %s", line, word, err.text);
	va_end(ap);
}

static inline void expect_default_virtio(const struct virtio_config *v)
{
	cr_expect_eq(v->transport, TRANSPORT_PCI);
	cr_expect(v->transport_set);
	cr_expect_not(v->notify_exit);
	cr_expect_not(v->irq_ioctl);
	cr_expect_not(v->doorbell_pio);
	cr_expect_not(v->packed);
	cr_expect_not(v->in_order);
	cr_expect(v->event_idx);
	cr_expect(v->indirect);
	cr_expect_not(v->all_bits);
	cr_expect_eq(v->queue_size, 0);
	cr_expect_eq(v->npin, 0);
}

static inline void same_text(const char *a, const char *b, const char *line)
{
	cr_assert_eq(!a, !b, "%s", line);
	cr_assert(!a || !strcmp(a, b), "%s: %s is not %s", line, a, b);
}

static inline void same_virtio(const struct virtio_config *a, const struct virtio_config *b, const char *line)
{
	cr_assert_eq(a->transport, b->transport, "%s", line);
	cr_assert(a->transport_set && b->transport_set, "%s", line);
	cr_assert_eq(a->notify_exit, b->notify_exit, "%s", line);
	cr_assert_eq(a->irq_ioctl, b->irq_ioctl, "%s", line);
	cr_assert_eq(a->doorbell_pio, b->doorbell_pio, "%s", line);
	cr_assert_eq(a->packed, b->packed, "%s", line);
	cr_assert_eq(a->in_order, b->in_order, "%s", line);
	cr_assert_eq(a->event_idx, b->event_idx, "%s", line);
	cr_assert_eq(a->indirect, b->indirect, "%s", line);
	cr_assert_eq(a->all_bits, b->all_bits, "%s", line);
	cr_assert_eq(a->queue_size, b->queue_size, "%s", line);
	cr_assert_eq(a->npin, b->npin, "%s", line);
	cr_assert_eq(memcmp(a->pin, b->pin, a->npin * sizeof(a->pin[0])), 0, "%s", line);
}

static inline void same_remote(const struct remote_options *a, const struct remote_options *b, const char *line)
{
	same_text(a->path, b->path, line);
	cr_assert_eq(a->server, b->server, "%s", line);
	cr_assert_eq(a->wait_ms, b->wait_ms, "%s", line);
	cr_assert_eq(a->reconnect_ms, b->reconnect_ms, "%s", line);
}

static inline void same_net(const struct net_options *a, const struct net_options *b, const char *line)
{
	same_virtio(&a->virtio, &b->virtio, line);
	same_remote(&a->remote, &b->remote, line);
	cr_assert_eq(a->kind, b->kind, "%s", line);
	cr_assert_eq(a->vhost, b->vhost, "%s", line);
	cr_assert_eq(a->busy_poll_us, b->busy_poll_us, "%s", line);
	same_text(a->ifname, b->ifname, line);
	cr_assert_eq(a->fd, b->fd, "%s", line);
	cr_assert_eq(a->queues, b->queues, "%s", line);
	cr_assert_eq(a->has_mac, b->has_mac, "%s", line);
	cr_assert_eq(memcmp(a->mac, b->mac, sizeof(a->mac)), 0, "%s", line);
	cr_assert_eq(a->mtu, b->mtu, "%s", line);
	cr_assert_eq(a->rate_bytes, b->rate_bytes, "%s", line);
	cr_assert_eq(a->rate_packets, b->rate_packets, "%s", line);
	cr_assert_eq(a->csum, b->csum, "%s", line);
	cr_assert_eq(a->tso, b->tso, "%s", line);
	cr_assert_eq(a->uso, b->uso, "%s", line);
	cr_assert_eq(a->mrg_rxbuf, b->mrg_rxbuf, "%s", line);
	cr_assert_eq(a->nhostfwd, b->nhostfwd, "%s", line);
	for (unsigned i = 0; i < a->nhostfwd; i++)
		same_text(a->hostfwd[i], b->hostfwd[i], line);
}

static inline void same_disk(const struct disk_options *a, const struct disk_options *b, const char *line)
{
	same_virtio(&a->virtio, &b->virtio, line);
	same_remote(&a->remote, &b->remote, line);
	cr_assert_eq(a->kind, b->kind, "%s", line);
	same_text(a->path, b->path, line);
	cr_assert_eq(a->raw, b->raw, "%s", line);
	cr_assert_eq(a->read_only, b->read_only, "%s", line);
	cr_assert_eq(a->direct, b->direct, "%s", line);
	cr_assert_eq(a->writethrough, b->writethrough, "%s", line);
	cr_assert_eq(a->aio, b->aio, "%s", line);
	cr_assert_eq(a->queues, b->queues, "%s", line);
	same_text(a->serial, b->serial, line);
}

static inline void same_generic(const struct generic_options *a, const struct generic_options *b,
				const char *line)
{
	same_virtio(&a->virtio, &b->virtio, line);
	same_remote(&a->remote, &b->remote, line);
	cr_assert_eq(a->kind, b->kind, "%s", line);
	cr_assert_eq(a->cid, b->cid, "%s", line);
	same_text(a->wwpn, b->wwpn, line);
	same_text(a->tag, b->tag, line);
	cr_assert_eq(a->id, b->id, "%s", line);
	cr_assert_eq(a->queues, b->queues, "%s", line);
	cr_assert_eq(a->config_len, b->config_len, "%s", line);
	cr_assert_eq(memcmp(a->config, b->config, a->config_len), 0, "%s", line);
}

static inline void same_simple(const struct simple_options *a, const struct simple_options *b, const char *line)
{
	cr_assert_eq(a->on, b->on, "%s", line);
	if (a->on)
		same_virtio(&a->virtio, &b->virtio, line);
}

/* cfg printed and parsed again is the same, and so is what that prints. */
static inline void survives_printing(void)
{
	static char line[65536], words[65536], second[65536];
	const struct devices_config *a = &cfg.run.dev, *b = &again.run.dev;
	char *argv[MAX_ARGS + 1];
	int n = config_print_run(&cfg, line, sizeof(line));

	cr_assert_eq(n, (int)strlen(line));
	strcpy(words, line);
	n = unquote(words, argv, MAX_ARGS);
	memset(&err, 0, sizeof(err));
	cr_assert_eq(config_parse(&again, n, argv, &err), 0, "%s: %s", line, err.text);
	cr_assert_eq(a->transport, b->transport, "%s", line);
	cr_assert_eq(a->nnet, b->nnet, "%s", line);
	for (unsigned i = 0; i < a->nnet; i++)
		same_net(&a->net[i], &b->net[i], line);
	cr_assert_eq(a->ndisk, b->ndisk, "%s", line);
	for (unsigned i = 0; i < a->ndisk; i++)
		same_disk(&a->disk[i], &b->disk[i], line);
	cr_assert_eq(a->ngeneric, b->ngeneric, "%s", line);
	for (unsigned i = 0; i < a->ngeneric; i++)
		same_generic(&a->generic[i], &b->generic[i], line);
	same_simple(&a->rng, &b->rng, line);
	same_simple(&a->balloon, &b->balloon, line);
	same_simple(&a->console, &b->console, line);
	cr_assert_eq(a->nport, b->nport, "%s", line);
	for (unsigned i = 0; i < a->nport; i++) {
		same_text(a->port[i].name, b->port[i].name, line);
		same_text(a->port[i].path, b->port[i].path, line);
	}
	config_print_run(&again, second, sizeof(second));
	cr_assert_str_eq(line, second);
	config_free(&again);
}
#endif
