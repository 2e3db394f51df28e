/* What the user-mode network looks like to its guest, and the first two messages between the port
 * (user_net.c) and the helper process (slirp_helper.c). */
#ifndef BACKENDS_SLIRP_CONFIG_H
#define BACKENDS_SLIRP_CONFIG_H
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lib/err.h"
#include "lib/hostfwd.h"

#define USER_NET_MAX_FWDS   64
#define USER_NET_MAX_SEARCH 8
#define USER_NET_MIN_MTU    68
#define USER_NET_MIN_MTU6   1280
#define USER_NET_MAX_MTU    65521 /* libslirp's */

/* No pointers: it crosses a socket as it is. */
struct user_net_config {
	bool ipv4, ipv6;
	struct in_addr net, mask, host, dns; /* host: the gateway, which is this computer */
	struct in_addr dhcp_start;           /* the guest's */
	struct in6_addr prefix6, host6, dns6;
	unsigned prefix6_len;
	char hostname[33];                     /* told by DHCP; "": none */
	char domain[256];                      /* told by DHCP; "": none */
	char search[USER_NET_MAX_SEARCH][256]; /* domains told by DHCP and DHCPv6 */
	unsigned nsearch;
	unsigned mtu;     /* the guest's link has the same */
	bool restricted;  /* nothing but the forwarded ports gets in or out */
	bool no_loopback; /* the gateway's address does not lead to this computer's 127.0.0.1 */
	unsigned nfwd;
	struct user_net_fwd fwd[USER_NET_MAX_FWDS];
};

/* 10.0.2.0/24 (gateway .2, name server .3, guest .15), fec0::/64 (gateway ::2, name server ::3),
 * MTU 1500, everything reachable, nothing forwarded: what QEMU's guests find. */
void user_net_config_init(struct user_net_config *cfg);

/* 0, or -EINVAL with a sentence. */
int user_net_config_check(const struct user_net_config *cfg, struct err *e);

/* First message, to the helper; it answers with one struct err, whose code is 0 when the network is up.
 * All later messages, both ways, are Ethernet frames. */
struct slirp_hello {
	pid_t parent; /* it ends with this one; 0: with the socket alone */
	bool confined;
	struct user_net_config cfg;
};
#endif
