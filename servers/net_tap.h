/* One front end and a tap (or whatever else is a net_port), a queue pair to each of its queues. */
#ifndef SERVERS_NET_TAP_H
#define SERVERS_NET_TAP_H
#include "servers/net_link.h"

struct net_port;
struct net_tap;

/* port[c->npairs] stay the caller's, and outlive it.  Side 1 of c is not looked at.  Any thread.  0, or -errno
 * with a sentence in e. */
int net_tap_new(struct net_tap **out, const struct net_link_config *c, struct net_port *const *port,
		struct err *e);
void net_tap_free(struct net_tap *t); /* NULL is fine */
struct server *net_tap_server(const struct net_tap *t);
/* To the tap, and from it.  Any thread. */
void net_tap_counts(const struct net_tap *t, struct net_counts *out, struct net_counts *in);
#endif
