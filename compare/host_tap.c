#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compare/host.h"
#include "compare/host_private.h"
#include "compare/process.h"
#include "lib/cleanup.h"

int host_link_up(const char *name)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr))
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

static int want_tools(enum host_tap kind, struct err *e)
{
	static const char text[] = "the tap's other end is set up by %s, which is not there\n"
				   "Install iproute2 (Fedora: iproute and iproute-tc)";

	if (!process_exists("ip"))
		return err_set(e, -ENOENT, text, "ip");
	if (kind == HOST_TAP_BACK && !process_exists("tc"))
		return err_set(e, -ENOENT, text, "tc");
	return 0;
}

static int want_tun(struct err *e)
{
	CLEANUP_FD int fd = -1;

	host_module("tun");
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return err_set(e, -errno, "/dev/net/tun may not be opened: %s\nRun: chmod 0666 /dev/net/tun",
			       strerror(errno));
	return err_set(e, -errno,
		       "this host has no /dev/net/tun: %s\nRun: modprobe tun.  In a container: --device "
		       "/dev/net/tun",
		       strerror(errno));
}

/* Nothing but what is measured: no router is asked for, no group joined.  Before it is up. */
static int no_ipv6(struct err *e)
{
	CLEANUP_FD int fd = open("/proc/sys/net/ipv6/conf/" HOST_TAP "/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) /* the kernel has none */
		return 0;
	if (fd >= 0 && write(fd, "1", 1) == 1)
		return 0;
	/* In a container /proc/sys may be read-only. */
	return PROCESS_RUN(e, "ip", "link", "set", HOST_TAP, "addrgenmode", "none");
}

static int send_back(struct err *e)
{
	int rc;

	host_module("sch_ingress");
	host_module("cls_u32");
	host_module("act_mirred");
	rc = PROCESS_RUN(e, "tc", "qdisc", "add", "dev", HOST_TAP, "ingress");
	rc = rc ? rc
		: PROCESS_RUN(e, "tc", "filter", "add", "dev", HOST_TAP, "parent", "ffff:", "protocol", "all",
			      "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev",
			      HOST_TAP);
	return rc ? err_prefix(e, "frames cannot be sent back by the kernel (sch_ingress, cls_u32, act_mirred)")
		  : 0;
}

static int set_up(enum host_tap kind, struct err *e)
{
	int rc = PROCESS_RUN(e, "ip", "tuntap", "add", "dev", HOST_TAP, "mode", "tap", "vnet_hdr");

	rc = rc ? rc : no_ipv6(e);
	if (!rc && kind == HOST_TAP_ADDRESS)
		rc = PROCESS_RUN(e, "ip", "address", "add", HOST_ADDRESS "/" HOST_PREFIX, "dev", HOST_TAP);
	if (!rc && kind == HOST_TAP_BACK)
		rc = send_back(e);
	return rc ? rc : PROCESS_RUN(e, "ip", "link", "set", HOST_TAP, "up");
}

int host_tap_new(struct host *h, enum host_tap kind, struct err *e)
{
	int rc;

	if (!h->own_net)
		return host_tell_refused(h, e);
	rc = want_tools(kind, e);
	rc = rc ? rc : want_tun(e);
	if (rc)
		return rc;
	host_tap_del(h);
	rc = set_up(kind, e);
	if (rc)
		host_tap_del(h);
	return rc;
}

void host_tap_del(struct host *h)
{
	if (h->own_net && if_nametoindex(HOST_TAP))
		PROCESS_RUN(NULL, "ip", "link", "delete", HOST_TAP);
}
