/* The user-mode network as a source of frames: DHCP, DNS, and the host's own sockets for everything the
 * guest sends out.  No privileges, no set-up.  The work is done by libslirp in a process of its own. */
#ifndef BACKENDS_USER_NET_H
#define BACKENDS_USER_NET_H
#include <stdint.h>
#include <sys/types.h>

#include "backends/slirp_config.h"
#include "devices/net/net_port.h"
#include "lib/err.h"

struct user_net_stats {                 /* by the loop's thread */
	uint64_t tx_frames, tx_dropped; /* from the guest */
	uint64_t rx_frames, rx_dropped; /* to the guest; dropped: larger than its buffers */
	uint64_t syscalls;
};

/* Starts the helper and waits, for 5 s at most, until the network is up and the forwarded ports are
 * listening.  On a thread that lives as long as the port: when it ends, the kernel ends the helper.
 * NULL with a sentence in e.
 *
 * Of the port: features() is VIRTIO_NET_F_GUEST_CSUM.  send() queues; commit() is one system call for a
 * burst, and drops what the helper has no room for, as a wire would.  The other way nothing is dropped:
 * the helper waits.  gone(-EPIPE) when the helper has ended, also if that happened before attach();
 * send() and recv() return -EPIPE from then on. */
struct net_port *user_net_new(const struct user_net_config *cfg, struct err *e);
/* The same with the socket of a process that has been started elsewhere (slirp_process_lend()): ours on
 * success. */
struct net_port *user_net_adopt(const struct user_net_config *cfg, int fd, struct err *e);

pid_t user_net_helper(const struct net_port *p); /* 0 when it has ended */
const struct user_net_stats *user_net_stats(const struct net_port *p);
#endif
