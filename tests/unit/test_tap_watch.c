/* News of interfaces: they come, and a thread that may make no sockets goes round with those made beforehand.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/tap_watch.h"
#include "lib/confine.h"
#include "tests/unit/open_fds.h"

TestSuite(tap_watch, .timeout = 60);

static unsigned looks;
static int tap = -1;
static bool gone;

static void on_look(void *opaque)
{
	looks++;
	if (tap >= 0 && tap_fd_gone(tap)) {
		gone = true;
		evloop_quit(opaque, 0);
	}
}

/* A namespace with one tap, as `ip tuntap add` makes it, or the test ends as skipped. */
static void make_tap(void)
{
	struct ifreq ifr = {.ifr_name = "watched", .ifr_flags = IFF_TAP | IFF_NO_PI};

	if (unshare(CLONE_NEWNET))
		cr_skip_test("unshare(CLONE_NEWNET): %s (needs root)", strerror(errno));
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tap < 0)
		cr_skip_test("/dev/net/tun: %s", strerror(errno));
	cr_assert_eq(ioctl(tap, TUNSETIFF, &ifr), 0);
}

static void remove_tap(void)
{
	cr_assert_eq(system("ip link delete watched"), 0);
}

Test(tap_watch, an_interface_that_goes_is_seen)
{
	struct evloop *loop = evloop_new();
	struct tap_watch w = {.loop = loop, .look = on_look, .opaque = loop};
	const unsigned fds = open_fds();

	make_tap();
	tap_watch_start(&w);
	cr_assert_eq(looks, 1);
	cr_assert_not(gone);
	remove_tap();
	evloop_run(loop);
	cr_expect(gone);
	tap_watch_stop(&w);
	close(tap);
	cr_expect_eq(open_fds(), fds);
	evloop_free(loop);
}

Test(tap_watch, one_that_went_before_is_seen_at_once)
{
	struct evloop *loop = evloop_new();
	struct tap_watch w = {.loop = loop, .look = on_look, .opaque = loop};

	make_tap();
	remove_tap();
	tap_watch_start(&w);
	cr_expect(gone);
	tap_watch_stop(&w);
	evloop_free(loop);
}

Test(tap_watch, nothing_is_made_beforehand_for_who_may_make_sockets)
{
	const unsigned fds = open_fds();

	tap_watch_reserve();
	cr_expect_eq(open_fds(), fds);
}

/* In a process of its own, as confinement is for good.  0: as it should be. */
static int in_confinement(struct evloop *loop)
{
	struct tap_watch w[3];
	struct err e = {0};
	unsigned heard;

	if (confine_begin(NULL, &e))
		return 10;
	tap_watch_reserve();
	tap_watch_reserve();
	if (confine_thread(THREAD_DATA, &e))
		return 11;
	for (unsigned round = 0; round < 100; round++) {
		heard = 0;
		for (unsigned i = 0; i < 3; i++) {
			w[i] = (struct tap_watch){.loop = loop, .look = on_look, .opaque = loop};
			tap_watch_start(&w[i]);
			heard += w[i].on;
		}
		if (heard != 2)
			return 12;
		for (unsigned i = 0; i < 3; i++)
			tap_watch_stop(&w[i]);
	}
	return looks == 300 ? 0 : 13;
}

Test(tap_watch, sockets_made_beforehand_go_round)
{
	struct evloop *loop = evloop_new();
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(in_confinement(loop));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "status %#x", (unsigned)status);
	evloop_free(loop);
}
