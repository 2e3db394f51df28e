/* A thread whose whole life is an event loop: queues are walked on one, so is what may block a peer. */
#ifndef VMM_LOOP_THREAD_H
#define VMM_LOOP_THREAD_H
#include <pthread.h>
#include <semaphore.h>

#include "lib/err.h"
#include "vmm/evloop.h"

struct loop_thread {
	struct evloop *loop; /* NULL while there is no thread */
	pthread_t thread;
	char name[16];
	sem_t running;
	struct ev_watch first;
};

/* Returns when the loop runs, so that evloop_call() is made on its thread from then on.  name is cut to 15
 * bytes; cpu: the host CPU it stays on, -1 for any.  All signals are blocked in it.  0, or -errno with a
 * sentence in e and t->loop NULL. */
int loop_thread_start(struct loop_thread *t, const char *name, int cpu, struct err *e);
/* Calls that wait are made first.  Not from the thread itself.  Nothing where there is no thread. */
void loop_thread_stop(struct loop_thread *t);
#endif
