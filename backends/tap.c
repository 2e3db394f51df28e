/* #syscalls[setup]: openat socket fcntl
 * #syscalls[data]: readv writev epoll_ctl
 * #ioctls[vcpu,data]: TUNSETQUEUE TUNSETOFFLOAD TUNSETVNETHDRSZ TUNSETVNETLE
 * #syscalls[main]: fcntl:1==F_GETFL fcntl:1==F_SETFL fcntl:1==F_SETFD
 * #ioctls[main,data]: TUNGETIFF TUNGETVNETHDRSZ */
#include "backends/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"
#include "vmm/evloop.h"

#define BIT(n) (UINT64_C(1) << (n))

#ifndef TUN_F_USO4 /* not in the headers of kernels before 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define HDR_LEN 12 /* struct virtio_net_hdr_v1 */

struct tap {
	struct net_port port;
	struct ev_watch watch;
	struct evloop *loop; /* from attach to detach */
	bool ended;          /* gone() was called */
	bool uso;            /* the kernel knows TUN_F_USO4 and 6 */
	int old_hdr_len;     /* what it was when opened */
	char name[IFNAMSIZ];
};

static struct tap *tap_of(const struct net_port *p)
{
	return (struct tap *)(uintptr_t)p; /* its first member */
}

/* --- the port --- */

static uint64_t tap_features(struct net_port *p)
{
	uint64_t f = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
		     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
		     BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN);

	if (tap_of(p)->uso)
		f |= BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6);
	return f;
}

/* What the kernel may leave to us.  The other direction needs no asking: the header says what is to do. */
static unsigned tun_offloads(uint64_t features)
{
	const uint64_t uso = BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6);
	unsigned f = 0;

	if (!(features & BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return 0;
	f |= TUN_F_CSUM;
	if (features & BIT(VIRTIO_NET_F_GUEST_TSO4))
		f |= TUN_F_TSO4;
	if (features & BIT(VIRTIO_NET_F_GUEST_TSO6))
		f |= TUN_F_TSO6;
	if ((f & (TUN_F_TSO4 | TUN_F_TSO6)) && (features & BIT(VIRTIO_NET_F_GUEST_ECN)))
		f |= TUN_F_TSO_ECN;
	if ((features & uso) == uso) /* the kernel has both or neither */
		f |= TUN_F_USO4 | TUN_F_USO6;
	return f;
}

static int tap_set_features(struct net_port *p, uint64_t features, unsigned hdr_len)
{
	const int fd = tap_of(p)->watch.fd, len = (int)hdr_len, little = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &len) || ioctl(fd, TUNSETVNETLE, &little) ||
	    ioctl(fd, TUNSETOFFLOAD, (unsigned long)tun_offloads(features)))
		return -errno;
	return 0;
}

static void end(struct tap *t, int err)
{
	if (t->ended)
		return;
	t->ended = true;
	evloop_del(t->loop, &t->watch); /* its EPOLLERR would come for ever */
	t->port.gone(t->port.opaque, err);
}

static void on_event(struct ev_watch *w, uint32_t events)
{
	struct tap *t = container_of(w, struct tap, watch);

	if (events & (EPOLLERR | EPOLLHUP))
		end(t, -EBADFD);
	else
		t->port.readable(t->port.opaque);
}

static int tap_attach(struct net_port *p, struct evloop *loop)
{
	struct tap *t = tap_of(p);

	t->loop = loop;
	return evloop_add(loop, &t->watch, 0);
}

static void tap_detach(struct net_port *p)
{
	struct tap *t = tap_of(p);

	if (!t->ended)
		evloop_del(t->loop, &t->watch);
	t->loop = NULL;
}

static ssize_t tap_send(struct net_port *p, const struct iovec *iov, int n)
{
	struct tap *t = tap_of(p);
	/* One piece, as most small frames are, spares the kernel a list. */
	ssize_t len =
		n == 1 ? write(t->watch.fd, iov[0].iov_base, iov[0].iov_len) : writev(t->watch.fd, iov, n);

	if (len >= 0)
		return len;
	len = -errno;
	if (len == -EBADFD)
		end(t, (int)len);
	return len;
}

static ssize_t tap_recv(struct net_port *p, const struct iovec *iov, int n)
{
	struct tap *t = tap_of(p);
	ssize_t len;

	do {
		len = readv(t->watch.fd, iov, n);
	} while (len < 0 && errno == EINTR);
	return len < 0 ? -errno : len;
}

static void tap_recv_enable(struct net_port *p, bool on)
{
	struct tap *t = tap_of(p);

	if (!t->ended)
		evloop_mod(t->loop, &t->watch, on ? EPOLLIN : 0);
}

static int tap_set_active(struct net_port *p, bool on)
{
	struct ifreq ifr = {.ifr_flags = (short)(on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};

	/* EINVAL: it is that already. */
	if (ioctl(tap_of(p)->watch.fd, TUNSETQUEUE, &ifr) && errno != EINVAL)
		return -errno;
	return 0;
}

static void tap_destroy(struct net_port *p)
{
	struct tap *t = tap_of(p);

	/* Of a tap that stays nobody shall inherit what our guest could do. */
	ioctl(t->watch.fd, TUNSETOFFLOAD, 0ul);
	ioctl(t->watch.fd, TUNSETVNETHDRSZ, &t->old_hdr_len);
	close(t->watch.fd);
	free(t);
}

static const struct net_port_ops ops = {
	.name = "tap",
	.features = tap_features,
	.set_features = tap_set_features,
	.attach = tap_attach,
	.detach = tap_detach,
	.send = tap_send,
	.recv = tap_recv,
	.recv_enable = tap_recv_enable,
	.set_active = tap_set_active,
	.destroy = tap_destroy,
};

const char *tap_name(const struct net_port *port)
{
	return tap_of(port)->name;
}

bool tap_alive(const struct net_port *port)
{
	struct ifreq ifr;

	return !ioctl(tap_of(port)->watch.fd, TUNGETIFF, &ifr);
}

int tap_fd(const struct net_port *port)
{
	return tap_of(port)->watch.fd;
}

/* --- opening --- */

/* An ioctl on the interface, not on the tap.  0 or -errno. */
static int if_ioctl(unsigned long request, struct ifreq *ifr, const char *name)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	return ioctl(fd, request, ifr) ? -errno : 0;
}

static int open_tun(struct err *e)
{
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return err_set(e, -errno,
			       "--net: tap: this host has no /dev/net/tun (%s)\n"
			       "Run: modprobe tun.  In a container: --device /dev/net/tun",
			       strerror(errno));
	case EACCES:
	case EPERM:
		return err_set(e, -errno,
			       "--net: tap: /dev/net/tun may not be opened: %s\nRun: chmod 0666 /dev/net/tun",
			       strerror(errno));
	}
	return err_set(e, -errno, "--net: tap: /dev/net/tun: %s", strerror(errno));
}

static int attach_fd(int fd, const char *name, bool multi_queue, char got[IFNAMSIZ])
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	if (multi_queue)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr))
		return -errno;
	memcpy(got, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

/* What else than a tap interface `name` is: "tun", the name of its driver, or "" where it does not say. */
static bool is_other(const char *name, char kind[ETHTOOL_BUSINFO_LEN])
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (void *)&info};

	kind[0] = '\0';
	if (!if_nametoindex(name))
		return false;
	if (if_ioctl(SIOCETHTOOL, &ifr, name)) /* every tap would say */
		return true;
	snprintf(kind, ETHTOOL_BUSINFO_LEN, "%s", strcmp(info.driver, "tun") ? info.driver : info.bus_info);
	return strcmp(kind, "tap");
}

static int explain(const char *name, unsigned npairs, bool existed, int rc, struct err *e)
{
	const char *mq = npairs > 1 ? " multi_queue" : "", *shown = *name ? name : "tap0";
	char kind[ETHTOOL_BUSINFO_LEN];

	switch (rc) {
	case -EPERM:
		return err_set(
			e, rc,
			"--net: tap: %s %s: not permitted\n"
			"Run: sudo ip tuntap add dev %s mode tap user $USER%s && sudo ip link set %s up\n"
			"and then use ifname=%s",
			existed ? "using" : "making", *name ? name : "a tap", shown, mq, shown, shown);
	case -EBUSY:
		return err_set(e, rc,
			       "--net: tap: %s is in use by another program\nRun: fuser -v /dev/net/tun; or "
			       "use another ifname=",
			       name);
	case -E2BIG:
		return err_set(e, rc,
			       "--net: tap: %s has no %u queues free\nUse fewer queues=, or another ifname=",
			       name, npairs);
	case -EINVAL:
		if (is_other(name, kind))
			return err_set(
				e, rc,
				"--net: tap: %s is no tap%s%s\n"
				"Run: sudo ip tuntap add dev NAME mode tap user $USER%s; and use ifname=NAME",
				name, *kind ? " but " : "", kind, mq);
		if (existed && npairs > 1)
			return err_set(e, rc,
				       "--net: tap: %s was made without multi_queue, which queues=%u needs\n"
				       "Use queues=1, or run: sudo ip tuntap del dev %s mode tap && "
				       "sudo ip tuntap add dev %s mode tap user $USER multi_queue",
				       name, npairs, name, name);
	}
	return err_set(e, rc, "--net: tap: %s: %s", shown, strerror(-rc));
}

/* 1: it has been made now; 0: it was there; or -errno. */
static int open_queue(int fd, const char *name, unsigned npairs, bool *multi_queue, char got[IFNAMSIZ],
		      struct err *e)
{
	const bool existed = *name && if_nametoindex(name);
	int rc = attach_fd(fd, name, *multi_queue, got);

	/* One queue of a tap for many is a tap like any other. */
	if (rc == -EINVAL && existed && npairs == 1) {
		*multi_queue = true;
		rc = attach_fd(fd, name, true, got);
	}
	return rc ? explain(name, npairs, existed, rc, e) : !existed;
}

/* A tap that somebody else opened. */
static int check_fd(int fd, char name[IFNAMSIZ], struct err *e)
{
	struct ifreq ifr;

	if (ioctl(fd, TUNGETIFF, &ifr))
		return err_set(e, -errno,
			       "--net: tap: fd=%d is %s\nIt must be /dev/net/tun after TUNSETIFF with "
			       "IFF_TAP | IFF_NO_PI | IFF_VNET_HDR.",
			       fd,
			       errno == EBADF    ? "not open"
			       : errno == EBADFD ? "not attached to an interface"
						 : "no tap");
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI) || !(ifr.ifr_flags & IFF_VNET_HDR))
		return err_set(e, -EINVAL, "--net: tap: fd=%d (%s) was opened without %s", fd, ifr.ifr_name,
			       !(ifr.ifr_flags & IFF_TAP)     ? "IFF_TAP"
			       : !(ifr.ifr_flags & IFF_NO_PI) ? "IFF_NO_PI"
							      : "IFF_VNET_HDR");
	memcpy(name, ifr.ifr_name, IFNAMSIZ);
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return err_set(e, -errno, "--net: tap: fd=%d: %s", fd, strerror(errno));
	return 0;
}

/* port[n] takes fd over if it succeeds. */
static int port_new(struct net_port **port, unsigned n, int fd, const char *name, struct err *e)
{
	struct tap *t = calloc(1, sizeof(*t));
	const int hdr_len = HDR_LEN;

	if (!t)
		return err_set(e, -ENOMEM, "--net: tap: out of memory");
	t->port.ops = &ops;
	t->watch = (struct ev_watch){.fd = fd, .fn = on_event};
	snprintf(t->name, sizeof(t->name), "%s", name);
	if (ioctl(fd, TUNGETVNETHDRSZ, &t->old_hdr_len) || ioctl(fd, TUNSETVNETHDRSZ, &hdr_len)) {
		int rc = -errno;

		free(t);
		return err_set(e, rc, "--net: tap: %s: no virtio-net header: %s", name, strerror(-rc));
	}
	if (n) /* the header's length is the interface's, not the queue's */
		t->old_hdr_len = tap_of(port[0])->old_hdr_len;
	t->uso = !ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6));
	ioctl(fd, TUNSETOFFLOAD, 0ul);
	port[n] = &t->port;
	return 0;
}

static int set_mtu(const char *name, uint16_t mtu, bool made, struct err *e)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFMTU, &ifr, name);

	if (!mtu || rc || ifr.ifr_mtu == mtu)
		return 0;
	if (!made) {
		log_warn("%s has an MTU of %d; the guest is told %u", name, ifr.ifr_mtu, mtu);
		return 0;
	}
	ifr.ifr_mtu = mtu;
	rc = if_ioctl(SIOCSIFMTU, &ifr, name);
	return rc ? err_set(e, rc, "--net: tap: mtu=%u on %s: %s", mtu, name, strerror(-rc)) : 0;
}

static int bring_up(const char *name, bool made, struct err *e)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFFLAGS, &ifr, name);

	if (rc || (ifr.ifr_flags & IFF_UP))
		return 0;
	if (!made) {
		log_warn("%s is down: run: sudo ip link set %s up", name, name);
		return 0;
	}
	ifr.ifr_flags |= IFF_UP;
	rc = if_ioctl(SIOCSIFFLAGS, &ifr, name);
	return rc ? err_set(e, rc, "--net: tap: %s cannot be brought up: %s", name, strerror(-rc)) : 0;
}

static int open_named(struct net_port **port, unsigned npairs, const struct tap_config *c, unsigned *n,
		      struct err *e)
{
	char name[IFNAMSIZ] = "";
	bool multi_queue = npairs > 1;
	int rc, made = 0;

	if (c->ifname && strlen(c->ifname) >= IFNAMSIZ)
		return err_set(e, -EINVAL, "--net: tap: ifname=%s is longer than %d characters", c->ifname,
			       IFNAMSIZ - 1);
	if (c->ifname)
		snprintf(name, sizeof(name), "%s", c->ifname);
	while (*n < npairs) {
		CLEANUP_FD int fd = open_tun(e);

		if (fd < 0)
			return fd;
		rc = open_queue(fd, name, npairs, &multi_queue, name, e);
		if (rc < 0)
			return rc;
		made |= rc;
		rc = port_new(port, *n, fd, name, e);
		if (rc)
			return rc;
		steal_fd(&fd);
		++*n;
	}
	rc = set_mtu(name, c->mtu, made, e);
	return rc ? rc : bring_up(name, made, e);
}

static int open_fds(struct net_port **port, unsigned npairs, const struct tap_config *c, unsigned *n,
		    struct err *e)
{
	char name[IFNAMSIZ];
	int rc;

	if (c->nfds != npairs)
		return err_set(e, -EINVAL, "--net: tap: %u fds for queues=%u: one a pair", c->nfds, npairs);
	for (; *n < npairs; ++*n) {
		rc = check_fd(c->fds[*n], name, e);
		if (!rc)
			rc = port_new(port, *n, c->fds[*n], name, e);
		if (rc)
			return rc;
	}
	if (confine_is_on()) /* whoever opened them has seen to that */
		return 0;
	set_mtu(name, c->mtu, false, e);
	return bring_up(name, false, e);
}

int tap_open(struct net_port **port, unsigned npairs, const struct tap_config *c, struct err *e)
{
	unsigned n = 0;
	int rc = c->fds ? open_fds(port, npairs, c, &n, e) : open_named(port, npairs, c, &n, e);

	while (rc && n--) {
		if (c->fds)
			tap_of(port[n])->watch.fd = -1; /* still the caller's */
		port[n]->ops->destroy(port[n]);
	}
	return rc;
}
