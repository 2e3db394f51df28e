/* Threads of ours. */
#ifndef LIB_THREAD_H
#define LIB_THREAD_H
#include <pthread.h>

/* As pthread_create(), attr may be NULL, with every signal blocked but those of a crash: signals are the main
 * loop's business, and a fault that is blocked where it happens kills the process without a word.
 * 0 or -errno. */
int thread_start(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
#endif
