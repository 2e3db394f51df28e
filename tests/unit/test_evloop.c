/* The event loop: watches that change under it, calls, quit and timers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/evloop.h"

static struct evloop *l;

static void setup(void)
{
	l = evloop_new();
	cr_assert(l);
}

static void teardown(void)
{
	evloop_free(l);
}

TestSuite(evloop, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct source {
	struct ev_watch watch;
	unsigned calls;
	uint32_t events;
};

static void signal_source(struct source *s)
{
	const uint64_t one = 1;

	cr_assert_eq(write(s->watch.fd, &one, sizeof(one)), sizeof(one));
}

static void quiet_source(struct source *s)
{
	uint64_t n;

	cr_assert_eq(read(s->watch.fd, &n, sizeof(n)), sizeof(n));
}

static struct source source(void (*fn)(struct ev_watch *w, uint32_t events))
{
	struct source s = {.watch = {.fn = fn, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}};

	cr_assert_geq(s.watch.fd, 0);
	return s;
}

static void on_source_quit(struct ev_watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);

	s->calls++;
	s->events = events;
	quiet_source(s);
	evloop_quit(l, 7);
}

Test(evloop, runs_a_handler)
{
	struct source s = source(on_source_quit);

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	cr_expect_eq(evloop_run(l), 7);
	cr_expect_eq(s.calls, 1);
	cr_expect_eq(s.events, EPOLLIN);
	close(s.watch.fd);
}

Test(evloop, same_descriptor_twice_is_refused)
{
	struct source s = source(on_source_quit);

	cr_expect_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	cr_expect_eq(evloop_add(l, &s.watch, EPOLLIN), -EEXIST);
	close(s.watch.fd);
}

Test(evloop, closed_descriptor_is_refused)
{
	struct ev_watch w = {.fd = -1};

	cr_expect_eq(evloop_add(l, &w, EPOLLIN), -EBADF);
	cr_expect_eq(evloop_mod(l, &w, EPOLLIN), -EBADF);
	evloop_del(l, &w);
}

/* --- quit --- */

Test(evloop, quit_before_run)
{
	evloop_quit(l, 3);
	cr_expect_eq(evloop_run(l), 3);
}

Test(evloop, first_status_stands)
{
	evloop_quit(l, 1);
	evloop_quit(l, 2);
	cr_expect_eq(evloop_run(l), 1);
}

Test(evloop, runs_again_after_quit)
{
	struct source s = source(on_source_quit);

	evloop_quit(l, 1);
	cr_expect_eq(evloop_run(l), 1);
	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	cr_expect_eq(evloop_run(l), 7);
	close(s.watch.fd);
}

static void *quit_soon(void *arg)
{
	usleep(20000);
	evloop_quit(arg, 42);
	return NULL;
}

Test(evloop, quit_from_another_thread)
{
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, quit_soon, l), 0);
	cr_expect_eq(evloop_run(l), 42);
	pthread_join(t, NULL);
}

static void *quit_now(void *arg)
{
	evloop_quit(arg, 42);
	return NULL;
}

Test(evloop, quit_is_never_missed)
{
	for (unsigned i = 0; i < 2000; i++) {
		pthread_t t;

		cr_assert_eq(pthread_create(&t, NULL, quit_now, l), 0);
		cr_assert_eq(evloop_run(l), 42);
		pthread_join(t, NULL);
	}
}

/* --- watches that change --- */

#define NPENDING 8

static struct source batch[NPENDING];
static unsigned batch_calls;

static void on_batch(struct ev_watch *w, uint32_t events)
{
	(void)events;
	batch_calls++;
	/* The first one to run takes all the others away; they are pending in the same batch. */
	for (unsigned i = 0; i < NPENDING; i++)
		if (&batch[i].watch != w)
			evloop_del(l, &batch[i].watch);
	evloop_quit(l, 0);
}

Test(evloop, a_deleted_watch_that_is_pending_is_not_called)
{
	for (unsigned i = 0; i < NPENDING; i++) {
		batch[i] = source(on_batch);
		cr_assert_eq(evloop_add(l, &batch[i].watch, EPOLLIN), 0);
		signal_source(&batch[i]);
	}
	evloop_run(l);
	cr_expect_eq(batch_calls, 1);
	for (unsigned i = 0; i < NPENDING; i++)
		close(batch[i].watch.fd);
}

static struct source *heap[2];

static void on_free_other(struct ev_watch *w, uint32_t events)
{
	unsigned me = w == &heap[1]->watch;

	(void)events;
	batch_calls++;
	evloop_del(l, &heap[!me]->watch);
	close(heap[!me]->watch.fd);
	free(heap[!me]);
	heap[!me] = NULL;
	evloop_quit(l, 0);
}

Test(evloop, a_pending_watch_may_be_freed)
{
	for (unsigned i = 0; i < 2; i++) {
		heap[i] = malloc(sizeof(*heap[i]));
		*heap[i] = source(on_free_other);
		cr_assert_eq(evloop_add(l, &heap[i]->watch, EPOLLIN), 0);
		signal_source(heap[i]);
	}
	evloop_run(l);
	cr_expect_eq(batch_calls, 1);
	for (unsigned i = 0; i < 2; i++)
		if (heap[i]) {
			close(heap[i]->watch.fd);
			free(heap[i]);
		}
}

static void on_del_self(struct ev_watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);

	(void)events;
	s->calls++;
	evloop_del(l, w); /* still readable: level-triggered, it would come again */
	close(w->fd);
	w->fd = -1;
}

static void on_second(struct ev_timer *t)
{
	(void)t;
	evloop_quit(l, 0);
}

Test(evloop, a_watch_deletes_itself)
{
	struct source s = source(on_del_self);
	struct ev_timer t;

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	cr_assert_eq(ev_timer_init(&t, l, on_second), 0);
	signal_source(&s);
	ev_timer_arm(&t, 50);
	evloop_run(l);
	cr_expect_eq(s.calls, 1);
	ev_timer_fini(&t);
}

static void on_readd(struct ev_watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);

	(void)events;
	evloop_del(l, w);
	cr_expect_eq(evloop_add(l, w, EPOLLIN), 0);
	if (++s->calls == 3)
		evloop_quit(l, 0);
}

Test(evloop, deleted_and_added_again_inside_its_handler)
{
	struct source s = source(on_readd);

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	evloop_run(l);
	cr_expect_eq(s.calls, 3);
	close(s.watch.fd);
}

static struct source late;

static void on_add_other(struct ev_watch *w, uint32_t events)
{
	(void)events;
	quiet_source(container_of(w, struct source, watch));
	late = source(on_source_quit);
	signal_source(&late);
	cr_expect_eq(evloop_add(l, &late.watch, EPOLLIN), 0);
}

Test(evloop, a_watch_added_inside_a_handler)
{
	struct source s = source(on_add_other);

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	cr_expect_eq(evloop_run(l), 7);
	close(s.watch.fd);
	close(late.watch.fd);
}

static void on_modify(struct ev_watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);

	s->calls++;
	s->events |= events;
	if (s->calls == 1)
		cr_expect_eq(evloop_mod(l, w, EPOLLOUT), 0);
	else
		evloop_quit(l, 0);
}

Test(evloop, events_changed_inside_a_handler)
{
	struct source s = source(on_modify);

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	evloop_run(l);
	cr_expect_eq(s.calls, 2);
	cr_expect_eq(s.events, EPOLLIN | EPOLLOUT);
	close(s.watch.fd);
}

Test(evloop, more_watches_than_a_batch)
{
	static struct source s[100];
	unsigned done = 0;

	for (size_t i = 0; i < ARRAY_SIZE(s); i++) {
		s[i] = source(on_source_quit);
		cr_assert_eq(evloop_add(l, &s[i].watch, EPOLLIN), 0);
		signal_source(&s[i]);
	}
	while (done < ARRAY_SIZE(s)) {
		evloop_run(l);
		done = 0;
		for (size_t i = 0; i < ARRAY_SIZE(s); i++)
			done += s[i].calls;
	}
	for (size_t i = 0; i < ARRAY_SIZE(s); i++) {
		cr_expect_eq(s[i].calls, 1);
		close(s[i].watch.fd);
	}
}

/* --- calls --- */

struct on_thread {
	pthread_t thread;
	unsigned calls;
};

static void note_thread(void *arg)
{
	struct on_thread *o = arg;

	o->thread = pthread_self();
	o->calls++;
}

Test(evloop, call_before_run_is_made_at_once)
{
	struct on_thread o = {0};

	evloop_call(l, note_thread, &o);
	cr_expect_eq(o.calls, 1);
	cr_expect(pthread_equal(o.thread, pthread_self()));
}

Test(evloop, call_after_run_is_made_at_once)
{
	struct on_thread o = {0};

	evloop_quit(l, 0);
	evloop_run(l);
	evloop_call(l, note_thread, &o);
	cr_expect_eq(o.calls, 1);
}

static void on_call_self(struct ev_watch *w, uint32_t events)
{
	struct on_thread o = {0};

	(void)w;
	(void)events;
	evloop_call(l, note_thread, &o);
	cr_expect_eq(o.calls, 1);
	evloop_quit(l, 0);
}

Test(evloop, call_from_the_loops_own_thread)
{
	struct source s = source(on_call_self);

	cr_assert_eq(evloop_add(l, &s.watch, EPOLLIN), 0);
	signal_source(&s);
	evloop_run(l);
	close(s.watch.fd);
}

struct caller {
	pthread_t main;
	unsigned n;
	_Atomic unsigned made;
	_Atomic bool started;
};

static void one_call(void *arg)
{
	struct caller *c = arg;

	cr_assert(pthread_equal(pthread_self(), c->main));
	c->made++;
}

static void note_started(struct ev_timer *t)
{
	(void)t;
}

static void *call_often(void *arg)
{
	struct caller *c = arg;

	usleep(10000); /* the loop runs by then */
	for (unsigned i = 1; i <= c->n; i++) {
		evloop_call(l, one_call, c);
		cr_assert_eq(c->made, i, "returned before it was made");
	}
	evloop_quit(l, 0);
	return NULL;
}

Test(evloop, call_from_another_thread)
{
	struct caller c = {.main = pthread_self(), .n = 5000};
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, call_often, &c), 0);
	evloop_run(l);
	pthread_join(t, NULL);
	cr_expect_eq(c.made, c.n);
}

static void nested(void *arg)
{
	evloop_call(l, note_thread, arg);
}

static void *call_nested(void *arg)
{
	usleep(10000);
	evloop_call(l, nested, arg);
	evloop_quit(l, 0);
	return NULL;
}

Test(evloop, call_inside_a_call)
{
	struct on_thread o = {0};
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, call_nested, &o), 0);
	evloop_run(l);
	pthread_join(t, NULL);
	cr_expect_eq(o.calls, 1);
	cr_expect(pthread_equal(o.thread, pthread_self()));
}

static void count_call(void *arg)
{
	(*(_Atomic unsigned *)arg)++;
}

static _Atomic unsigned ncalls;

static void *call_while_it_ends(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 20; i++)
		evloop_call(l, count_call, &ncalls);
	return NULL;
}

/* Whoever calls while the loop comes or goes must neither hang nor be forgotten. */
Test(evloop, calls_are_not_lost_when_the_loop_ends)
{
	enum { ROUNDS = 300, THREADS = 3 };

	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_t t[THREADS], q;

		for (unsigned j = 0; j < THREADS; j++)
			cr_assert_eq(pthread_create(&t[j], NULL, call_while_it_ends, NULL), 0);
		cr_assert_eq(pthread_create(&q, NULL, quit_now, l), 0);
		evloop_run(l);
		pthread_join(q, NULL);
		for (unsigned j = 0; j < THREADS; j++)
			pthread_join(t[j], NULL);
	}
	cr_expect_eq(ncalls, ROUNDS * THREADS * 20);
}

static struct source victim;
static _Atomic bool victim_gone;

static void on_victim(struct ev_watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	cr_assert(!victim_gone, "called after evloop_del()");
}

static void delete_victim(void *arg)
{
	(void)arg;
	evloop_del(l, &victim.watch);
	victim_gone = true;
}

static void *delete_by_call(void *arg)
{
	usleep(10000);
	evloop_call(l, delete_victim, NULL);
	usleep(10000);
	evloop_quit(l, 0);
	return arg;
}

Test(evloop, a_call_deletes_a_busy_watch)
{
	pthread_t t;

	victim = source(on_victim);
	signal_source(&victim); /* and is never read: ready all the time */
	cr_assert_eq(evloop_add(l, &victim.watch, EPOLLIN), 0);
	cr_assert_eq(pthread_create(&t, NULL, delete_by_call, NULL), 0);
	evloop_run(l);
	pthread_join(t, NULL);
	close(victim.watch.fd);
}

/* --- timers --- */

struct counted {
	struct ev_timer timer;
	_Atomic unsigned fired;
};

static void on_counted(struct ev_timer *t)
{
	container_of(t, struct counted, timer)->fired++;
}

static void stop_after(struct ev_timer *t, uint64_t ms)
{
	cr_assert_eq(ev_timer_init(t, l, on_second), 0);
	ev_timer_arm(t, ms);
}

Test(evloop, timer_fires_once_and_not_early)
{
	struct counted c = {0};
	struct ev_timer stop;
	uint64_t began = now_ms();

	cr_assert_eq(ev_timer_init(&c.timer, l, on_counted), 0);
	ev_timer_arm(&c.timer, 30);
	stop_after(&stop, 150);
	evloop_run(l);
	cr_expect_eq(c.fired, 1);
	cr_expect_geq(now_ms() - began, 149);
	ev_timer_fini(&c.timer);
	ev_timer_fini(&stop);
}

Test(evloop, timer_disarmed)
{
	struct counted c = {0};
	struct ev_timer stop;

	cr_assert_eq(ev_timer_init(&c.timer, l, on_counted), 0);
	ev_timer_arm(&c.timer, 10);
	ev_timer_arm(&c.timer, 0);
	stop_after(&stop, 60);
	evloop_run(l);
	cr_expect_eq(c.fired, 0);
	ev_timer_fini(&c.timer);
	ev_timer_fini(&stop);
}

Test(evloop, timer_disarmed_after_it_expired)
{
	struct counted c = {0};
	struct ev_timer stop;

	cr_assert_eq(ev_timer_init(&c.timer, l, on_counted), 0);
	ev_timer_arm(&c.timer, 1);
	usleep(20000);
	ev_timer_arm(&c.timer, 0);
	stop_after(&stop, 60);
	evloop_run(l);
	cr_expect_eq(c.fired, 0);
	ev_timer_fini(&c.timer);
	ev_timer_fini(&stop);
}

static struct counted pair[2];

static void on_pair(struct ev_timer *t)
{
	struct counted *c = container_of(t, struct counted, timer);

	c->fired++;
	ev_timer_arm(&pair[c == &pair[0]].timer, 0);
}

/* The other one is in the same batch, expired and reported. */
Test(evloop, timer_disarmed_while_it_is_pending)
{
	struct ev_timer stop;

	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(ev_timer_init(&pair[i].timer, l, on_pair), 0);
		ev_timer_arm(&pair[i].timer, 1);
	}
	usleep(20000);
	stop_after(&stop, 60);
	evloop_run(l);
	cr_expect_eq(pair[0].fired + pair[1].fired, 1);
	for (unsigned i = 0; i < 2; i++)
		ev_timer_fini(&pair[i].timer);
	ev_timer_fini(&stop);
}

Test(evloop, timer_begins_anew_when_armed_again)
{
	struct counted c = {0};
	struct ev_timer stop;

	cr_assert_eq(ev_timer_init(&c.timer, l, on_counted), 0);
	ev_timer_arm(&c.timer, 1);
	usleep(20000);
	ev_timer_arm(&c.timer, 10000);
	stop_after(&stop, 60);
	evloop_run(l);
	cr_expect_eq(c.fired, 0);
	ev_timer_fini(&c.timer);
	ev_timer_fini(&stop);
}

Test(evloop, timer_takes_a_long_time)
{
	struct counted c = {0};
	struct ev_timer stop;

	cr_assert_eq(ev_timer_init(&c.timer, l, on_counted), 0);
	ev_timer_arm(&c.timer, INT64_MAX / 1000000); /* the longest --timeout there is */
	stop_after(&stop, 30);
	evloop_run(l);
	cr_expect_eq(c.fired, 0);
	ev_timer_fini(&c.timer);
	ev_timer_fini(&stop);
}

static void on_free_self(struct ev_timer *t)
{
	ev_timer_fini(t);
	free(t);
	evloop_quit(l, 0);
}

Test(evloop, timer_may_free_itself)
{
	struct ev_timer *t = malloc(sizeof(*t));

	cr_assert_eq(ev_timer_init(t, l, on_free_self), 0);
	ev_timer_arm(t, 1);
	evloop_run(l);
}

Test(evloop, timer_ended_twice)
{
	struct ev_timer t;

	cr_assert_eq(ev_timer_init(&t, l, note_started), 0);
	ev_timer_fini(&t);
	ev_timer_fini(&t);
}

static struct counted shared;
static _Atomic bool arming_ends;

static void *arm_often(void *arg)
{
	(void)arg;
	while (!arming_ends) {
		ev_timer_arm(&shared.timer, 1);
		sched_yield();
		ev_timer_arm(&shared.timer, 0);
	}
	return NULL;
}

Test(evloop, timer_armed_and_disarmed_by_other_threads)
{
	pthread_t t[3];
	struct ev_timer stop;
	unsigned before;

	cr_assert_eq(ev_timer_init(&shared.timer, l, on_counted), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		cr_assert_eq(pthread_create(&t[i], NULL, arm_often, NULL), 0);
	stop_after(&stop, 200);
	evloop_run(l);
	arming_ends = true;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	ev_timer_arm(&shared.timer, 1);
	before = shared.fired;
	ev_timer_arm(&stop, 100);
	evloop_run(l);
	cr_expect_eq(shared.fired, before + 1, "the last one is not lost");
	ev_timer_fini(&shared.timer);
	ev_timer_fini(&stop);
}

/* --- what it leaves behind --- */

Test(evloop, leaves_no_descriptor_open)
{
	int before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 100; i++) {
		struct evloop *other = evloop_new();
		struct ev_timer t;

		cr_assert(other);
		cr_assert_eq(ev_timer_init(&t, other, note_started), 0);
		ev_timer_fini(&t);
		evloop_free(other);
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}

Test(evloop, free_of_nothing)
{
	evloop_free(NULL);
}
