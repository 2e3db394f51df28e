#include "backends/slirp_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

static struct in_addr ipv4(const char *text)
{
	struct in_addr a = {0};

	inet_pton(AF_INET, text, &a);
	return a;
}

static struct in6_addr ipv6(const char *text)
{
	struct in6_addr a = {0};

	inet_pton(AF_INET6, text, &a);
	return a;
}

void user_net_config_init(struct user_net_config *cfg)
{
	*cfg = (struct user_net_config){
		.ipv4 = true,
		.ipv6 = true,
		.net = ipv4("10.0.2.0"),
		.mask = ipv4("255.255.255.0"),
		.host = ipv4("10.0.2.2"),
		.dns = ipv4("10.0.2.3"),
		.dhcp_start = ipv4("10.0.2.15"),
		.prefix6 = ipv6("fec0::"),
		.host6 = ipv6("fec0::2"),
		.dns6 = ipv6("fec0::3"),
		.prefix6_len = 64,
		.mtu = 1500,
	};
}

static const char *text4(struct in_addr a, char buf[static INET_ADDRSTRLEN])
{
	return inet_ntop(AF_INET, &a, buf, INET_ADDRSTRLEN);
}

static int check_in_net(const struct user_net_config *cfg, const char *what, struct in_addr a, struct err *e)
{
	uint32_t mask = ntohl(cfg->mask.s_addr), net = ntohl(cfg->net.s_addr), addr = ntohl(a.s_addr);
	char t[INET_ADDRSTRLEN], n[INET_ADDRSTRLEN];

	if ((addr & mask) != net || addr == net || (addr | mask) == UINT32_MAX)
		return err_set(e, -EINVAL, "%s %s is not an address for a host of the network %s/%d", what,
			       text4(a, t), text4(cfg->net, n), __builtin_popcount(mask));
	return 0;
}

static int check_ipv4(const struct user_net_config *cfg, struct err *e)
{
	uint32_t mask = ntohl(cfg->mask.s_addr);
	char t[INET_ADDRSTRLEN];
	int r;

	if (!mask || (~mask & (~mask + 1)) || __builtin_popcount(mask) > 29)
		return err_set(e, -EINVAL, "%s is not the mask of an IPv4 network of 8 addresses or more",
			       text4(cfg->mask, t));
	if (cfg->net.s_addr & ~cfg->mask.s_addr)
		return err_set(e, -EINVAL, "the network %s has bits set past its prefix", text4(cfg->net, t));
	r = check_in_net(cfg, "the gateway", cfg->host, e);
	if (!r)
		r = check_in_net(cfg, "the name server", cfg->dns, e);
	if (!r)
		r = check_in_net(cfg, "the first DHCP address", cfg->dhcp_start, e);
	if (r)
		return r;
	if (cfg->host.s_addr == cfg->dns.s_addr || cfg->host.s_addr == cfg->dhcp_start.s_addr ||
	    cfg->dns.s_addr == cfg->dhcp_start.s_addr)
		return err_set(e, -EINVAL, "gateway, name server and first DHCP address must differ");
	return 0;
}

static bool in_prefix6(const struct user_net_config *cfg, const struct in6_addr *a)
{
	unsigned bytes = cfg->prefix6_len / 8, bits = cfg->prefix6_len % 8;

	return !memcmp(a, &cfg->prefix6, bytes) &&
	       (!bits || !((a->s6_addr[bytes] ^ cfg->prefix6.s6_addr[bytes]) >> (8 - bits)));
}

static int check_ipv6(const struct user_net_config *cfg, struct err *e)
{
	if (cfg->prefix6_len < 1 || cfg->prefix6_len > 126)
		return err_set(e, -EINVAL, "an IPv6 prefix of %u bits: should be 1 to 126", cfg->prefix6_len);
	if (!in_prefix6(cfg, &cfg->host6) || !in_prefix6(cfg, &cfg->dns6))
		return err_set(e, -EINVAL, "the IPv6 gateway or name server is outside the IPv6 network");
	if (IN6_ARE_ADDR_EQUAL(&cfg->host6, &cfg->dns6))
		return err_set(e, -EINVAL, "IPv6 gateway and name server must differ");
	if (cfg->mtu < USER_NET_MIN_MTU6)
		return err_set(e, -EINVAL, "an MTU of %u is too small for IPv6, which needs %d", cfg->mtu,
			       USER_NET_MIN_MTU6);
	return 0;
}

int user_net_config_check(const struct user_net_config *cfg, struct err *e)
{
	int r = 0;

	if (cfg->mtu < USER_NET_MIN_MTU || cfg->mtu > USER_NET_MAX_MTU)
		return err_set(e, -EINVAL, "an MTU of %u: should be %d to %d", cfg->mtu, USER_NET_MIN_MTU,
			       USER_NET_MAX_MTU);
	if (!cfg->ipv4 && !cfg->ipv6)
		return err_set(e, -EINVAL, "a network with neither IPv4 nor IPv6");
	if (cfg->ipv4)
		r = check_ipv4(cfg, e);
	if (!r && cfg->ipv6)
		r = check_ipv6(cfg, e);
	if (r)
		return r;
	if (cfg->nfwd > USER_NET_MAX_FWDS || cfg->nsearch > USER_NET_MAX_SEARCH)
		return err_set(e, -EINVAL, "at most %d forwarded ports and %d search domains",
			       USER_NET_MAX_FWDS, USER_NET_MAX_SEARCH);
	for (unsigned i = 0; i < cfg->nfwd; i++) {
		bool six = cfg->fwd[i].host.sa.sa_family == AF_INET6;
		char t[HOSTFWD_ADDR_LEN];

		if (six ? !cfg->ipv6 : !cfg->ipv4)
			return err_set(e, -EINVAL, "port %s is forwarded by IPv%d, which is off",
				       hostfwd_addr_text(&cfg->fwd[i].host, t, sizeof(t)), six ? 6 : 4);
	}
	return 0;
}
