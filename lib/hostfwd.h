/* One forwarded port of the user-mode network, as the user writes it:
 *   tcp|udp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT
 * e.g. tcp::2222-:22, udp:127.0.0.1:5353-10.0.2.15:53, tcp:[::1]:8080-:80.  IPv6 goes in brackets. */
#ifndef LIB_HOSTFWD_H
#define LIB_HOSTFWD_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

union hostfwd_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct user_net_fwd {
	bool udp;
	union hostfwd_addr host; /* where to listen; the any address where none was given */
	union hostfwd_addr
		guest; /* the any address: the guest's first (DHCP), or the one it announced (IPv6) */
};

/* Pure.  Ports are 1 to 65535; both addresses are of one family, IPv4 where neither was given.
 * 0, or -EINVAL with a sentence that quotes text. */
int user_net_parse_hostfwd(const char *text, struct user_net_fwd *out, struct err *e);

/* "10.0.2.15:22" or "[::1]:80" in buf; returns buf. */
#define HOSTFWD_ADDR_LEN (INET6_ADDRSTRLEN + sizeof("[]:65535"))
const char *hostfwd_addr_text(const union hostfwd_addr *a, char *buf, size_t size);
#endif
