/* #syscalls[server]: rt_sigaction rt_sigprocmask mmap write */
#include "servers/server_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_GUARDS 1024

/* Read by a signal handler: a guard counts from the moment its length is there until it is 0 again. */
static struct guard {
	_Atomic uintptr_t addr;
	_Atomic size_t len;
	_Atomic int lost_fd;
	_Atomic bool lost;
	bool taken; /* with the lock */
} guards[MAX_GUARDS];
static _Atomic unsigned ever; /* guards[] beyond were never used */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct guard *find(uintptr_t at)
{
	for (unsigned i = 0; i < ever; i++) {
		const uintptr_t addr = guards[i].addr;
		const size_t len = guards[i].len;

		/* Another thread may be giving the place to another mapping. */
		if (at - addr < len && guards[i].addr == addr && guards[i].len == len)
			return &guards[i];
	}
	return NULL;
}

/* The whole mapping goes: of a guest that has lost a page, none is worth anything.  mmap() is a plain system
 * call, and two threads that do this at once do the same. */
static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	const uint64_t one = 1;
	const int saved = errno;
	struct guard *g = info->si_code > 0 ? find((uintptr_t)info->si_addr) : NULL;

	(void)context;
	if (g && mmap((void *)g->addr, g->len, PROT_READ | PROT_WRITE,
		      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
		g->lost = true;
		if (write(g->lost_fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
			errno = 0;
	} else {
		/* Not ours: this time it kills, as it would have. */
		signal(sig, SIG_DFL);
		if (info->si_code <= 0)
			raise(sig);
	}
	errno = saved;
}

static void install(void)
{
	static bool done;
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};

	if (done)
		return;
	done = true;
	sigfillset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, NULL);
}

/* Blocked, it would kill whatever its handler. */
void server_guard_thread(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int server_guard_add(void *addr, size_t len, int lost_fd)
{
	int at = -ENOSPC;

	pthread_mutex_lock(&lock);
	install();
	for (unsigned i = 0; i < MAX_GUARDS; i++) {
		struct guard *g = &guards[i];

		if (g->taken)
			continue;
		g->taken = true;
		g->lost = false;
		g->lost_fd = lost_fd;
		g->addr = (uintptr_t)addr;
		if (i >= ever)
			ever = i + 1;
		g->len = len;
		at = (int)i;
		break;
	}
	pthread_mutex_unlock(&lock);
	return at;
}

bool server_guard_remove(int guard)
{
	struct guard *g = &guards[guard];
	bool lost;

	pthread_mutex_lock(&lock);
	g->len = 0;
	lost = g->lost;
	g->taken = false;
	pthread_mutex_unlock(&lock);
	return lost;
}
