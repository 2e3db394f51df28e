/* A vhost-user datapath from within.
 *
 * Theory of operation.  The core starts and stops queues; the back end comes and goes.  What the core wants is
 * in `wanted` and `queue[]`, what the back end has been told of in `up`, and each of the two sides can change
 * while the other stands still.  All of it belongs to `lock`.  Start, stop and everything the socket brings run
 * on the loop's thread; net's pairs are switched, and the configuration space is written, on others.  Those
 * talk to the back end with the lock held but leave the socket's end to the loop: they shut it down, and the
 * loop sees that. */
#ifndef BACKENDS_VHOST_USER_STATE_H
#define BACKENDS_VHOST_USER_STATE_H
#include <pthread.h>

#include "backends/vhost_user.h"
#include "backends/vhost_user_conn.h"
#include "backends/vhost_user_inflight.h"
#include "vmm/evloop.h"

enum vhost_user_link {
	VHOST_USER_AWAY,
	VHOST_USER_GREETING, /* it has been asked for its features; it may be frozen, so nobody waits */
	VHOST_USER_UP,
};

struct vhost_user {
	struct datapath dp;
	_Atomic unsigned refs; /* the datapath and its ports */

	/* As they were made. */
	char *name, *path;
	bool server, net;
	unsigned reconnect_ms, reply_ms;
	uint16_t mtu;
	struct evloop *loop;
	struct vhost_user_wish wish;
	uint64_t features, opinion; /* offered */
	bool untried;               /* config.must_serve, and no start() has succeeded */
	unsigned nqueues;           /* for the device */
	unsigned max_queues;        /* offered */
	bool can_enable;            /* it had bit 30, so pairs can be switched */
	size_t config_len;
	int listen_fd;
	int again_fd; /* of the process that connects for us (vhost_user_again.h), or -1 */ /* or -1 */

	pthread_mutex_t lock;
	enum vhost_user_link link;
	struct vhost_user_conn conn;
	struct ev_watch conn_watch, channel_watch, listen_watch;
	bool channel_watched, listening;
	struct ev_timer retry, work;
	struct ev_watch leave_watch; /* fd: our end of a connection to one that lingers, or -1 */
	struct ev_timer leave_grace;
	_Atomic bool lingers;
	struct guest_mem shared; /* as told on this connection; nregions 0: nothing yet */
	struct vhost_user_inflight inflight;
	unsigned returns;

	/* Of the driver's present life. */
	const struct guest_mem *mem;
	uint64_t accepted;
	uint64_t wanted; /* queues the core has started, bit per queue */
	uint64_t up;     /* ... of which the back end has heard */
	uint64_t fresh;  /* ... of which none has yet: queue[].next holds */
	uint64_t taken;  /* requests may have ended with a back end */
	uint64_t active; /* net: switched on */
	bool failed;     /* events->failed was called */
	struct datapath_queue queue[VHOST_USER_MAX_QUEUES];

	/* To be told on the loop's thread with the lock released. */
	bool tell_config, tell_failed, tell_let_go;
	int failed_err;

	pthread_mutex_t config_lock; /* innermost */
	uint8_t config[VHOST_USER_MAX_CONFIG];
};

static inline struct vhost_user *vhost_user_of(struct datapath *dp)
{
	return (struct vhost_user *)(void *)dp; /* its first member */
}

/* On the loop's thread: unlocks, then tells what is to be told. */
void vhost_user_unlock(struct vhost_user *v);
/* On others. */
void vhost_user_unlock_elsewhere(struct vhost_user *v);
void vhost_user_unref(struct vhost_user *v);

/* What follows needs the lock. */

/* The core's start() and stop(). */
int vhost_user_start(struct datapath *dp, const struct datapath_setup *setup);
void vhost_user_stop(struct datapath *dp, const struct datapath_setup *setup);
/* Makes the back end serve these of the wanted queues, from queue[].next on: all or none.  Errors as of
 * requests. */
int vhost_user_queues_up(struct vhost_user *v, uint64_t queues);
/* Can this back end do what the driver has accepted?  0, or -EOPNOTSUPP after a line in the log. */
int vhost_user_suits(struct vhost_user *v, uint64_t queues);

/* On the loop's thread: the handshake was made before, the loop is to watch from here on. */
int vhost_user_link_attach(struct vhost_user *v);
void vhost_user_link_detach(struct vhost_user *v);
/* The connection is of no more use: closes it, judges what the queues have lost, tries again where that is
 * wanted.  rc: why. */
void vhost_user_link_lost(struct vhost_user *v, int rc);
/* Disconnects and waits, up to a reply's time, until the back end is there again: what it did has ended. */
void vhost_user_link_renew(struct vhost_user *v);
/* vhost_user_leave.c: on the loop's thread. */
int vhost_user_leave_init(struct vhost_user *v);
void vhost_user_leave_fini(struct vhost_user *v);
/* Takes the connection from v->conn and hangs up.  Its back end has heard of queues and may be in the midst of
 * them; that is so until it closes its own end, which is waited for up to `wait_ms`.  False: it has.  True: it
 * lingers, and a line in the log says so. */
bool vhost_user_leave(struct vhost_user *v, unsigned wait_ms);
/* Tries again to reach a back end, where that is wanted and nobody lingers. */
void vhost_user_link_retry(struct vhost_user *v);
/* "it gave no reply to GET_CONFIG in 5000 ms" */
const char *vhost_user_why(const struct vhost_user_conn *c, int rc, char *buf, size_t len);
/* Fetches the configuration space anew; true if it is another. */
bool vhost_user_config_refresh(struct vhost_user *v);
#endif
