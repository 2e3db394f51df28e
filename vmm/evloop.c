/* #syscalls[main,vcpu,data]: epoll_wait epoll_pwait epoll_pwait2 epoll_ctl epoll_create1 eventfd2
 * timerfd_create timerfd_settime */
#include "vmm/evloop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/cleanup.h"

#define BATCH 16

struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct call *next;
};

struct evloop {
	int epfd;
	struct ev_watch wake; /* eventfd: a call was queued, or quit */
	pthread_mutex_t lock;
	pthread_cond_t called;
	struct call *calls;
	bool running, quit;
	int status;
	pthread_t thread;
	struct epoll_event pending[BATCH]; /* what epoll_wait gave; evloop_del() strikes out */
	int npending;
};

static void on_wake(struct ev_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0) /* another wake-up took it */
		return;
}

struct evloop *evloop_new(void)
{
	struct evloop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->wake.fn = on_wake;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->called, NULL);
	if (l->epfd < 0 || l->wake.fd < 0 || evloop_add(l, &l->wake, EPOLLIN)) {
		evloop_free(l);
		return NULL;
	}
	return l;
}

void evloop_free(struct evloop *l)
{
	if (!l)
		return;
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->wake.fd >= 0)
		close(l->wake.fd);
	pthread_cond_destroy(&l->called);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static int control(struct evloop *l, int op, struct ev_watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	return epoll_ctl(l->epfd, op, w->fd, &ev) ? -errno : 0;
}

int evloop_add(struct evloop *l, struct ev_watch *w, uint32_t events)
{
	return control(l, EPOLL_CTL_ADD, w, events);
}

int evloop_mod(struct evloop *l, struct ev_watch *w, uint32_t events)
{
	return control(l, EPOLL_CTL_MOD, w, events);
}

void evloop_del(struct evloop *l, struct ev_watch *w)
{
	control(l, EPOLL_CTL_DEL, w, 0);
	for (int i = 0; i < l->npending; i++)
		if (l->pending[i].data.ptr == w)
			l->pending[i].data.ptr = NULL;
}

/* With l->lock held. */
static void run_calls(struct evloop *l)
{
	while (l->calls) {
		struct call *c = l->calls;

		l->calls = c->next;
		pthread_mutex_unlock(&l->lock);
		c->fn(c->arg);
		pthread_mutex_lock(&l->lock);
		c->done = true;
		pthread_cond_broadcast(&l->called);
	}
}

int evloop_run(struct evloop *l)
{
	int status;

	pthread_mutex_lock(&l->lock);
	l->thread = pthread_self();
	l->running = true;
	for (;;) {
		run_calls(l);
		if (l->quit)
			break;
		pthread_mutex_unlock(&l->lock);
		l->npending = epoll_wait(l->epfd, l->pending, BATCH, -1);
		for (int i = 0; i < l->npending; i++) {
			struct ev_watch *w = l->pending[i].data.ptr;

			if (w)
				w->fn(w, l->pending[i].events);
		}
		l->npending = 0;
		pthread_mutex_lock(&l->lock);
	}
	l->running = false;
	l->quit = false;
	status = l->status;
	pthread_mutex_unlock(&l->lock);
	return status;
}

static void wake(struct evloop *l)
{
	const uint64_t one = 1;

	if (write(l->wake.fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
		return;
}

void evloop_quit(struct evloop *l, int status)
{
	pthread_mutex_lock(&l->lock);
	if (!l->quit)
		l->status = status;
	l->quit = true;
	pthread_mutex_unlock(&l->lock);
	wake(l);
}

void evloop_call(struct evloop *l, void (*fn)(void *arg), void *arg)
{
	struct call c = {.fn = fn, .arg = arg}, **tail;

	pthread_mutex_lock(&l->lock);
	if (!l->running || pthread_equal(l->thread, pthread_self())) {
		pthread_mutex_unlock(&l->lock);
		fn(arg);
		return;
	}
	for (tail = &l->calls; *tail; tail = &(*tail)->next)
		;
	*tail = &c;
	wake(l);
	while (!c.done)
		pthread_cond_wait(&l->called, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

static void on_timer(struct ev_watch *w, uint32_t events)
{
	struct ev_timer *t = container_of(w, struct ev_timer, watch);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n)) /* else it was disarmed meanwhile */
		t->fn(t);
}

int ev_timer_init(struct ev_timer *t, struct evloop *l, void (*fn)(struct ev_timer *t))
{
	int rc;

	t->loop = l;
	t->fn = fn;
	t->watch.fn = on_timer;
	t->watch.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (t->watch.fd < 0)
		return -errno;
	rc = evloop_add(l, &t->watch, EPOLLIN);
	if (rc) {
		close(t->watch.fd);
		t->watch.fd = -1;
	}
	return rc;
}

void ev_timer_arm(struct ev_timer *t, uint64_t ms)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
	};

	timerfd_settime(t->watch.fd, 0, &when, NULL);
}

void ev_timer_fini(struct ev_timer *t)
{
	if (t->watch.fd < 0)
		return;
	evloop_del(t->loop, &t->watch);
	close(t->watch.fd);
	t->watch.fd = -1;
}
