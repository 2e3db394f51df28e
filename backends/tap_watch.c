/* #syscalls: socket bind recvfrom poll close epoll_ctl */
#include "backends/tap_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"

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

void tap_watch_start(struct tap_watch *w)
{
	if (w->on)
		return;
	w->news = (struct ev_watch){.fd = listen_to_links(), .fn = on_news};
	w->on = w->news.fd >= 0 && !evloop_add(w->loop, &w->news, EPOLLIN);
	if (!w->on && w->news.fd >= 0)
		close(w->news.fd);
	w->look(w->opaque);
}

void tap_watch_stop(struct tap_watch *w)
{
	if (!w->on)
		return;
	evloop_del(w->loop, &w->news);
	close(w->news.fd);
	w->on = false;
}
