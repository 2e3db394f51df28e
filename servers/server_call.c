/* #syscalls[server]: io_uring_setup io_uring_register io_uring_enter mmap munmap close */
#include "servers/server_call.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct server_call {
	struct io_uring ring;
};

int server_call_new(struct server_call **out, int fd)
{
	struct server_call *c = malloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	rc = io_uring_queue_init(1, &c->ring, 0);
	if (rc) {
		free(c);
		return rc;
	}
	rc = io_uring_register_eventfd(&c->ring, fd);
	if (rc) {
		server_call_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void server_call_free(struct server_call *c)
{
	if (!c)
		return;
	io_uring_queue_exit(&c->ring);
	free(c);
}

int server_call_make(void *opaque)
{
	struct server_call *c = opaque;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	int rc;

	if (sqe) /* else the one before has yet to be submitted */
		io_uring_prep_nop(sqe);
	rc = io_uring_submit(&c->ring);
	io_uring_cq_advance(&c->ring, io_uring_cq_ready(&c->ring));
	return rc < 0 ? rc : 0;
}

void server_call_once(int fd)
{
	struct server_call *c;

	if (fd < 0 || server_call_new(&c, fd))
		return;
	server_call_make(c);
	server_call_free(c);
}
