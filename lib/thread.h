/* Threads of ours. */
#ifndef LIB_THREAD_H
#define LIB_THREAD_H
#include <pthread.h>

/* What a thread is for, and with that what it may ask of the kernel once it is confined (lib/confine.h). */
enum thread_kind {
	THREAD_MAIN,
	THREAD_VCPU,
	THREAD_DATA, /* the loop of a device's queues */
	THREAD_DISK, /* does for a data thread what would take it long */
	THREAD_CONSOLE,
	THREAD_SLIRP,   /* a process of its own: the user-mode network */
	THREAD_CONNECT, /* likewise: reaches a back end again */
	THREAD_KINDS
};

/* As pthread_create(), attr may be NULL, with every signal blocked but those of a crash: signals are the main
 * loop's business, and a fault that is blocked where it happens kills the process without a word.
 * 0 or -errno. */
int thread_start(pthread_t *thread, const pthread_attr_t *attr, enum thread_kind kind, void *(*fn)(void *),
		 void *arg);

/* For who starts a thread himself: it is of this kind from here on.  First thing on the thread. */
void thread_begin(enum thread_kind kind);
/* fn is called by each thread that begins from now on, on it. */
void thread_on_begin(void (*fn)(enum thread_kind kind));

const char *thread_kind_name(enum thread_kind kind);
#endif
