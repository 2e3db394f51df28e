/* Theory of operation: submit() writes the entry into the ring, commit() shows the burst to the kernel in one
 * io_uring_enter(), in which what is in the page cache completes, and takes the completions there and then.
 * The rest makes the ring readable, which the loop watches.  (Not with IORING_SETUP_DEFER_TASKRUN: newer
 * kernels then wake nobody who polls the ring.)  The ring has room for every request that can be in
 * flight, so it never overflows.
 *
 * Some requests stay out of the ring and go to a file_sync lane: what the kernel would only do on a thread
 * anyway (discard, zeroes), buffers that O_DIRECT does not take, what it says to try again.  On a tmpfs that
 * io_uring does not serve without a thread (Linux 6.4 and later) reads and writes are plain calls: a copy is
 * cheaper than two wake-ups.  Several reads in a row are one call there: process_vm_readv() copies them out of
 * a mapping of the file, and where the file has become shorter it says so instead of raising SIGBUS.  That
 * would fill a hole with zeroes that take memory, so it is for files without holes.
 *
 * A lane for which no ring can be had, although others could be, gives everything to its file_sync lane.
 *
 * A ring is a way round a filter of system calls, so each can do nothing but read and write the one file that
 * it holds; and where threads are to be confined, all rings are made beforehand and used again. */
/* #syscalls[setup]: io_uring_setup
 * #syscalls[data]: io_uring_enter io_uring_register:1==IORING_REGISTER_FILES_UPDATE fstat */
#include "backends/file_uring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "backends/file_sync.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"
#include "vmm/evloop.h"

/* What one process_vm_readv() is given at most. */
#define MAPPED_REQS 64
#define MAPPED_IOV  256

struct disk_lane {
	struct file_disk *f;
	struct evloop *loop;
	struct disk_client client;
	bool has_ring;
	bool by_buffer; /* the kernel takes a single buffer without a list (Linux 5.6), which spares it some */
	struct io_uring ring;
	struct spare *spare;    /* where the ring comes from, or NULL */
	struct ev_watch watch;  /* the ring */
	struct disk_lane *slow; /* file_sync's */
	bool slow_queued;
	bool plain; /* reads and writes by system call */
	char *map;  /* ... the file, map_len bytes of it, or NULL */
	pid_t pid;  /* our own */
	size_t map_len;
	struct disk_req *first, **last; /* ... submitted and not committed */
	unsigned in_ring;               /* prepared or in flight */
	bool running;                   /* inside run() */
};

/* --- rings made beforehand --- */

struct spare {
	struct io_uring ring;
	unsigned entries;
	bool by_buffer;
	struct spare *next;
};

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static struct spare *spares;
static bool spares_only; /* some were made: threads will be confined */

int file_uring_allowed(void)
{
	struct io_uring_params p;

	if (confine_is_on())
		return spares_only ? 0 : -EPERM;
	memset(&p, 0, sizeof(p));
	/* No ring has no entries, but whether we may have one is looked at first. */
	if (syscall(__NR_io_uring_setup, 0, &p) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

static void count(struct disk_lane *l, unsigned n)
{
	if (n && l->client.syscalls)
		atomic_fetch_add_explicit(l->client.syscalls, n, memory_order_relaxed);
}

/* --- the ring --- */

static void prepare(struct disk_lane *l, struct disk_req *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
	uint64_t at = r->offset + r->progress;

	assert(sqe); /* there are as many as requests */
	switch (r->op) {
	case DISK_READ:
		if (l->by_buffer && r->iovcnt == 1)
			io_uring_prep_read(sqe, 0, r->iov->iov_base, (unsigned)r->iov->iov_len, at);
		else
			io_uring_prep_readv(sqe, 0, r->iov, (unsigned)r->iovcnt, at);
		break;
	case DISK_WRITE:
		if (l->by_buffer && r->iovcnt == 1)
			io_uring_prep_write(sqe, 0, r->iov->iov_base, (unsigned)r->iov->iov_len, at);
		else
			io_uring_prep_writev(sqe, 0, r->iov, (unsigned)r->iovcnt, at);
		sqe->rw_flags = r->durable ? RWF_DSYNC : 0;
		break;
	default:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, r);
	l->in_ring++;
}

static void go_slow(struct disk_lane *l, struct disk_req *r)
{
	r->offset += r->progress;
	r->len -= r->progress;
	file_sync_ops.submit(l->slow, r);
	l->slow_queued = true;
}

/* Takes what has completed.  Of what is not done yet the rest is put in again. */
static unsigned reap(struct disk_lane *l)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0, seen = 0;

	io_uring_for_each_cqe(&l->ring, head, cqe)
	{
		struct disk_req *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		n++;
		l->in_ring--;
		/* ECANCELED: the thread that submitted it has ended, and the lane is being drained. */
		if (res == -EINTR || res == -EAGAIN || res == -ECANCELED) {
			go_slow(l, r);
			continue;
		}
		if (r->op != DISK_FLUSH)
			res = file_req_advance(r, res);
		if (res > 0) {
			prepare(l, r);
			continue;
		}
		seen++;
		r->done(r, res);
	}
	io_uring_cq_advance(&l->ring, n);
	return seen;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* One io_uring_enter(): all that is prepared, and at least `wait` completions. */
static void enter(struct disk_lane *l, unsigned wait)
{
	int rc = wait ? io_uring_submit_and_wait(&l->ring, wait) : io_uring_submit(&l->ring);

	count(l, 1);
	if (rc < 0 && rc != -EINTR) /* short of memory */
		nap();
}

static unsigned run_ring(struct disk_lane *l)
{
	unsigned n = 0;

	while (io_uring_sq_ready(&l->ring)) {
		enter(l, 0);
		n += reap(l);
	}
	return n;
}

/* --- requests by plain system calls --- */

static struct disk_req *take(struct disk_lane *l)
{
	struct disk_req *r = l->first;

	l->first = r->next;
	if (!l->first)
		l->last = &l->first;
	return r;
}

/* Copies as many of the first requests as it can in one call.  How many were done in full, of which none is
 * taken yet. */
static unsigned copy_mapped(struct disk_lane *l, unsigned *calls)
{
	struct iovec to[MAPPED_IOV], from[MAPPED_REQS];
	unsigned n = 0, nto = 0, whole = 0;
	size_t left;
	ssize_t rc;

	for (const struct disk_req *r = l->first; r && n < MAPPED_REQS; r = r->next, n++) {
		if (r->op != DISK_READ || r->offset + r->len > l->map_len ||
		    nto + (unsigned)r->iovcnt > MAPPED_IOV)
			break;
		from[n] = (struct iovec){.iov_base = l->map + r->offset, .iov_len = r->len};
		for (int i = 0; i < r->iovcnt; i++)
			to[nto++] = r->iov[i];
	}
	if (n < 2)
		return 0;
	++*calls;
	/* #syscalls[data]: process_vm_readv:0==PID */
	rc = process_vm_readv(l->pid, to, nto, from, n, 0);
	if (rc <= 0)
		return 0;
	for (left = (size_t)rc; whole < n && left >= from[whole].iov_len; whole++)
		left -= from[whole].iov_len;
	return whole;
}

static unsigned run_plain(struct disk_lane *l)
{
	unsigned n = 0, calls = 0;

	while (l->first) {
		unsigned copied = l->map && !l->f->holes ? copy_mapped(l, &calls) : 0;

		/* What cannot be copied is told why by the call that is made for it alone. */
		if (!copied) {
			int rc = file_disk_try(l->f, l->first, &calls);
			struct disk_req *r = take(l);

			r->done(r, rc > 0 ? 0 : rc);
			n++;
		}
		for (; copied; copied--, n++) {
			struct disk_req *r = take(l);

			r->done(r, 0);
		}
	}
	count(l, calls);
	return n;
}

/* The file where it has no holes; else there will be no mapping. */
static void map_file(struct disk_lane *l)
{
	size_t len = l->f->disk.size;
	struct stat st;
	void *p;

	if (fstat(l->f->fd, &st) || (uint64_t)st.st_blocks * 512 < len) {
		l->f->holes = true;
		return;
	}
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, l->f->fd, 0);
	if (p == MAP_FAILED)
		return;
	madvise(p, len, MADV_DONTDUMP);
	l->pid = getpid();
	l->map = p;
	l->map_len = len;
}

static void unmap_file(struct disk_lane *l)
{
	if (l->map)
		munmap(l->map, l->map_len);
}

/* --- both --- */

static void run(struct disk_lane *l)
{
	unsigned n;

	if (l->running)
		return;
	l->running = true;
	n = l->has_ring ? reap(l) : 0;
	n += run_plain(l);
	n += l->has_ring ? run_ring(l) : 0;
	l->running = false;
	if (l->slow_queued) {
		l->slow_queued = false;
		file_sync_ops.commit(l->slow);
	}
	if (n)
		l->client.batch(l->client.opaque);
}

static void on_ring(struct ev_watch *w, uint32_t events)
{
	(void)events;
	run(container_of(w, struct disk_lane, watch));
}

static bool is_slow(const struct disk_lane *l, const struct disk_req *r)
{
	if (r->op == DISK_DISCARD || r->op == DISK_ZERO_UNMAP)
		l->f->holes = true; /* for the other lanes as well */
	if (!l->has_ring)
		return true;
	if (r->op == DISK_READ || r->op == DISK_WRITE)
		return !file_disk_aligned(l->f, r);
	return r->op != DISK_FLUSH;
}

static void uring_submit(struct disk_lane *l, struct disk_req *r)
{
	r->progress = 0;
	if (is_slow(l, r)) {
		go_slow(l, r);
	} else if (l->plain) {
		r->next = NULL;
		*l->last = r;
		l->last = &r->next;
	} else {
		prepare(l, r);
	}
}

/* The slow lane's done()s may have put something into the ring. */
static void on_slow_batch(void *opaque)
{
	struct disk_lane *l = opaque;

	run(l);
	l->client.batch(l->client.opaque);
}

static void uring_drain(struct disk_lane *l)
{
	do {
		run(l);
		while (l->in_ring) {
			enter(l, 1);
			run(l);
		}
		file_sync_ops.drain(l->slow);
	} while (l->in_ring || l->first || l->slow_queued);
}

/* Newer kernels spare us interruptions; older ones refuse what they do not know. */
static int init_ring(struct io_uring *ring, unsigned entries, unsigned flags)
{
	int rc =
		io_uring_queue_init(entries, ring, flags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN);

	return rc == -EINVAL ? io_uring_queue_init(entries, ring, flags) : rc;
}

static bool knows_buffers(struct io_uring *ring)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(ring);
	bool knows = p && io_uring_opcode_supported(p, IORING_OP_READ) &&
		     io_uring_opcode_supported(p, IORING_OP_WRITE);

	io_uring_free_probe(p);
	return knows;
}

/* What lanes do, and on the one file that the ring is given. */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction may[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
	};
	/* liburing 2.3 declares functions for these two and has none. */
	if (syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, may,
		    ARRAY_SIZE(may)) ||
	    syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
		return -errno;
	return 0;
}

/* Linux before 5.10 has no restrictions.  free: such a ring will do. */
static int new_ring(struct io_uring *ring, unsigned entries, bool *by_buffer, bool free)
{
	int rc = init_ring(ring, entries, IORING_SETUP_R_DISABLED), none = -1;
	const bool restricts = rc != -EINVAL;

	if (!restricts && free)
		rc = init_ring(ring, entries, 0);
	if (rc)
		return rc;
	*by_buffer = knows_buffers(ring);
	rc = io_uring_register_files(ring, &none, 1);
	if (!rc && restricts)
		rc = restrict_ring(ring);
	if (rc)
		io_uring_queue_exit(ring);
	return rc;
}

int file_uring_reserve(unsigned n, unsigned entries)
{
	for (; confine_is_due() && n; n--) {
		struct spare *s = calloc(1, sizeof(*s));
		int rc = s ? new_ring(&s->ring, entries, &s->by_buffer, false) : -ENOMEM;

		if (rc) {
			free(s);
			return rc;
		}
		s->entries = entries;
		s->next = spares;
		spares = s;
		spares_only = true;
	}
	return 0;
}

static struct spare *take_spare(unsigned entries)
{
	struct spare *s = NULL;

	pthread_mutex_lock(&spare_lock);
	for (struct spare **p = &spares; *p && !s; p = &(*p)->next)
		if ((*p)->entries >= entries) {
			s = *p;
			*p = s->next;
			break;
		}
	pthread_mutex_unlock(&spare_lock);
	return s;
}

static void give_spare(struct spare *s)
{
	pthread_mutex_lock(&spare_lock);
	s->next = spares;
	spares = s;
	pthread_mutex_unlock(&spare_lock);
}

static int get_ring(struct disk_lane *l, unsigned entries)
{
	l->spare = take_spare(entries);
	if (l->spare) {
		l->ring = l->spare->ring;
		l->by_buffer = l->spare->by_buffer;
		return 0;
	}
	return confine_is_on() ? -EPERM : new_ring(&l->ring, entries, &l->by_buffer, true);
}

static void put_ring(struct disk_lane *l)
{
	int none = -1;

	if (!l->spare) {
		io_uring_queue_exit(&l->ring);
		return;
	}
	io_uring_register_files_update(&l->ring, 0, &none, 1);
	l->spare->ring = l->ring;
	give_spare(l->spare);
}

static int make_ring(struct disk_lane *l, unsigned entries)
{
	int rc = get_ring(l, entries);

	if (rc)
		return rc;
	l->watch = (struct ev_watch){.fd = l->ring.ring_fd, .fn = on_ring};
	rc = io_uring_register_files_update(&l->ring, 0, &l->f->fd, 1);
	rc = rc < 0 ? rc : evloop_add(l->loop, &l->watch, EPOLLIN);
	if (rc)
		put_ring(l);
	l->has_ring = !rc;
	l->by_buffer &= l->has_ring;
	return rc;
}

static void free_ring(struct disk_lane *l)
{
	if (!l->has_ring)
		return;
	evloop_del(l->loop, &l->watch);
	put_ring(l);
}

static void uring_lane_free(struct disk_lane *l)
{
	file_sync_ops.lane_free(l->slow);
	free_ring(l);
	unmap_file(l);
	free(l);
}

/* Would the kernel do reads on a thread although nothing has to be waited for?  From 6.4 on it does where
 * the file system does not claim to know IOCB_NOWAIT, and tmpfs does not. */
static bool needs_thread(const struct file_disk *f)
{
	unsigned major = 0, minor = 0;
	struct utsname u;
	char byte;

	if (!f->memory || uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	if (major < 6 || (major == 6 && minor < 4))
		return false;
	return preadv2(f->fd, &(struct iovec){&byte, 1}, 1, 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
}

static int lane_init(struct disk_lane *l, unsigned nreqs)
{
	const struct disk_client slow = {.batch = on_slow_batch, .opaque = l, .syscalls = l->client.syscalls};
	int rc = make_ring(l, nreqs);

	/* Short of memory, or of ulimit -l on kernels before 5.12. */
	if (rc && !atomic_exchange(&l->f->said_no_ring, true))
		log_warn("--disk: %s: no ring for io_uring (%s); served as with aio=sync", l->f->path,
			 strerror(-rc));
	l->plain = l->has_ring && needs_thread(l->f);
	if (l->plain)
		map_file(l);
	l->slow = file_sync_ops.lane(&l->f->disk, l->loop, nreqs, &slow);
	if (l->slow)
		return 0;
	rc = -errno;
	unmap_file(l);
	free_ring(l);
	return rc;
}

static struct disk_lane *uring_lane(struct disk *d, struct evloop *loop, unsigned nreqs,
				    const struct disk_client *client)
{
	struct disk_lane *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return NULL;
	l->f = file_disk_of(d);
	l->loop = loop;
	l->client = *client;
	l->last = &l->first;
	rc = lane_init(l, nreqs);
	if (!rc)
		return l;
	free(l);
	errno = -rc;
	return NULL;
}

const struct disk_ops file_uring_ops = {
	.name = "io_uring",
	.lane = uring_lane,
	.lane_free = uring_lane_free,
	.submit = uring_submit,
	.commit = run,
	.drain = uring_drain,
	.lock = file_disk_lock,
	.refresh = file_disk_refresh,
	.destroy = file_disk_destroy,
};
