#include "lib/hostfwd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NO_ADDR = AF_UNSPEC };

/* Digits up to `end`: 1 to 65535, or 0. */
static unsigned parse_port(const char *p, const char *end)
{
	unsigned port = 0;

	if (p == end || end - p > 5)
		return 0;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return 0;
		port = port * 10 + (unsigned)(*p - '0');
	}
	return port <= UINT16_MAX ? port : 0;
}

/* "", "1.2.3.4" or "[::1]" up to `end`.  The family, or -1. */
static int parse_addr(const char *p, const char *end, union hostfwd_addr *out)
{
	bool brackets = end - p >= 2 && *p == '[' && end[-1] == ']';
	char text[INET6_ADDRSTRLEN];
	size_t len;

	if (p == end)
		return NO_ADDR;
	if (brackets) {
		p++;
		end--;
	}
	len = (size_t)(end - p);
	if (len >= sizeof(text))
		return -1;
	memcpy(text, p, len);
	text[len] = '\0';
	if (brackets)
		return inet_pton(AF_INET6, text, &out->in6.sin6_addr) == 1 ? AF_INET6 : -1;
	return inet_pton(AF_INET, text, &out->in.sin_addr) == 1 ? AF_INET : -1;
}

/* Where the address that starts at p ends: at a colon outside brackets.  NULL: nowhere. */
static const char *addr_end(const char *p, const char *end)
{
	if (p < end && *p == '[') {
		p = memchr(p, ']', (size_t)(end - p));
		if (!p)
			return NULL;
	}
	return memchr(p, ':', (size_t)(end - p));
}

struct side {
	const char *name;
	int family;
	unsigned port;
	union hostfwd_addr addr;
};

static int parse_side(const char *text, const char *p, const char *end, struct side *s, struct err *e)
{
	const char *colon = addr_end(p, end);

	if (!colon)
		return err_set(e, -EINVAL, "'%s': the %s's side '%.*s' should be [ADDRESS]:PORT", text, s->name,
			       (int)(end - p), p);
	s->family = parse_addr(p, colon, &s->addr);
	if (s->family < 0)
		return err_set(e, -EINVAL,
			       "'%s': the %s's address '%.*s' is neither IPv4 (127.0.0.1) nor IPv6 in brackets "
			       "([::1])",
			       text, s->name, (int)(colon - p), p);
	s->port = parse_port(colon + 1, end);
	if (!s->port)
		return err_set(e, -EINVAL, "'%s': the %s's port '%.*s' should be a number from 1 to 65535",
			       text, s->name, (int)(end - colon - 1), colon + 1);
	return 0;
}

static void finish(struct side *s, int family, union hostfwd_addr *out)
{
	*out = s->addr;
	out->sa.sa_family = (sa_family_t)family;
	if (family == AF_INET6)
		out->in6.sin6_port = htons((uint16_t)s->port);
	else
		out->in.sin_port = htons((uint16_t)s->port);
}

int user_net_parse_hostfwd(const char *text, struct user_net_fwd *out, struct err *e)
{
	struct side host = {.name = "host"}, guest = {.name = "guest"};
	const char *colon = strchr(text, ':'), *dash = strchr(text, '-');
	int family, r;

	memset(out, 0, sizeof(*out));
	if (!colon || !dash || dash < colon)
		return err_set(
			e, -EINVAL,
			"'%s' should be tcp|udp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT, as in tcp::2222-:22",
			text);
	out->udp = colon - text == 3 && !strncmp(text, "udp", 3);
	if (!out->udp && !(colon - text == 3 && !strncmp(text, "tcp", 3)))
		return err_set(e, -EINVAL, "'%s': the protocol '%.*s' should be tcp or udp", text,
			       (int)(colon - text), text);
	r = parse_side(text, colon + 1, dash, &host, e);
	if (r)
		return r;
	r = parse_side(text, dash + 1, text + strlen(text), &guest, e);
	if (r)
		return r;
	family = host.family == NO_ADDR ? guest.family : host.family;
	if (family == NO_ADDR)
		family = AF_INET;
	if (guest.family != NO_ADDR && guest.family != family)
		return err_set(e, -EINVAL, "'%s': one address is IPv4 and the other IPv6", text);
	finish(&host, family, &out->host);
	finish(&guest, family, &out->guest);
	return 0;
}

const char *hostfwd_addr_text(const union hostfwd_addr *a, char *buf, size_t size)
{
	char text[INET6_ADDRSTRLEN];

	if (a->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text));
		snprintf(buf, size, "[%s]:%u", text, ntohs(a->in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof(text));
		snprintf(buf, size, "%s:%u", text, ntohs(a->in.sin_port));
	}
	return buf;
}
