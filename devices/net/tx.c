/* From the driver to the port. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "devices/net/net_device.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define SHOW_EVERY 16 /* frames that are sent, so that the driver can use their buffers while others are */
#define POLL_BURST 4  /* so many frames at once, and more are likely to follow */

int net_tx_init(struct net_pair *p)
{
	p->tx.iov = calloc(NET_CHAIN_IOV, sizeof(*p->tx.iov));
	return p->tx.iov ? 0 : -ENOMEM;
}

void net_tx_fini(struct net_pair *p)
{
	free(p->tx.iov);
}

/* What is wrong with a chain, or NULL.  The header's contents are the port's to judge: it copies them first. */
static const char *malformed(const struct vq_chain *c)
{
	if (c->nin)
		return "holds buffers to write to";
	if (c->out_len < NET_HDR_LEN + ETH_HLEN)
		return "is too short for a frame";
	if (c->out_len > NET_HDR_LEN + NET_FRAME_MAX)
		return "is too long for a frame";
	if (c->nout > IOV_MAX)
		return "is in too many pieces";
	return NULL;
}

static void transmit(struct net_pair *p, const struct vq_chain *c)
{
	struct queue_stats *stats = vq_stats(p->tx.vq);
	const char *fault = malformed(c);

	if (fault) {
		net_count(&p->counters.tx_malformed, 1);
		log_guest("%s: a buffer on a transmit queue %s; it is dropped", p->net->dev.name, fault);
		return;
	}
	if (p->gone || !net_link_up(p->net)) {
		net_count(&p->counters.tx_link_down, 1);
		return;
	}
	net_count(&stats->syscalls, 1);
	if (p->port->ops->send(p->port, c->iov, (int)c->nout) < 0) {
		net_count(&p->counters.tx_refused, 1);
		return;
	}
	net_count(&p->counters.tx_frames, 1);
	net_count(&stats->bytes, c->out_len - NET_HDR_LEN);
	net_limit_take(&p->net->tx_limit, c->out_len - NET_HDR_LEN);
}

static void commit(struct net_pair *p)
{
	if (p->attached && p->port->ops->commit && p->port->ops->commit(p->port))
		log_guest("%s: frames were lost on their way out", p->net->dev.name);
}

static void drain(struct net_pair *p)
{
	struct net_tx *tx = &p->tx;
	unsigned budget = vq_size(tx->vq), burst = tx->again ? POLL_BURST : 0;
	uint64_t bytes = 0, wait = 0;
	int rc = 0;

	tx->again = false;
	vq_busy(tx->vq);
	for (; budget && bytes < NET_BURST_BYTES; budget--) {
		struct vq_chain c = {.iov = tx->iov, .iov_max = NET_CHAIN_IOV};

		wait = net_limit_wait(&p->net->tx_limit);
		if (wait)
			break;
		rc = vq_pop(tx->vq, &c);
		if (rc < 0)
			break;
		if (!rc) {
			commit(p);
			/* Somebody who sends one frame waits for an answer, which is this thread's too. */
			if (burst >= POLL_BURST && vq_poll(tx->vq)) {
				burst = 0;
				continue;
			}
			if (!vq_wait(tx->vq))
				return;
			vq_busy(tx->vq);
			continue;
		}
		transmit(p, &c);
		vq_push(tx->vq, c.head, 0);
		if (!(++burst % SHOW_EVERY) && !p->port->ops->commit)
			vq_show(tx->vq);
		bytes += c.out_len;
	}
	commit(p);
	vq_flush(tx->vq);
	if (wait)
		ev_timer_arm(&tx->timer, (wait + 999999) / 1000000);
	else if (rc < 0)
		virtio_needs_reset(&p->net->dev, "a transmit queue is broken", rc);
	else {
		tx->again = true;
		net_again(p->net, vq_index(tx->vq));
	}
}

static void on_timer(struct ev_timer *t)
{
	drain(container_of(t, struct net_pair, tx.timer));
}

int net_tx_run(struct net_pair *p, struct virtqueue *vq)
{
	int rc;

	if (p->net->tx_limit.on) {
		rc = ev_timer_init(&p->tx.timer, p->loop, on_timer);
		if (rc)
			return rc;
		p->tx.timer_on = true;
	}
	p->tx.vq = vq;
	return 0;
}

void net_tx_kick(struct net_pair *p)
{
	if (p->tx.vq)
		drain(p);
}

void net_tx_expect(struct net_pair *p)
{
	if (p->tx.vq && !p->tx.again && vq_expect(p->tx.vq))
		drain(p);
}

void net_tx_halt(struct net_pair *p)
{
	if (p->tx.timer_on)
		ev_timer_fini(&p->tx.timer);
	p->tx.timer_on = false;
	p->tx.vq = NULL;
}
