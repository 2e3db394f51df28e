/* Mappings of files that others may shorten.  Where one is touched beyond its file's end, which would kill this
 * process and with it the service of everybody else, it turns into zeroes of our own, and its owner is told. */
#ifndef SERVERS_SERVER_GUARD_H
#define SERVERS_SERVER_GUARD_H
#include <stdbool.h>
#include <stddef.h>

/* From here on [addr, addr + len), whole pages of its mapping, is guarded; lost_fd, an eventfd that outlives
 * that, is written when it turns into zeroes.  Any thread.  A number for server_guard_remove(), or -ENOSPC. */
int server_guard_add(void *addr, size_t len, int lost_fd);
/* A thread that may touch guarded mappings, and has signals blocked: not this one. */
void server_guard_thread(void);
/* Nobody touches the mapping any more.  True: it was lost. */
bool server_guard_remove(int guard);
#endif
