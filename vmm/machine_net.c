/* --net: the card, where its frames come from and go to, and who serves its queues. */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/null_port.h"
#include "backends/tap.h"
#include "backends/tap_watch.h"
#include "backends/user_net.h"
#include "backends/vhost_net.h"
#include "backends/vhost_user.h"
#include "backends/vhost_vdpa.h"
#include "devices/net/net.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"
#include "vmm/devices_parts.h"

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t hidden_net_bits(const struct net_options *o)
{
	uint64_t hidden = hidden_ring_bits(&o->virtio, true);

	if (!o->csum)
		hidden |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (!o->tso)
		hidden |= BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
			  BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
			  BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_ECN);
	if (!o->uso)
		hidden |= BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_GUEST_USO4) |
			  BIT(VIRTIO_NET_F_GUEST_USO6);
	if (!o->virtio.all_bits)
		hidden |= BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (!o->mrg_rxbuf)
		hidden |= BIT(VIRTIO_NET_F_MRG_RXBUF);
	return hidden;
}

static bool take(struct errand_fds *given, unsigned n, int *fd);

static int open_user(const struct net_options *o, struct errand_fds *given, struct net_port **port,
		     struct err *e)
{
	CLEANUP_FREE struct user_net_config *c = calloc(1, sizeof(*c));
	int rc, fd;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	user_net_config_init(c);
	if (o->mtu)
		c->mtu = o->mtu;
	for (unsigned i = 0; i < o->nhostfwd; i++) {
		rc = user_net_parse_hostfwd(o->hostfwd[i], &c->fwd[c->nfwd++], e);
		if (rc)
			return rc;
	}
	if (take(given, 1, &fd)) {
		*port = user_net_adopt(c, fd, e);
		if (!*port)
			close(fd);
	} else {
		*port = user_net_new(c, e);
	}
	return *port ? 0 : e->code;
}

/* n of those that came with the request; false: none came. */
static bool take(struct errand_fds *given, unsigned n, int *fd)
{
	if (!given || !given->n)
		return false;
	for (unsigned i = 0; i < n; i++)
		fd[i] = errand_take(given);
	return true;
}

static int open_tap(const struct net_options *o, unsigned npairs, struct errand_fds *given,
		    struct net_port **ports, struct err *e)
{
	int fd[CONFIG_MAX_QUEUES];
	const bool taken = take(given, npairs, fd);
	const struct tap_config c = {
		.ifname = o->ifname,
		.fds = taken        ? fd
		       : o->fd >= 0 ? &o->fd
				    : NULL,
		.nfds = taken ? npairs : o->fd >= 0,
		.mtu = o->mtu,
	};
	int rc = tap_open(ports, npairs, &c, e);

	for (unsigned i = 0; rc && taken && i < npairs; i++)
		close(fd[i]);
	return rc;
}

/* What a card works with; all of it is its own once it has it. */
struct served {
	struct net_port *port[CONFIG_MAX_QUEUES];
	bool own_ports; /* they were opened for this */
	struct datapath *remote;
};

static void give_back(struct served *s)
{
	if (s->remote)
		s->remote->ops->destroy(s->remote);
	for (unsigned i = 0; s->own_ports && i < CONFIG_MAX_QUEUES && s->port[i]; i++)
		s->port[i]->ops->destroy(s->port[i]);
}

static int serve_by_vhost(struct device *d, const struct net_options *o, unsigned npairs, struct evloop *loop,
			  struct errand_fds *given, struct served *s, struct err *e)
{
	int taps[CONFIG_MAX_QUEUES], fd[CONFIG_MAX_QUEUES];
	const struct vhost_net_config c = {.name = d->name,
					   .taps = taps,
					   .ports = s->port,
					   .npairs = npairs,
					   .busy_poll_us = o->busy_poll_us,
					   .fds = take(given, npairs, fd) ? fd : NULL,
					   .loop = loop};

	for (unsigned i = 0; i < npairs; i++)
		taps[i] = tap_fd(s->port[i]);
	s->remote = vhost_net_new(&c, e);
	return s->remote ? 0 : e->code;
}

/* Ports that only switch pairs on and off: the frames never come here. */
static int ports_of(unsigned npairs, struct served *s, struct err *e)
{
	s->own_ports = true;
	for (unsigned i = 0; i < npairs; i++) {
		s->port[i] = vhost_user_port(s->remote, i);
		if (!s->port[i])
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

static int serve_by_vhost_user(struct devices *all, struct device *d, const struct net_options *o,
			       unsigned npairs, struct evloop *loop, struct errand_fds *given, struct served *s,
			       struct err *e)
{
	int fd, again;
	const bool taken = take(given, 1, &fd), has_again = taken && (again = errand_take(given)) >= 0;
	const struct vhost_user_config c = {
		.name = d->name,
		.path = o->remote.path,
		.fd = taken ? &fd : NULL,
		.again = has_again ? &again : NULL,
		.server = o->remote.server,
		.wait_ms = o->remote.wait_ms,
		.reconnect_ms = o->remote.reconnect_ms,
		.must_serve = d->virtio != NULL, /* a live change */
		.hello_ms = d->virtio ? HELLO_MS : 0,
		.device_type = VIRTIO_ID_NET,
		.nqueues = 2 * npairs,
		.mtu = o->mtu,
		.mem = all->mem,
		.loop = loop,
	};
	int rc = vhost_user_new(&s->remote, &c, e);

	if (rc && taken)
		close(fd);
	if (rc && has_again)
		close(again);
	return rc ? rc : ports_of(npairs, s, e);
}

static int serve_by_vdpa(struct devices *all, struct device *d, const struct net_options *o, unsigned npairs,
			 struct evloop *loop, struct errand_fds *given, struct served *s, struct err *e)
{
	int fd;
	const bool taken = take(given, 1, &fd);
	const struct vhost_vdpa_options c = {
		.name = "--net",
		.device = d->name,
		.path = o->remote.path,
		.fd = taken ? &fd : NULL,
		.mem = all->mem,
		.loop = loop,
		.device_type = VIRTIO_ID_NET,
		.own_ctrl = true,
	};
	struct datapath_offer offer = {0};
	int rc = vhost_vdpa_new(&s->remote, &c, e);

	if (rc && taken)
		close(fd);
	if (!rc && s->remote->ops->offer(s->remote, &offer))
		rc = err_set(e, -EIO, "--net: vdpa: %s does not answer", o->remote.path);
	if (rc)
		return rc;
	s->own_ports = true;
	for (unsigned i = 0; i < npairs; i++) {
		s->port[i] = null_port_new(offer.features);
		if (!s->port[i])
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* d has taps already, and nothing else was said: they are used again. */
static bool same_taps(const struct device *d, const struct net_options *o)
{
	return d->virtio && d->net_kind == NET_TAP && o->kind == NET_TAP && tap_alive(d->port[0]) &&
	       (!o->ifname || !strcmp(o->ifname, d->ifname));
}

static int serve(struct devices *all, struct device *d, const struct net_options *o, unsigned npairs,
		 struct evloop *loop, struct errand_fds *given, struct served *s, struct err *e)
{
	int rc = 0;

	if (same_taps(d, o)) {
		memcpy(s->port, d->port, sizeof(s->port));
	} else if (o->kind == NET_TAP) {
		s->own_ports = true;
		rc = open_tap(o, npairs, given, s->port, e);
	} else if (o->kind == NET_USER) {
		s->own_ports = true;
		rc = open_user(o, given, &s->port[0], e);
	} else if (o->kind == NET_VHOST_USER) {
		rc = serve_by_vhost_user(all, d, o, npairs, loop, given, s, e);
	} else {
		rc = serve_by_vdpa(all, d, o, npairs, loop, given, s, e);
	}
	if (!rc && o->vhost)
		rc = serve_by_vhost(d, o, npairs, loop, given, s, e);
	/* The others say it themselves. */
	if (rc && (o->kind == NET_USER || o->kind == NET_VHOST_USER))
		return err_prefix(e, o->kind == NET_USER ? "--net user" : "--net");
	return rc;
}

static void keep(struct device *d, const struct net_options *o, const struct served *s)
{
	memcpy(d->port, s->port, sizeof(d->port));
	d->net_kind = o->kind;
	if (o->kind == NET_TAP)
		snprintf(d->ifname, sizeof(d->ifname), "%s", tap_name(s->port[0]));
}

int add_net(struct devices *all, const struct net_options *o, unsigned number, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "net", number);
	struct evloop *loops[CONFIG_MAX_QUEUES];
	struct served s = {0};
	struct net_config c = {
		.name = d->name,
		.mem = all->mem,
		.npairs = o->queues,
		.loops = loops,
		.ports = s.port,
		.mtu = o->mtu,
		.queue_size = o->virtio.queue_size,
		.rx = {.bytes_per_s = o->rate_bytes, .packets_per_s = o->rate_packets},
		.tx = {.bytes_per_s = o->rate_bytes, .packets_per_s = o->rate_packets},
		.hidden = hidden_net_bits(o),
	};
	int rc;

	d->net = o;
	tap_watch_reserve(); /* also for a tap that a live change may bring */
	if (o->has_mac)
		memcpy(c.mac, o->mac, sizeof(c.mac));
	rc = start_threads(d, o->queues, loops, e);
	rc = rc ? rc : start_control(d, o->queues, &c.loop, e);
	rc = rc ? rc : serve(all, d, o, o->queues, c.loop, NULL, &s, e);
	c.remote = s.remote;
	/* It may deliver no other frames. */
	if (!rc && o->kind == NET_VDPA && !o->has_mac)
		vhost_vdpa_mac(s.remote, c.mac);
	if (!rc) {
		d->virtio = net_new(&c, e);
		rc = d->virtio ? 0 : e->code;
	}
	if (rc)
		give_back(&s);
	else
		keep(d, o, &s);
	return rc;
}

/* As it is to be while the VM runs. */
static struct net_options live_options(const struct device *d, const struct net_options *o)
{
	struct net_options live = *o;

	live.mtu = d->net->mtu; /* what its driver has been told */
	if (!o->ifname && d->net_kind == NET_TAP && !tap_alive(d->port[0]))
		live.ifname = d->ifname; /* it may have been made anew */
	return live;
}

static struct errand *errand(struct errands *out, enum errand_kind kind, const char *path, unsigned count)
{
	struct errand *r = &out->errand[out->n++];

	*r = (struct errand){.kind = kind, .count = count, .write = true};
	snprintf(r->path, sizeof(r->path), "%s", path ? path : "");
	return r;
}

void move_net_errands(const struct device *d, const struct net_options *o, struct errands *out)
{
	const struct net_options live = live_options(d, o);
	const unsigned npairs = d->net->queues;

	if (o->kind == NET_TAP && !same_taps(d, &live))
		errand(out, ERRAND_TAP, live.ifname, npairs)->mtu = live.mtu;
	if (o->kind == NET_VHOST_USER)
		errand(out, ERRAND_SOCKET, o->remote.path, confine_is_on() ? 2 : 1)->wait_ms =
			o->remote.wait_ms;
	if (o->kind == NET_USER && confine_is_on()) {
		struct errand *r = errand(out, ERRAND_USER, "", 1);

		for (unsigned i = 0; i < o->nhostfwd; i++) {
			const size_t len = strlen(r->path);

			snprintf(r->path + len, sizeof(r->path) - len, "%s%s", i ? "\n" : "", o->hostfwd[i]);
		}
		r->mtu = live.mtu;
	}
	if (o->kind == NET_VDPA)
		errand(out, ERRAND_FILE, o->remote.path, 1);
	if (o->vhost)
		errand(out, ERRAND_FILE, VHOST_NET_PATH, npairs);
}

int move_net(struct devices *all, struct device *d, const struct net_options *o, struct move *m, struct err *e)
{
	const struct net_options live = live_options(d, o);
	struct served s = {0};
	int rc;

	if (o->fd >= 0)
		return err_set(e, -EINVAL, "%s: a running VM is given no descriptors; say tap,ifname=NAME",
			       d->name);
	rc = serve(all, d, &live, d->net->queues, d->virtio->loop, m->fds, &s, e);

	if (!rc) {
		rc = net_move(d->virtio, s.own_ports ? s.port : NULL, s.remote, &m->how, &m->moved, e);
	}
	if (rc)
		give_back(&s);
	else
		keep(d, o, &s);
	return rc;
}
