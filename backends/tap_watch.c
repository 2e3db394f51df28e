/* #syscalls[setup]: socket bind
 * #syscalls[vcpu,data]: recvfrom poll epoll_ctl */
#include "backends/tap_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/confine.h"

#define MAX_SPARES 64

bool tap_fd_gone(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
}

/* What the news are does not matter: the tap itself knows best. */
static void on_news(struct ev_watch *watch, uint32_t events)
{
	struct tap_watch *w = container_of(watch, struct tap_watch, news);
	char buf[4096];
	ssize_t n;

	(void)events;
	do
		n = recv(watch->fd, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && (errno == ENOBUFS || errno == EINTR)));
	w->look(w->opaque);
}

static int listen_to_links(void)
{
	const struct sockaddr_nl links = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&links, sizeof(links))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Sockets for those who may make none.  What has come in since is as good as any news. */
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static int spare[MAX_SPARES];
static unsigned nspares;

static int take_socket(void)
{
	int fd = -1;

	pthread_mutex_lock(&spare_lock);
	if (nspares)
		fd = spare[--nspares];
	pthread_mutex_unlock(&spare_lock);
	return fd >= 0 || confine_is_on() ? fd : listen_to_links();
}

static void give_socket(int fd)
{
	const bool keep = confine_is_on();

	pthread_mutex_lock(&spare_lock);
	if (keep && nspares < MAX_SPARES)
		spare[nspares++] = steal_fd(&fd);
	pthread_mutex_unlock(&spare_lock);
	if (fd >= 0)
		close(fd);
}

void tap_watch_reserve(void)
{
	const int fd = confine_is_due() ? listen_to_links() : -1;

	if (fd < 0)
		return;
	if (nspares < MAX_SPARES)
		spare[nspares++] = fd;
	else
		close(fd);
}

void tap_watch_start(struct tap_watch *w)
{
	if (w->on)
		return;
	w->news = (struct ev_watch){.fd = take_socket(), .fn = on_news};
	w->on = w->news.fd >= 0 && !evloop_add(w->loop, &w->news, EPOLLIN);
	if (!w->on && w->news.fd >= 0)
		give_socket(w->news.fd);
	w->look(w->opaque);
}

void tap_watch_stop(struct tap_watch *w)
{
	if (!w->on)
		return;
	evloop_del(w->loop, &w->news);
	give_socket(w->news.fd);
	w->on = false;
}
