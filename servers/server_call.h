/* Writes to an eventfd of somebody else's, who may fill it and make its description block, both at any time: a
 * plain write() then never returns, and neither a poll() nor a look at its flags before it is proof against
 * that.  The kernel's own signalling cannot block, and io_uring does that where it completes a request. */
#ifndef SERVERS_SERVER_CALL_H
#define SERVERS_SERVER_CALL_H
struct server_call;

/* fd is borrowed for the call only.  0; -ENOSYS, -EPERM: there is no io_uring; or another -errno. */
int server_call_new(struct server_call **out, int fd);
void server_call_free(struct server_call *c); /* NULL is fine */
/* One thread at a time; one system call.  As datapath_queue.call: opaque is a struct server_call. */
int server_call_make(void *opaque);
/* All of that, once.  Nothing where it cannot be. */
void server_call_once(int fd);
#endif
