/* Generic netlink: a request, an acknowledgement. */
/* #syscalls[server]: socket sendto recvfrom setsockopt openat setns close */
#include "servers/vdpa_netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/vdpa.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"

#define MANAGER  "vduse" /* the management device of all of them */
#define ATTR_HDR sizeof(struct nlattr)

static size_t align(size_t len)
{
	return (len + NLA_ALIGNTO - 1) & ~(size_t)(NLA_ALIGNTO - 1);
}

struct message {
	struct nlmsghdr nl;
	struct genlmsghdr genl;
	char attrs[1024];
};

static void begin(struct message *m, uint16_t family, uint8_t command)
{
	*m = (struct message){
		.nl = {.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN),
		       .nlmsg_type = family,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		       .nlmsg_seq = 1},
		.genl = {.cmd = command, .version = 1},
	};
}

/* Names are bounded by who calls, so there is room. */
static void put_text(struct message *m, uint16_t type, const char *text)
{
	const size_t len = strlen(text) + 1;
	struct nlattr *a = (struct nlattr *)(void *)((char *)m + m->nl.nlmsg_len);

	a->nla_type = type;
	a->nla_len = (uint16_t)(ATTR_HDR + len);
	memcpy((char *)a + ATTR_HDR, text, len);
	m->nl.nlmsg_len += (uint32_t)align(a->nla_len);
}

/* The attribute of that type among len bytes of them, and how much is in it; NULL: there is none. */
static const void *find(const char *at, size_t len, uint16_t type, size_t *n)
{
	while (len >= ATTR_HDR) {
		const struct nlattr *a = (const struct nlattr *)(const void *)at;
		const size_t whole = align(a->nla_len);

		if (a->nla_len < ATTR_HDR || a->nla_len > len)
			return NULL;
		if ((a->nla_type & NLA_TYPE_MASK) == type) {
			*n = a->nla_len - ATTR_HDR;
			return at + ATTR_HDR;
		}
		if (whole >= len)
			return NULL;
		at += whole;
		len -= whole;
	}
	return NULL;
}

/* What the kernel adds in words to an error. */
static void explain(const struct nlmsghdr *h, char *why, size_t len)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	const char *text;
	size_t skip = sizeof(*e), n;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += e->msg.nlmsg_len - (size_t)NLMSG_HDRLEN;
	if (NLMSG_LENGTH(skip) >= h->nlmsg_len)
		return;
	text = find((const char *)e + skip, h->nlmsg_len - (size_t)NLMSG_LENGTH(skip), NLMSGERR_ATTR_MSG, &n);
	if (text)
		snprintf(why, len, "%.*s", (int)n, text);
}

/* Sends m and reads to its acknowledgement.  family: where the answer's CTRL_ATTR_FAMILY_ID goes, or NULL. */
static int ask(int fd, const struct message *m, uint16_t *family, char *why, size_t len)
{
	static _Thread_local char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));

	if (send(fd, m, m->nl.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t got = recv(fd, buf, sizeof(buf), 0);
		const struct nlmsghdr *h = (const struct nlmsghdr *)(void *)buf;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		for (size_t left = (size_t)got; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			const void *id;
			size_t n;

			if (h->nlmsg_type == NLMSG_ERROR) {
				explain(h, why, len);
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			}
			if (!family || h->nlmsg_len < NLMSG_LENGTH(GENL_HDRLEN))
				continue;
			id = find((const char *)NLMSG_DATA(h) + GENL_HDRLEN,
				  h->nlmsg_len - (size_t)NLMSG_LENGTH(GENL_HDRLEN), CTRL_ATTR_FAMILY_ID, &n);
			if (id && n == sizeof(*family))
				memcpy(family, id, n);
		}
	}
}

static int find_family(int fd, uint16_t *family)
{
	struct message m;
	char why[8];
	int rc;

	begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	put_text(&m, CTRL_ATTR_FAMILY_NAME, VDPA_GENL_NAME);
	rc = ask(fd, &m, family, why, sizeof(why));
	return rc == -ENOENT || (!rc && !*family) ? -EOPNOTSUPP : rc;
}

static int open_socket(int *fd, uint16_t *family)
{
	*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	return *fd < 0 ? -errno : find_family(*fd, family);
}

/* The kernel speaks of vDPA in its first network namespace only, and a socket stays where it was made.  Who has
 * put us into another one, and process numbers of our own, says where the first is. */
static int open_outside(int *fd, uint16_t *family)
{
	const char *said = getenv("RINGLET_HOST_NETNS");
	CLEANUP_FD int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int first = open(said ? said : "/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	int rc;

	if (here < 0 || first < 0 || setns(first, CLONE_NEWNET))
		return -EOPNOTSUPP;
	close(*fd);
	rc = open_socket(fd, family);
	return setns(here, CLONE_NEWNET) ? -errno : rc;
}

static int command(uint8_t what, const char *name, char *why, size_t len)
{
	CLEANUP_FD int fd = -1;
	const int on = 1;
	uint16_t family = 0;
	struct message m;
	int rc;

	if (len)
		*why = '\0';
	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	rc = open_socket(&fd, &family);
	if (rc == -EOPNOTSUPP)
		rc = open_outside(&fd, &family);
	if (rc)
		return rc;
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)); /* words are a convenience */
	begin(&m, family, what);
	if (what == VDPA_CMD_DEV_NEW)
		put_text(&m, VDPA_ATTR_MGMTDEV_DEV_NAME, MANAGER);
	put_text(&m, VDPA_ATTR_DEV_NAME, name);
	return ask(fd, &m, NULL, why, len);
}

int vdpa_dev_add(const char *name, char *why, size_t len)
{
	return command(VDPA_CMD_DEV_NEW, name, why, len);
}

int vdpa_dev_del(const char *name, char *why, size_t len)
{
	return command(VDPA_CMD_DEV_DEL, name, why, len);
}
