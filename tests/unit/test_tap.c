/* Taps of this test's own, in a network namespace of its own; what crosses is looked at from the other side
 * through a packet socket.  Without the right to make them the tests are skipped. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/tap.h"
#include "lib/cleanup.h"
#include "tests/fake/net_rig.h"

#define BIT(n)    (1ull << (n))
#define HDR       ((unsigned)sizeof(struct virtio_net_hdr_v1))
#define ETH_P_OUR 0x88b5 /* for experiments */

static const uint64_t guest_offloads =
	BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);

static struct err e;

/* A namespace, or the test ends as skipped. */
static void isolate(void)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		cr_skip_test("unshare(CLONE_NEWNET): %s (needs root)", strerror(errno));
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0)
		cr_skip_test("/dev/net/tun: %s", strerror(errno));
	close(fd);
	e = (struct err){0};
}

TestSuite(tap, .init = isolate, .timeout = 60);

static struct net_port *open_one(const char *ifname)
{
	struct net_port *p = NULL;

	cr_assert_eq(tap_open(&p, 1, &(struct tap_config){.ifname = ifname}, &e), 0, "%s", e.text);
	return p;
}

/* A tap as `ip tuntap add` makes it. */
static void make_persistent(const char *name, int flags)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_NO_PI | flags)};
	int fd = open("/dev/net/tun", O_RDWR);

	strcpy(ifr.ifr_name, name);
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	cr_assert_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static void drop_net_admin(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	cr_assert_eq(syscall(SYS_capget, &h, d), 0);
	d[0].effective &= ~(1u << CAP_NET_ADMIN);
	d[0].permitted &= ~(1u << CAP_NET_ADMIN);
	cr_assert_eq(syscall(SYS_capset, &h, d), 0);
}

static struct ifreq if_get(unsigned long request, const char *name)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, name);
	cr_assert_eq(ioctl(fd, request, &ifr), 0);
	close(fd);
	return ifr;
}

static void if_delete(const char *name)
{
	struct {
		struct nlmsghdr {
			uint32_t len;
			uint16_t type, flags;
			uint32_t seq, pid;
		} h;
		struct {
			uint8_t family, pad;
			uint16_t type;
			int32_t index;
			uint32_t flags, change;
		} i;
	} msg = {.h = {sizeof(msg), 17 /* RTM_DELLINK */, 5 /* request, ack */, 1, 0},
		 .i = {.index = (int)if_nametoindex(name)}};
	int fd = socket(AF_NETLINK, SOCK_RAW, 0);
	char ack[256];

	cr_assert_eq(send(fd, &msg, sizeof(msg), 0), (ssize_t)sizeof(msg));
	cr_assert_gt(recv(fd, ack, sizeof(ack), 0), 0);
	close(fd);
	cr_assert_eq(if_nametoindex(name), 0);
}

/* The host's side of the tap. */
static int packet_socket(const char *name)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_OUR),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_OUR));

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sll, sizeof(sll)), 0);
	return fd;
}

static void fill(uint8_t *frame, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed + i);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, "\2\0\0\0\0\1", 6);
	frame[12] = ETH_P_OUR >> 8;
	frame[13] = ETH_P_OUR & 0xff;
}

static ssize_t socket_recv(int fd, void *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	poll(&p, 1, 1000);
	return recv(fd, buf, len, 0);
}

/* --- opening --- */

Test(tap, makes_one_with_the_name_it_is_given_and_leaves_nothing_behind)
{
	struct net_port *p = open_one("rl0");

	cr_assert_str_eq(tap_name(p), "rl0");
	cr_assert_geq(tap_fd(p), 0);
	cr_assert(if_nametoindex("rl0"));
	cr_assert(if_get(SIOCGIFFLAGS, "rl0").ifr_flags & IFF_UP);
	p->ops->destroy(p);
	cr_assert_not(if_nametoindex("rl0"));
}

Test(tap, lets_the_kernel_choose_a_name)
{
	struct net_port *p = open_one(""), *q = open_one(NULL);

	cr_assert(if_nametoindex(tap_name(p)));
	cr_assert_str_neq(tap_name(p), tap_name(q));
	p->ops->destroy(p);
	q->ops->destroy(q);
}

Test(tap, sets_the_mtu_of_one_it_makes)
{
	struct net_port *p = NULL;

	cr_assert_eq(tap_open(&p, 1, &(struct tap_config){.ifname = "rl0", .mtu = 9000}, &e), 0);
	cr_assert_eq(if_get(SIOCGIFMTU, "rl0").ifr_mtu, 9000);
	p->ops->destroy(p);
}

Test(tap, opens_one_made_beforehand_and_leaves_it_as_it_was)
{
	struct net_port *p;
	int len = 0, fd;
	struct ifreq ifr = {.ifr_name = "rl0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	make_persistent("rl0", IFF_TAP | IFF_VNET_HDR);
	p = open_one("rl0");
	cr_assert_not(if_get(SIOCGIFFLAGS, "rl0").ifr_flags & IFF_UP); /* not ours to bring up */
	p->ops->set_features(p, guest_offloads, HDR);
	p->ops->destroy(p);
	cr_assert(if_nametoindex("rl0"));
	fd = open("/dev/net/tun", O_RDWR);
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	ioctl(fd, TUNGETVNETHDRSZ, &len);
	cr_assert_eq(len, 10);
	close(fd);
}

Test(tap, opens_one_queue_of_a_tap_made_for_many)
{
	struct net_port *p;

	make_persistent("rl0", IFF_TAP | IFF_MULTI_QUEUE);
	p = open_one("rl0");
	p->ops->destroy(p);
}

Test(tap, opens_several_queues_of_one_tap)
{
	struct net_port *p[3];
	int len;

	make_persistent("rl0", IFF_TAP | IFF_MULTI_QUEUE);
	cr_assert_eq(tap_open(p, 3, &(struct tap_config){.ifname = "rl0"}, &e), 0, "%s", e.text);
	cr_assert_eq(ioctl(tap_fd(p[2]), TUNGETVNETHDRSZ, &len), 0);
	cr_assert_eq(len, HDR);
	for (unsigned i = 0; i < 3; i++) /* both ways, and twice */
		for (unsigned k = 0; k < 4; k++)
			cr_assert_eq(p[i]->ops->set_active(p[i], k / 2), 0);
	for (unsigned i = 0; i < 2; i++)
		p[i]->ops->destroy(p[i]);
	cr_assert_eq(ioctl(tap_fd(p[2]), TUNGETVNETHDRSZ, &len), 0);
	cr_assert_eq(len, 10);
	p[2]->ops->destroy(p[2]);
}

Test(tap, makes_one_with_several_queues)
{
	struct net_port *p[4];

	cr_assert_eq(tap_open(p, 4, &(struct tap_config){.ifname = "rl0"}, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < 4; i++)
		p[i]->ops->destroy(p[i]);
	cr_assert_not(if_nametoindex("rl0"));
}

static void expect_refused(const char *ifname, unsigned npairs, int rc, const char *words)
{
	struct net_port *p[4];

	cr_assert_eq(tap_open(p, npairs, &(struct tap_config){.ifname = ifname}, &e), rc, "%s", e.text);
	cr_assert(strstr(e.text, words), "%s", e.text);
}

Test(tap, says_that_one_is_in_use)
{
	struct net_port *p = open_one("rl0");

	expect_refused("rl0", 1, -EBUSY, "in use by another program");
	p->ops->destroy(p);
}

Test(tap, says_that_one_was_made_for_one_queue)
{
	make_persistent("rl0", IFF_TAP);
	expect_refused("rl0", 2, -EINVAL, "made without multi_queue");
}

Test(tap, says_that_it_is_no_tap)
{
	make_persistent("rl0", IFF_TUN);
	expect_refused("rl0", 1, -EINVAL, "no tap but tun");
	expect_refused("lo", 1, -EINVAL, "no tap");
}

Test(tap, says_that_a_name_is_too_long)
{
	expect_refused("a123456789abcdef", 1, -EINVAL, "longer than 15");
}

Test(tap, says_what_to_run_when_it_is_not_permitted)
{
	make_persistent("rl0", IFF_TAP);
	drop_net_admin();
	expect_refused("rl1", 1, -EPERM, "sudo ip tuntap add dev rl1 mode tap user $USER &&");
	expect_refused("rl1", 2, -EPERM, "multi_queue");
}

Test(tap, its_owner_needs_no_privileges)
{
	struct net_port *p;
	int fd = open("/dev/net/tun", O_RDWR);
	struct ifreq ifr = {.ifr_name = "rl0", .ifr_flags = IFF_TAP | IFF_NO_PI};

	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	cr_assert_eq(ioctl(fd, TUNSETOWNER, 0), 0);
	cr_assert_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	drop_net_admin();
	p = open_one("rl0");
	cr_assert_eq(p->ops->set_features(p, guest_offloads, HDR), 0);
	cr_assert_eq(p->ops->set_features(p, 0, HDR), 0);
	p->ops->destroy(p);
}

static int raw_tap(int flags)
{
	struct ifreq ifr = {.ifr_name = "rl%d", .ifr_flags = (short)flags};
	int fd = open("/dev/net/tun", O_RDWR);

	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

Test(tap, takes_one_that_is_open)
{
	struct net_port *p;
	int fd = raw_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

	cr_assert_eq(tap_open(&p, 1, &(struct tap_config){.fds = &fd, .nfds = 1}, &e), 0, "%s", e.text);
	cr_assert_str_eq(tap_name(p), "rl0");
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	p->ops->destroy(p);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

static void expect_fd_refused(int fd, const char *words)
{
	struct net_port *p;

	cr_assert_lt(tap_open(&p, 1, &(struct tap_config){.fds = &fd, .nfds = 1}, &e), 0);
	cr_assert(strstr(e.text, words), "%s", e.text);
}

Test(tap, says_what_is_wrong_with_a_descriptor)
{
	int fds[2] = {raw_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), -1};
	struct net_port *p[2];

	expect_fd_refused(-1, "not open");
	expect_fd_refused(open("/dev/null", O_RDWR), "no tap");
	expect_fd_refused(open("/dev/net/tun", O_RDWR), "not attached");
	expect_fd_refused(raw_tap(IFF_TAP | IFF_NO_PI), "without IFF_VNET_HDR");
	expect_fd_refused(raw_tap(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR), "without IFF_TAP");
	cr_assert_eq(tap_open(p, 2, &(struct tap_config){.fds = fds, .nfds = 1}, &e), -EINVAL);
	cr_assert_eq(tap_open(p, 2, &(struct tap_config){.fds = fds, .nfds = 2}, &e), -EBADF);
	cr_assert_neq(fcntl(fds[0], F_GETFD), -1); /* still the caller's */
}

/* --- frames --- */

struct owner {
	struct evloop *loop;
	unsigned readable, gone;
	int err;
};

static void on_readable(void *opaque)
{
	struct owner *o = opaque;

	o->readable++;
	evloop_quit(o->loop, 0);
}

static void on_gone(void *opaque, int err)
{
	struct owner *o = opaque;

	o->gone++;
	o->err = err;
	evloop_quit(o->loop, 0);
}

static struct net_port *attach(struct owner *o, struct net_port *p)
{
	*o = (struct owner){.loop = evloop_new()};
	p->readable = on_readable;
	p->gone = on_gone;
	p->opaque = o;
	cr_assert_eq(p->ops->set_features(p, 0, HDR), 0);
	cr_assert_eq(p->ops->attach(p, o->loop), 0);
	return p;
}

static void done(struct owner *o, struct net_port *p)
{
	p->ops->detach(p);
	p->ops->destroy(p);
	evloop_free(o->loop);
}

Test(tap, sends_frames_byte_for_byte)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	int fd = packet_socket("rl0");
	uint8_t frame[HDR + 1514] = {0}, got[2000];
	struct iovec iov[] = {{frame, 5}, {frame + 5, 100}, {NULL, 0}, {frame + 105, sizeof(frame) - 105}};

	fill(frame + HDR, 1514, 3);
	cr_assert_eq(p->ops->send(p, iov, 4), (ssize_t)sizeof(frame));
	cr_assert_eq(socket_recv(fd, got, sizeof(got)), 1514);
	cr_assert_eq(memcmp(got, frame + HDR, 1514), 0);
	close(fd);
	done(&o, p);
}

/* The next frame of ours; others (the host says hello on a new interface) are passed over. */
static ssize_t receive(struct owner *o, struct net_port *p, const struct iovec *iov, int n)
{
	for (;;) {
		ssize_t len;
		uint8_t head[HDR + 14];

		p->ops->recv_enable(p, true);
		evloop_run(o->loop);
		p->ops->recv_enable(p, false);
		len = p->ops->recv(p, iov, n);
		if (len < (ssize_t)sizeof(head))
			continue;
		for (size_t i = 0, k = 0; i < sizeof(head); k++)
			for (size_t b = 0; b < iov[k].iov_len && i < sizeof(head); b++)
				head[i++] = ((uint8_t *)iov[k].iov_base)[b];
		if (head[HDR + 12] == ETH_P_OUR >> 8 && head[HDR + 13] == (ETH_P_OUR & 0xff))
			return len;
	}
}

Test(tap, receives_frames_byte_for_byte)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	int fd = packet_socket("rl0");
	uint8_t frame[1000], got[2000] = {0};
	struct iovec iov[] = {{got, 7}, {got + 7, 300}, {got + 307, sizeof(got) - 307}};
	ssize_t len;

	fill(frame, sizeof(frame), 5);
	cr_assert_eq(send(fd, frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
	cr_assert_eq(receive(&o, p, iov, 3), (ssize_t)(HDR + sizeof(frame)));
	cr_assert_eq(memcmp(got + HDR, frame, sizeof(frame)), 0);
	while ((len = p->ops->recv(p, iov, 3)) >= 0) /* the host may have said something */
		;
	cr_assert_eq(len, -EAGAIN);
	close(fd);
	done(&o, p);
}

Test(tap, is_quiet_until_receiving_is_enabled)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	int fd = packet_socket("rl0");
	uint8_t frame[100];

	fill(frame, sizeof(frame), 5);
	cr_assert_eq(send(fd, frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
	evloop_quit(o.loop, 0);
	evloop_run(o.loop);
	cr_assert_eq(o.readable, 0);
	p->ops->recv_enable(p, true);
	evloop_run(o.loop);
	evloop_run(o.loop); /* level, not edge */
	cr_assert_eq(o.readable, 2);
	close(fd);
	done(&o, p);
}

Test(tap, a_header_of_nonsense_loses_that_frame_only)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 60000, .csum_offset = 60000},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 0},
		{.gso_type = 0x7f, .gso_size = 1},
		{.hdr_len = 65535},
	};
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	int fd = packet_socket("rl0");
	uint8_t frame[HDR + 200], got[300];
	struct iovec iov = {frame, sizeof(frame)};

	fill(frame + HDR, 200, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		memcpy(frame, &bad[i], HDR);
		cr_assert_eq(p->ops->send(p, &iov, 1), -EINVAL, "%u", i);
	}
	memset(frame, 0, HDR);
	cr_assert_eq(p->ops->send(p, &iov, 1), (ssize_t)sizeof(frame));
	cr_assert_eq(socket_recv(fd, got, sizeof(got)), 200);
	cr_assert_eq(o.gone, 0);
	close(fd);
	done(&o, p);
}

Test(tap, a_tap_that_is_down_loses_frames_and_recovers)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	uint8_t frame[HDR + 200] = {0};
	struct iovec iov = {frame, sizeof(frame)};
	struct ifreq ifr = if_get(SIOCGIFFLAGS, "rl0");
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	fill(frame + HDR, 200, 1);
	ifr.ifr_flags &= ~IFF_UP;
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	cr_assert_eq(p->ops->send(p, &iov, 1), -EIO);
	ifr.ifr_flags |= IFF_UP;
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	cr_assert_eq(p->ops->send(p, &iov, 1), (ssize_t)sizeof(frame));
	cr_assert_eq(o.gone, 0);
	close(fd);
	done(&o, p);
}

Test(tap, a_tap_that_is_deleted_is_told_once)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	uint8_t frame[HDR + 200] = {0};
	struct iovec iov = {frame, sizeof(frame)};

	p->ops->recv_enable(p, true);
	cr_expect(tap_alive(p));
	if_delete("rl0");
	while (!o.gone)
		evloop_run(o.loop);
	cr_assert_eq(o.gone, 1);
	cr_assert_eq(o.err, -EBADFD);
	cr_expect_not(tap_alive(p));
	cr_assert_eq(p->ops->send(p, &iov, 1), -EBADFD);
	p->ops->recv_enable(p, true);
	cr_assert_eq(o.gone, 1);
	done(&o, p);
}

Test(tap, sending_finds_out_that_a_tap_was_deleted)
{
	struct owner o;
	struct net_port *p = attach(&o, open_one("rl0"));
	uint8_t frame[HDR + 200] = {0};
	struct iovec iov = {frame, sizeof(frame)};

	if_delete("rl0");
	cr_assert_eq(p->ops->send(p, &iov, 1), -EBADFD);
	cr_assert_eq(o.gone, 1);
	done(&o, p);
}

/* --- offloads, as the host sees them --- */

static unsigned host_feature(const char *name, unsigned request)
{
	struct {
		uint32_t cmd, data;
	} value = {.cmd = request};
	struct ifreq ifr = {.ifr_data = (void *)&value};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, name);
	cr_assert_eq(ioctl(fd, 0x8946 /* SIOCETHTOOL */, &ifr), 0);
	close(fd);
	return value.data;
}

#define GTXCSUM 0x16
#define GTSO    0x1e

Test(tap, offloads_are_off_until_accepted_and_after_reset)
{
	struct net_port *p = open_one("rl0");

	cr_assert_eq(host_feature("rl0", GTXCSUM), 0);
	cr_assert_eq(host_feature("rl0", GTSO), 0);
	cr_assert_eq(p->ops->set_features(p, BIT(VIRTIO_NET_F_GUEST_CSUM), HDR), 0);
	cr_assert_eq(host_feature("rl0", GTXCSUM), 1);
	cr_assert_eq(host_feature("rl0", GTSO), 0);
	cr_assert_eq(p->ops->set_features(p, guest_offloads, HDR), 0);
	cr_assert_eq(host_feature("rl0", GTSO), 1);
	cr_assert_eq(p->ops->set_features(p, p->ops->features(p), HDR), 0);
	cr_assert_eq(p->ops->set_features(p, guest_offloads | BIT(VIRTIO_NET_F_GUEST_USO4), HDR), 0);
	cr_assert_eq(p->ops->set_features(p, 0, HDR), 0);
	cr_assert_eq(host_feature("rl0", GTXCSUM), 0);
	p->ops->destroy(p);
}

/* --- under the device --- */

/* A guest's frame to be segmented comes out of the tap in one piece, and a host's goes in likewise; both
 * taps and the device between: what a port is for. */
Test(tap, carries_frames_for_the_device)
{
	struct net_rig r;
	struct net_port *p = open_one("rl0");
	struct evloop *loops[1];
	struct driver_buf b;
	uint8_t frame[HDR + 600] = {0}, got[2000];
	struct virtio_device *dev;
	int fd = packet_socket("rl0");

	net_rig_init(&r);
	loops[0] = r.loop;
	r.config.loops = loops;
	r.config.ports = &p;
	dev = net_new(&r.config, &e);
	cr_assert(dev, "%s", e.text);
	r.dev = dev;
	fake_transport_init(&r.transport, dev);
	net_rig_start(&r, guest_offloads | BIT(VIRTIO_NET_F_MRG_RXBUF));
	fill(frame + HDR, 600, 9);
	b = (struct driver_buf){net_rig_buffer(&r, frame, sizeof(frame)), sizeof(frame), false};
	driver_ring_add(&r.ring[1], &b, 1);
	net_rig_kick(&r, 1);
	net_rig_turn(&r);
	cr_assert_eq(socket_recv(fd, got, sizeof(got)), 600);
	cr_assert_eq(memcmp(got, frame + HDR, 600), 0);

	net_rig_give_buffers(&r, 0, 60, 128);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(send(fd, frame + HDR, 600, 0), 600);
	net_rig_settle(&r);
	cr_assert_geq(net_counters(dev, 0)->rx_frames, 3);

	if_delete("rl0");
	net_rig_settle(&r);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_eq(r.transport.config_irqs, 1);
	close(fd);
	net_rig_fini(&r);
}
