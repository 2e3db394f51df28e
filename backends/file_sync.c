/* #syscalls[data]: eventfd2 epoll_ctl
 *
 * Theory of operation: a lane does in commit() what needs no waiting (page cache, tmpfs) and hands the rest
 * to its one helper thread, which is made when the first such request comes.  The helper puts what it has
 * done on a list and writes the eventfd when that list was empty, so the loop wakes up once a batch. */
#include "backends/file_sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "lib/cleanup.h"
#include "lib/thread.h"
#include "vmm/evloop.h"

struct list {
	struct disk_req *head, **tail;
};

struct disk_lane {
	struct file_disk *f;
	struct evloop *loop;
	struct disk_client client;
	struct ev_watch watch; /* eventfd, edge-triggered and never read: each write is an edge */
	struct list queued;    /* submitted and not committed */
	unsigned helped;       /* with the helper, or done and not yet told */
	bool running;          /* inside run(): done()s and what they submit */
	bool has_thread;
	pthread_t thread;
	void *bounce; /* the helper's */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work, finished;
	struct list todo, done; /* in done, progress is the result */
	bool quit;
};

static void list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_add(struct list *l, struct disk_req *r)
{
	r->next = NULL;
	*l->tail = r;
	l->tail = &r->next;
}

static struct disk_req *list_take(struct list *l)
{
	struct disk_req *r = l->head;

	if (r) {
		l->head = r->next;
		if (!l->head)
			l->tail = &l->head;
	}
	return r;
}

static void *helper(void *arg)
{
	struct disk_lane *l = arg;
	const uint64_t one = 1;
	struct disk_req *r;

	pthread_mutex_lock(&l->lock);
	for (;;) {
		while (!(r = list_take(&l->todo)) && !l->quit)
			pthread_cond_wait(&l->work, &l->lock);
		if (!r)
			break;
		pthread_mutex_unlock(&l->lock);
		r->progress = (uint64_t)(int64_t)file_disk_do(l->f, r, l->bounce);
		pthread_mutex_lock(&l->lock);
		if (!l->done.head && write(l->watch.fd, &one, sizeof(one)) < 0) /* full: it is awake */
			errno = 0;
		list_add(&l->done, r);
		pthread_cond_signal(&l->finished);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int start_helper(struct disk_lane *l)
{
	int rc;

	if (l->has_thread)
		return 0;
	if (l->f->direct && !l->bounce && posix_memalign(&l->bounce, 4096, FILE_BOUNCE))
		return -ENOMEM;
	rc = thread_start(&l->thread, NULL, THREAD_DISK, helper, l);
	l->has_thread = !rc;
	return rc;
}

static void count(struct disk_lane *l, unsigned n)
{
	if (n && l->client.syscalls)
		atomic_fetch_add_explicit(l->client.syscalls, n, memory_order_relaxed);
}

static bool submit_queued(struct disk_lane *l)
{
	struct disk_req *r;
	unsigned calls = 0;
	struct list hand;
	bool any = false;

	list_init(&hand);
	while ((r = list_take(&l->queued))) {
		int rc = file_disk_try(l->f, r, &calls);

		if (!rc && !(rc = start_helper(l))) {
			list_add(&hand, r);
			l->helped++;
		} else {
			r->done(r, rc > 0 ? 0 : rc);
			any = true;
		}
	}
	if (hand.head) {
		pthread_mutex_lock(&l->lock);
		*l->todo.tail = hand.head;
		l->todo.tail = hand.tail;
		pthread_cond_signal(&l->work);
		pthread_mutex_unlock(&l->lock);
	}
	count(l, calls);
	return any;
}

static bool tell_done(struct disk_lane *l)
{
	struct disk_req *r;
	bool any = false;

	pthread_mutex_lock(&l->lock);
	r = l->done.head;
	list_init(&l->done);
	pthread_mutex_unlock(&l->lock);
	for (struct disk_req *next; r; r = next) {
		next = r->next;
		l->helped--;
		r->done(r, (int)(int64_t)r->progress);
		any = true;
	}
	return any;
}

static void run(struct disk_lane *l)
{
	bool any;

	if (l->running)
		return;
	l->running = true;
	any = tell_done(l);
	any |= submit_queued(l);
	l->running = false;
	if (any)
		l->client.batch(l->client.opaque);
}

static void on_done(struct ev_watch *w, uint32_t events)
{
	(void)events;
	run(container_of(w, struct disk_lane, watch));
}

static void sync_submit(struct disk_lane *l, struct disk_req *r)
{
	r->progress = 0;
	list_add(&l->queued, r);
}

static void sync_drain(struct disk_lane *l)
{
	run(l);
	while (l->helped) {
		pthread_mutex_lock(&l->lock);
		while (!l->done.head)
			pthread_cond_wait(&l->finished, &l->lock);
		pthread_mutex_unlock(&l->lock);
		run(l);
	}
}

static void sync_lane_free(struct disk_lane *l)
{
	pthread_mutex_lock(&l->lock);
	l->quit = true;
	pthread_cond_signal(&l->work);
	pthread_mutex_unlock(&l->lock);
	if (l->has_thread)
		pthread_join(l->thread, NULL);
	evloop_del(l->loop, &l->watch);
	close(l->watch.fd);
	pthread_cond_destroy(&l->work);
	pthread_cond_destroy(&l->finished);
	pthread_mutex_destroy(&l->lock);
	free(l->bounce);
	free(l);
}

static struct disk_lane *sync_lane(struct disk *d, struct evloop *loop, unsigned nreqs,
				   const struct disk_client *client)
{
	struct disk_lane *l = calloc(1, sizeof(*l));
	int rc;

	(void)nreqs;
	if (!l)
		return NULL;
	l->f = file_disk_of(d);
	l->loop = loop;
	l->client = *client;
	list_init(&l->queued);
	list_init(&l->todo);
	list_init(&l->done);
	l->watch.fn = on_done;
	l->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->watch.fd < 0) {
		free(l);
		return NULL;
	}
	rc = evloop_add(loop, &l->watch, EPOLLIN | EPOLLET);
	if (rc) {
		close(l->watch.fd);
		free(l);
		errno = -rc;
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->work, NULL);
	pthread_cond_init(&l->finished, NULL);
	return l;
}

const struct disk_ops file_sync_ops = {
	.name = "sync",
	.lane = sync_lane,
	.lane_free = sync_lane_free,
	.submit = sync_submit,
	.commit = run,
	.drain = sync_drain,
	.lock = file_disk_lock,
	.refresh = file_disk_refresh,
	.destroy = file_disk_destroy,
};
