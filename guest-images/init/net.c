// SPDX-License-Identifier: MIT
/* The loopback interface, and the one card that can be set up without asking: that of the user-mode network. */
#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* libslirp's, unless it is told otherwise: backends/slirp_config.c */
#define ADDRESS  "10.0.2.15"
#define NETMASK  "255.255.255.0"
#define GATEWAY  "10.0.2.2"
#define RESOLVER "nameserver 10.0.2.3\n"

static void set_address(struct sockaddr *sa, const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)sa;

	*in = (struct sockaddr_in){.sin_family = AF_INET};
	inet_pton(AF_INET, address, &in->sin_addr);
}

static int set_up(int fd, const char *name)
{
	struct ifreq ifr = {0};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -1;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr);
}

static int configure(int fd, char *name)
{
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = name};
	struct ifreq ifr = {0};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	set_address(&ifr.ifr_addr, ADDRESS);
	if (ioctl(fd, SIOCSIFADDR, &ifr) < 0)
		return -1;
	set_address(&ifr.ifr_addr, NETMASK);
	if (ioctl(fd, SIOCSIFNETMASK, &ifr) < 0 || set_up(fd, name) < 0)
		return -1;
	set_address(&route.rt_dst, "0.0.0.0");
	set_address(&route.rt_genmask, "0.0.0.0");
	set_address(&route.rt_gateway, GATEWAY);
	return ioctl(fd, SIOCADDRT, &route);
}

/* The index-th that a device stands behind, in the order in which they came. */
static bool find_card(int index, char name[IFNAMSIZ])
{
	struct if_nameindex *list = if_nameindex();
	bool found = false;

	for (struct if_nameindex *i = list; i && i->if_index && !found; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/class/net/%s/device", i->if_name);
		if (access(path, F_OK) < 0 || index-- > 0)
			continue;
		found = true;
		snprintf(name, IFNAMSIZ, "%s", i->if_name);
	}
	if (list)
		if_freenameindex(list);
	return found;
}

/* A link there may lead to a resolver that only the host runs. */
static void write_resolver(void)
{
	int fd;

	mkdir("/etc", 0755);
	unlink("/etc/resolv.conf");
	fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, RESOLVER, strlen(RESOLVER)) < 0)
		complain("/etc/resolv.conf: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

void net_up(bool may_write)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const char *card = plan_value("net", 0);
	char name[IFNAMSIZ];

	if (fd >= 0)
		set_up(fd, "lo");
	if (card && (fd < 0 || !find_card(atoi(card), name)))
		complain("the guest has no network card, although --net was given: the kernel needs "
			 "CONFIG_VIRTIO_NET, or "
			 "--modules DIR with its modules");
	else if (card && configure(fd, name) < 0)
		complain("%s cannot be set up: %s", name, strerror(errno));
	else if (card && may_write)
		write_resolver();
	if (fd >= 0)
		close(fd);
}
