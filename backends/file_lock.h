/* Image locks that QEMU and its tools know: who writes an image is its only user. */
#ifndef BACKENDS_FILE_LOCK_H
#define BACKENDS_FILE_LOCK_H
#include <stdbool.h>

#include "lib/err.h"

/* Locks what is open at fd, or changes the lock that it has.  path is for messages.  0, also where the file
 * system has no such locks.  -EAGAIN: somebody else has it, who is in e (which may be NULL), and fd has none.
 * May wait for half a second. */
int file_lock(int fd, const char *path, bool writer, struct err *e);
void file_unlock(int fd);
#endif
