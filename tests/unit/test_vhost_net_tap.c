/* The interface of a tap is removed while the kernel serves it: real taps, a vhost that is not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/tap.h"
#include "backends/vhost_net.h"
#include "tests/unit/vhost_rig.h"

#define NPAIRS 2

static struct net_port *port[NPAIRS];
static int tap[NPAIRS];
static _Atomic unsigned gone[NPAIRS];
static _Atomic int why;

static void on_gone(void *opaque, int err)
{
	_Atomic unsigned *n = opaque;

	why = err;
	(*n)++;
}

static void init(void)
{
	const struct tap_config two = {.ifname = "tap0"};
	struct vhost_net_config c = {.name = "net0", .taps = tap, .ports = port, .npairs = NPAIRS};

	if (unshare(CLONE_NEWNET))
		cr_skip_test("unshare(CLONE_NEWNET): %s (needs root)", strerror(errno));
	rig_init(VHOST_FAKE_NET, 2 * NPAIRS);
	cr_assert_eq(tap_open(port, NPAIRS, &two, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < NPAIRS; i++) {
		tap[i] = tap_fd(port[i]);
		port[i]->gone = on_gone;
		port[i]->opaque = &gone[i];
	}
	c.loop = thread.loop;
	dp = vhost_net_new(&c, &e);
	cr_assert(dp, "%s", e.text);
}

static void fini(void)
{
	destroy_datapath();
	for (unsigned i = 0; i < NPAIRS; i++)
		if (port[i])
			port[i]->ops->destroy(port[i]);
	port[0] = port[1] = NULL;
	teardown_once();
}

TestSuite(vhost_net_tap, .init = init, .fini = fini, .timeout = 60);

static void remove_interface(void)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} msg = {
		.h = {.nlmsg_len = sizeof(msg),
		      .nlmsg_type = RTM_DELLINK,
		      .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.i = {.ifi_index = (int)if_nametoindex("tap0")},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	char ack[256];

	cr_assert_eq(send(fd, &msg, sizeof(msg), 0), (ssize_t)sizeof(msg));
	cr_assert_gt(recv(fd, ack, sizeof(ack), 0), 0);
	close(fd);
	cr_assert_eq(if_nametoindex("tap0"), 0);
}

static bool told(void)
{
	for (unsigned i = 0; i < 2000 && !(gone[0] && gone[1]); i++)
		usleep(500);
	return gone[0] == 1 && gone[1] == 1;
}

WholeTest(vhost_net_tap, each_pair_is_told_once)
{
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(gone[0], 0);
	remove_interface();
	cr_expect(told());
	cr_expect_eq(why, -ENODEV);
	stop(&setup);
	cr_assert_eq(start(&setup), 0);
	stop(&setup);
	cr_expect(told(), "not again");
	fini();
}

WholeTest(vhost_net_tap, one_that_went_while_nobody_looked_is_seen_at_the_start)
{
	remove_interface();
	usleep(2000);
	cr_expect_eq(gone[0], 0);
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(gone[0], 1);
	stop(&setup);
	fini();
}

WholeTest(vhost_net_tap, what_becomes_of_other_interfaces_does_not_matter)
{
	struct net_port *other;

	cr_assert_eq(start(&setup), 0);
	cr_assert_eq(tap_open(&other, 1, &(struct tap_config){.ifname = "tap1"}, &e), 0, "%s", e.text);
	other->ops->destroy(other);
	usleep(5000);
	cr_expect_eq(gone[0] + gone[1], 0);
	remove_interface();
	cr_expect(told());
	stop(&setup);
	fini();
}

WholeTest(vhost_net_tap, nobody_is_told_after_the_stop)
{
	struct datapath_setup first = some(0, 2), second = some(2, 2);

	cr_assert_eq(start(&setup), 0);
	stop(&first);
	stop(&second);
	remove_interface();
	usleep(5000);
	cr_expect_eq(gone[0] + gone[1], 0);
	fini();
}

WholeTest(vhost_net_tap, a_pair_that_still_runs_is_told)
{
	struct datapath_setup first = some(0, 2), second = some(2, 2);

	cr_assert_eq(start(&setup), 0);
	stop(&first);
	remove_interface();
	cr_expect(told());
	stop(&second);
	fini();
}
