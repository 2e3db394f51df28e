#include "tests/fake/fake_port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"

static struct fake_port *fake_of(struct net_port *p)
{
	return container_of(p, struct fake_port, port);
}

static void append(struct fake_frames *q, struct fake_frame *frame)
{
	frame->next = NULL;
	*q->tail = frame;
	q->tail = &frame->next;
	q->n++;
}

static struct fake_frame *shift(struct fake_frames *q)
{
	struct fake_frame *frame = q->first;

	if (!frame)
		return NULL;
	q->first = frame->next;
	if (!q->first)
		q->tail = &q->first;
	q->n--;
	return frame;
}

static struct fake_frame *frame_new(size_t len)
{
	struct fake_frame *frame = malloc(sizeof(*frame) + len);

	if (!frame)
		abort();
	frame->len = len;
	return frame;
}

static void on_event(struct ev_watch *w, uint32_t events)
{
	struct fake_port *f = container_of(w, struct fake_port, watch);

	(void)events;
	f->port.readable(f->port.opaque);
}

static void mistake(const char *what)
{
	fprintf(stderr, "a port was misused: %s\n", what);
	abort();
}

static void check(struct fake_port *f, const char *what)
{
	if (!f->loop || !pthread_equal(f->thread, pthread_self()))
		mistake(what);
}

static uint64_t features(struct net_port *p)
{
	return fake_of(p)->features;
}

static int set_features(struct net_port *p, uint64_t accepted, unsigned hdr_len)
{
	struct fake_port *f = fake_of(p);

	f->set_features_calls++;
	if (f->set_features_err)
		return f->set_features_err;
	f->accepted = accepted;
	f->hdr_len = hdr_len;
	return 0;
}

static int attach(struct net_port *p, struct evloop *loop)
{
	struct fake_port *f = fake_of(p);

	if (f->loop)
		mistake("attached twice");
	if (f->attach_err)
		return f->attach_err;
	f->loop = loop;
	f->thread = pthread_self();
	f->enabled = false;
	f->attaches++;
	return evloop_add(loop, &f->watch, 0);
}

static void detach(struct net_port *p)
{
	struct fake_port *f = fake_of(p);

	check(f, __func__);
	if (f->loop)
		evloop_del(f->loop, &f->watch);
	f->loop = NULL;
	f->detaches++;
}

static ssize_t send(struct net_port *p, const struct iovec *iov, int n)
{
	struct fake_port *f = fake_of(p);
	ssize_t len = 0;

	check(f, __func__);
	if (f->send_err)
		return f->send_err;
	if (f->npieces == ARRAY_SIZE(f->piece) || f->niov + (unsigned)n > ARRAY_SIZE(f->iov))
		return -EAGAIN;
	for (int i = 0; i < n; i++) {
		f->iov[f->niov++] = iov[i];
		len += (ssize_t)iov[i].iov_len;
	}
	f->piece[f->npieces++] = (unsigned)n;
	return len;
}

static int commit(struct net_port *p)
{
	struct fake_port *f = fake_of(p);
	const struct iovec *iov = f->iov;

	check(f, __func__);
	if (f->in_commit)
		f->in_commit(f);
	for (unsigned i = 0; i < f->npieces; iov += f->piece[i++]) {
		struct fake_frame *frame;
		size_t len = 0;

		for (unsigned k = 0; k < f->piece[i]; k++)
			len += iov[k].iov_len;
		frame = frame_new(len);
		len = 0;
		for (unsigned k = 0; k < f->piece[i]; k++) {
			memcpy(frame->data + len, iov[k].iov_base, iov[k].iov_len);
			len += iov[k].iov_len;
		}
		pthread_mutex_lock(&f->lock);
		append(&f->sent, frame);
		pthread_mutex_unlock(&f->lock);
	}
	f->npieces = f->niov = 0;
	f->commits++;
	return 0;
}

static ssize_t recv(struct net_port *p, const struct iovec *iov, int n)
{
	struct fake_port *f = fake_of(p);
	struct fake_frame *frame;
	size_t done = 0;
	uint64_t count;

	check(f, __func__);
	f->recvs++;
	if (f->recv_err)
		return f->recv_err;
	pthread_mutex_lock(&f->lock);
	frame = shift(&f->waiting);
	if (!f->waiting.first && read(f->watch.fd, &count, sizeof(count)) < 0)
		count = 0;
	pthread_mutex_unlock(&f->lock);
	if (!frame)
		return -EAGAIN;
	for (int i = 0; i < n && done < frame->len; i++) {
		size_t k = iov[i].iov_len < frame->len - done ? iov[i].iov_len : frame->len - done;

		memcpy(iov[i].iov_base, frame->data + done, k);
		done += k;
	}
	if (done < frame->len)
		mistake("less room for a frame than the contract says");
	free(frame);
	return (ssize_t)done;
}

static void recv_enable(struct net_port *p, bool on)
{
	struct fake_port *f = fake_of(p);

	check(f, __func__);
	f->enabled = on;
	evloop_mod(f->loop, &f->watch, on ? EPOLLIN : 0);
}

static int set_active(struct net_port *p, bool on)
{
	struct fake_port *f = fake_of(p);

	if (f->set_active_err)
		return f->set_active_err;
	f->active = on;
	return 0;
}

static void destroy(struct net_port *p)
{
	fake_of(p)->destroyed = true;
}

static const struct net_port_ops ops = {
	.name = "fake port",
	.features = features,
	.set_features = set_features,
	.attach = attach,
	.detach = detach,
	.send = send,
	.commit = commit,
	.recv = recv,
	.recv_enable = recv_enable,
	.set_active = set_active,
	.destroy = destroy,
};

void fake_port_init(struct fake_port *f)
{
	memset(f, 0, sizeof(*f));
	f->port.ops = &ops;
	f->features = FAKE_PORT_FEATURES;
	f->active = true;
	f->watch = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_event};
	if (f->watch.fd < 0)
		abort();
	pthread_mutex_init(&f->lock, NULL);
	f->waiting.tail = &f->waiting.first;
	f->sent.tail = &f->sent.first;
}

void fake_port_fini(struct fake_port *f)
{
	struct fake_frame *frame;

	while ((frame = shift(&f->waiting)) || (frame = shift(&f->sent)))
		free(frame);
	close(f->watch.fd);
	pthread_mutex_destroy(&f->lock);
}

void fake_port_give(struct fake_port *f, const void *data, size_t len)
{
	struct fake_frame *frame = frame_new(len);

	memcpy(frame->data, data, len);
	pthread_mutex_lock(&f->lock);
	append(&f->waiting, frame);
	eventfd_write(f->watch.fd, 1);
	pthread_mutex_unlock(&f->lock);
}

struct fake_frame *fake_port_take(struct fake_port *f)
{
	struct fake_frame *frame;

	pthread_mutex_lock(&f->lock);
	frame = shift(&f->sent);
	pthread_mutex_unlock(&f->lock);
	return frame;
}

unsigned fake_port_waiting(struct fake_port *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->waiting.n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

void fake_port_end(struct fake_port *f, int err)
{
	f->port.gone(f->port.opaque, err);
}
