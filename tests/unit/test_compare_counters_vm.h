/* A control socket that answers as it is told. */
#ifndef TESTS_UNIT_TEST_COMPARE_COUNTERS_VM_H
#define TESTS_UNIT_TEST_COMPARE_COUNTERS_VM_H
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake_vm {
	char path[64];
	int fd;
	pthread_t thread;
	bool hold;           /* it says no more, and does not hang up either */
	const char *says[4]; /* to the first who comes, to the second, ... */
	unsigned came;
	char asked[4096]; /* what the last one said */
};

/* All of it: who closes with something unread resets the connection. */
static void fake_vm_listen(struct fake_vm *v, int fd)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < sizeof(v->asked) - 1 && !memchr(v->asked, '\n', len)) {
		n = recv(fd, v->asked + len, sizeof(v->asked) - 1 - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	v->asked[len] = '\0';
}

static void fake_vm_speak(int fd, const char *says)
{
	ssize_t n = 1;

	for (size_t len = says ? strlen(says) : 0; len && n > 0; len -= (size_t)n, says += n) {
		n = send(fd, says, len, MSG_NOSIGNAL);
		if (n < 0)
			break;
	}
}

static void *fake_vm_run(void *arg)
{
	struct fake_vm *v = arg;
	int held = -1, fd;

	while ((fd = accept(v->fd, NULL, NULL)) >= 0) {
		const char *says = v->says[v->came < 3 ? v->came : 3];

		v->came++;
		fake_vm_listen(v, fd);
		fake_vm_speak(fd, says);
		if (v->hold)
			held = fd;
		else
			close(fd);
	}
	if (held >= 0)
		close(held);
	return NULL;
}

static void fake_vm_start(struct fake_vm *v)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(v->path, sizeof(v->path), "/tmp/test_counters.%d", (int)getpid());
	unlink(v->path);
	strcpy(addr.sun_path, v->path);
	v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(v->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(v->fd, 4), 0);
	pthread_create(&v->thread, NULL, fake_vm_run, v);
}

static void fake_vm_stop(struct fake_vm *v)
{
	if (!v->thread)
		return;
	shutdown(v->fd, SHUT_RDWR);
	pthread_join(v->thread, NULL);
	v->thread = 0;
	close(v->fd);
	unlink(v->path);
}
#endif
