/* epoll loop.  A watch is embedded in its owner, so adding one cannot run out of memory and removing
 * one frees nothing.  Everything but evloop_quit() and evloop_call() belongs to the loop's thread (or
 * to whoever set it up, before evloop_run()). */
#ifndef VMM_EVLOOP_H
#define VMM_EVLOOP_H
#include <stdbool.h>
#include <stdint.h>

struct evloop;
struct ev_watch {
	int fd;
	void (*fn)(struct ev_watch *w, uint32_t events); /* EPOLL* bits */
};

struct ev_timer { /* one shot; embeds its timerfd */
	struct ev_watch watch;
	struct evloop *loop;
	void (*fn)(struct ev_timer *t);
};

struct evloop *evloop_new(void); /* NULL: errno */
void evloop_free(struct evloop *l);
int evloop_add(struct evloop *l, struct ev_watch *w, uint32_t events);
int evloop_mod(struct evloop *l, struct ev_watch *w, uint32_t events);
void evloop_del(struct evloop *l, struct ev_watch *w); /* fn is not called afterwards */
int evloop_run(struct evloop *l);                      /* returns evloop_quit's status */
void evloop_quit(struct evloop *l, int status);        /* any thread; the first status stands */
/* Run fn(arg) on the loop's own thread and wait for it; on that thread, or while evloop_run() is not
 * running, just call it. */
void evloop_call(struct evloop *l, void (*fn)(void *arg), void *arg);

int ev_timer_init(struct ev_timer *t, struct evloop *l, void (*fn)(struct ev_timer *t));
void ev_timer_arm(struct ev_timer *t, uint64_t ms); /* any thread; from now; 0 disarms */
void ev_timer_fini(struct ev_timer *t);
#endif
