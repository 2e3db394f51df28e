/* A tap: frames to and from the host's network stack, through /dev/net/tun.  The virtio-net header goes to the
 * kernel and comes from it as it is, so frames that are yet to be segmented or checksummed cross whole. */
#ifndef BACKENDS_TAP_H
#define BACKENDS_TAP_H
#include <stdint.h>

#include "devices/net/net_port.h"
#include "lib/err.h"

struct tap_config {
	const char *ifname; /* NULL or "": the kernel chooses a name, tap0, tap1, ... */
	const int *fds;     /* instead of ifname: [nfds] open taps, one a pair; or NULL */
	unsigned nfds;
	uint16_t mtu; /* 0: as it is.  Set where we may: on a tap made here */
};

/* Makes the tap, or opens one made beforehand (by its owner without privileges: ip tuntap add dev NAME mode
 * tap user NAME), with npairs queues.  One that is made here is brought up, and goes with the last port; of
 * another nothing stays changed.  port[] gets npairs ports, for net_config.ports.  Offloads are off and all
 * queues attached until set_features and set_active.
 * 0, or -errno with a sentence in e that says what to run; fds are then still the caller's. */
int tap_open(struct net_port **port, unsigned npairs, const struct tap_config *c, struct err *e);

const char *tap_name(const struct net_port *port);
/* Is its interface still there?  Any thread. */
bool tap_alive(const struct net_port *port);
int tap_fd(const struct net_port *port); /* borrowed: for vhost-net */
#endif
