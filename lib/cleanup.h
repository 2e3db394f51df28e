/* Resources that go with their scope, for functions where one owner holds them. */
#ifndef LIB_CLEANUP_H
#define LIB_CLEANUP_H
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd_(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

#define CLEANUP_FD   __attribute__((cleanup(cleanup_fd_)))
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_)))

/* The caller takes the fd over; the scope lets go. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#endif
