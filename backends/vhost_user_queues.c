/* Queues start and stop. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "backends/vhost_user_ring.h"
#include "backends/vhost_user_state.h"
#include "lib/log.h"

#define BIT(n) (UINT64_C(1) << (n))

static bool is_packed(const struct vhost_user *v)
{
	return v->accepted >> VIRTIO_F_RING_PACKED & 1;
}

static unsigned end_of(uint64_t queues)
{
	return queues ? 64u - (unsigned)__builtin_clzll(queues) : 0;
}

int vhost_user_suits(struct vhost_user *v, uint64_t queues)
{
	const struct vhost_user_conn *c = &v->conn;
	const uint64_t missing = queues ? v->accepted & v->opinion & ~c->features : 0;
	const char *lacks = NULL;

	if (v->can_enable && !vhost_user_has_protocol(c))
		lacks = "VHOST_USER_F_PROTOCOL_FEATURES";
	else if (v->config_len && !vhost_user_has(c, VHOST_USER_PROTOCOL_F_CONFIG))
		lacks = "VHOST_USER_PROTOCOL_F_CONFIG";
	else if (v->inflight.fd >= 0 && !vhost_user_has(c, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		lacks = "VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD";
	if (missing)
		log_guest(
			"%s: the vhost-user back end at %s lacks features that the driver has accepted: %#llx",
			v->name, v->path, (unsigned long long)missing);
	else if (lacks)
		log_guest("%s: the vhost-user back end at %s had %s, and has it no more", v->name, v->path,
			  lacks);
	else if (c->queues && end_of(queues) > c->queues)
		log_guest("%s: the vhost-user back end at %s has %u queues now, and %u are in use", v->name,
			  v->path, c->queues, end_of(queues));
	else
		return 0;
	return -EOPNOTSUPP;
}

/* --- towards the back end --- */

static int set_status(struct vhost_user *v, uint8_t status)
{
	if (!vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_STATUS))
		return 0;
	return vhost_user_set_u64(&v->conn, VHOST_USER_SET_STATUS, status);
}

static int set_features(struct vhost_user *v)
{
	const uint64_t ours = v->conn.features & BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	uint64_t status;
	int rc = set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);

	if (!rc)
		rc = vhost_user_set_u64(&v->conn, VHOST_USER_SET_FEATURES,
					(v->accepted & v->conn.features) | ours);
	if (rc || !vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_STATUS))
		return rc;
	rc = set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	if (!rc)
		rc = vhost_user_get_u64(&v->conn, VHOST_USER_GET_STATUS, &status);
	if (!rc && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		rc = -EREMOTEIO;
	return rc;
}

static bool same_memory(const struct guest_mem *a, const struct guest_mem *b)
{
	if (a->nregions != b->nregions)
		return false;
	for (unsigned i = 0; i < a->nregions; i++) {
		const struct mem_region *x = &a->region[i], *y = &b->region[i];

		if (x->gpa != y->gpa || x->size != y->size || x->hva != y->hva || x->fd != y->fd ||
		    x->fd_offset != y->fd_offset)
			return false;
	}
	return true;
}

static int share_memory(struct vhost_user *v)
{
	int rc;

	if (same_memory(&v->shared, v->mem))
		return 0;
	rc = vhost_user_unshare_memory(&v->conn, &v->shared);
	v->shared.nregions = 0;
	if (!rc)
		rc = vhost_user_share_memory(&v->conn, v->mem);
	if (!rc)
		v->shared = *v->mem;
	return rc;
}

static int share_inflight(struct vhost_user *v)
{
	uint16_t size = 0;
	int rc = 0;

	if (!vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		return 0;
	for (unsigned i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		if ((v->wanted & BIT(i)) && v->queue[i].size > size)
			size = v->queue[i].size;
	if (v->inflight.fd < 0)
		rc = vhost_user_inflight_get(&v->inflight, &v->conn, v->nqueues, size);
	return rc ? rc : vhost_user_inflight_set(&v->inflight, &v->conn);
}

/* Before its first queue. */
static int prepare(struct vhost_user *v)
{
	int rc = set_features(v);

	if (!rc)
		rc = share_memory(v);
	if (!rc && v->mtu && (v->accepted & BIT(VIRTIO_NET_F_MTU)) &&
	    vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_NET_MTU))
		rc = vhost_user_set_u64(&v->conn, VHOST_USER_NET_SET_MTU, v->mtu);
	return rc ? rc : share_inflight(v);
}

/* Its last queue has stopped. */
static int finish(struct vhost_user *v)
{
	struct vhost_user_msg m = {.request = VHOST_USER_RESET_DEVICE};
	int rc = 0;

	if (vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_RESET_DEVICE))
		rc = vhost_user_set(&v->conn, &m, NULL, 0);
	if (!rc || rc == -EREMOTEIO)
		rc = set_status(v, 0);
	return rc;
}

int vhost_user_queues_up(struct vhost_user *v, uint64_t queues)
{
	const uint64_t before = v->up;
	uint32_t base;
	int rc = 0;

	vhost_user_conn_begin(&v->conn);
	if (!before)
		rc = prepare(v);
	for (unsigned i = 0; !rc && i < VHOST_USER_MAX_QUEUES; i++)
		if (queues & BIT(i)) {
			v->up |= BIT(i);
			v->fresh &= ~BIT(i);
			rc = vhost_user_ring_start(&v->conn, &v->queue[i], v->mem, v->accepted);
		}
	for (unsigned i = 0; !rc && i < VHOST_USER_MAX_QUEUES; i++)
		if (queues & v->active & BIT(i))
			rc = vhost_user_ring_enable(&v->conn, i, true);
	if (!rc && !before)
		rc = set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					   VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	/* Without acknowledgements its only way to refuse is to go away, and it may not have got that far. */
	if (!rc && !vhost_user_has(&v->conn, VHOST_USER_PROTOCOL_F_REPLY_ACK))
		rc = vhost_user_barrier(&v->conn);
	if (!rc || v->conn.broken)
		return rc;
	/* It refused; what it has begun it must let go of. */
	for (unsigned i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		if (v->up & ~before & BIT(i))
			vhost_user_ring_stop(&v->conn, i, &base);
	if (!before)
		finish(v);
	if (!v->conn.broken)
		v->up = before;
	return rc;
}

/* --- start --- */

static int check(struct vhost_user *v, const struct datapath_setup *setup)
{
	for (unsigned i = 0; i < setup->mem->nregions; i++)
		if (setup->mem->region[i].fd < 0)
			return -EINVAL;
	for (unsigned i = 0; i < setup->nqueues; i++) {
		const struct datapath_queue *q = &setup->queue[i];
		int rc = vhost_user_ring_check(q, setup->mem, setup->features);

		if (rc)
			return rc;
		if (q->index >= VHOST_USER_MAX_QUEUES || (v->wanted & BIT(q->index)))
			return -EINVAL;
	}
	return 0;
}

static int come(struct vhost_user *v, uint64_t queues)
{
	char why[96];
	int rc;

	if (v->failed)
		return -EIO;
	/* One that has served comes back; of one that never has, whoever starts it wants to know now. */
	if (v->link != VHOST_USER_UP && v->reconnect_ms && !v->untried)
		return 0;
	if (v->link != VHOST_USER_UP) {
		log_guest("%s: there is no vhost-user back end at %s any more, and no reconnect= to get one",
			  v->name, v->path);
		return -ENOTCONN;
	}
	rc = vhost_user_suits(v, queues);
	if (!rc)
		rc = vhost_user_queues_up(v, queues);
	if (!rc) {
		v->untried = false;
		return 0;
	}
	if (!v->conn.broken) {
		log_guest("%s: the vhost-user back end at %s does not start: %s", v->name, v->path,
			  vhost_user_why(&v->conn, rc, why, sizeof(why)));
		return rc;
	}
	rc = v->conn.broken;
	if (v->reconnect_ms && !v->untried && (rc == -ECONNRESET || rc == -EPIPE)) {
		vhost_user_link_lost(v, rc); /* as if it had ended a moment later */
		return 0;
	}
	v->wanted &= ~queues;
	vhost_user_link_lost(v, rc);
	return rc;
}

int vhost_user_start(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_user *v = vhost_user_of(dp);
	uint64_t queues = 0;
	int rc;

	pthread_mutex_lock(&v->lock);
	rc = check(v, setup);
	if (!rc) {
		if (!v->wanted) {
			v->mem = setup->mem;
			v->accepted = setup->features;
		}
		for (unsigned i = 0; i < setup->nqueues; i++) {
			v->queue[setup->queue[i].index] = setup->queue[i];
			queues |= BIT(setup->queue[i].index);
			if (setup->queue[i].stats)
				queue_stats_unseen(setup->queue[i].stats);
		}
		v->wanted |= queues;
		v->fresh |= queues;
		v->taken &= ~queues;
		rc = come(v, queues);
		if (rc)
			v->wanted &= ~queues;
		if (!v->wanted)
			vhost_user_inflight_drop(&v->inflight);
	}
	vhost_user_unlock(v);
	return rc;
}

/* --- stop --- */

/* Both halves of what a packed ring's back end says; peers that drain leave the upper empty. */
static bool packed_base(const struct datapath_queue *q, uint32_t base, uint16_t *avail, uint16_t *used)
{
	*avail = (uint16_t)base;
	*used = base >> 16 ? (uint16_t)(base >> 16) : *avail;
	return (*avail & 0x7fff) < q->size && (*used & 0x7fff) < q->size;
}

/* q as the back end left it.  True: it has requests of q that it has not given back. */
static bool settle(struct vhost_user *v, struct datapath_queue *q, uint32_t base)
{
	uint16_t avail, used;

	q->lost = false;
	if (!is_packed(v)) {
		/* What is not used yet was never done, as far as the driver can see. */
		q->next = vhost_user_ring_used(q, v->mem);
		q->lost = !v->net && (uint16_t)base != q->next;
		return q->lost;
	}
	if (!packed_base(q, base, &avail, &used)) {
		v->conn.broken = -EPROTO;
		q->lost = true;
		return false;
	}
	q->next = used;
	q->lost = !v->net && avail != used;
	return q->lost;
}

/* q, of which no back end could be asked. */
static void settle_alone(struct vhost_user *v, struct datapath_queue *q)
{
	const bool fresh = v->fresh & BIT(q->index);

	if (is_packed(v)) {
		q->lost = !fresh;
		return;
	}
	q->next = vhost_user_ring_used(q, v->mem);
	q->lost = !v->net && (v->taken & BIT(q->index));
}

/* Asks for each queue's position, base[]; the queues that answered. */
static uint64_t take_back(struct vhost_user *v, const struct datapath_setup *setup, uint32_t *base)
{
	uint64_t answered = 0;
	int rc = 0;

	vhost_user_conn_begin(&v->conn);
	for (unsigned i = 0; !v->conn.broken && i < setup->nqueues; i++) {
		const unsigned n = setup->queue[i].index;

		/* A refusal changes nothing: the next message stops it whether it is enabled or not. */
		if (v->up & v->active & BIT(n))
			vhost_user_ring_enable(&v->conn, n, false);
	}
	for (unsigned i = 0; !rc && i < setup->nqueues; i++) {
		const unsigned n = setup->queue[i].index;

		if (!(v->up & BIT(n)))
			continue;
		rc = vhost_user_ring_stop(&v->conn, n, &base[n]);
		if (!rc)
			answered |= BIT(n);
	}
	return answered;
}

void vhost_user_stop(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_user *v = vhost_user_of(dp);
	uint32_t base[VHOST_USER_MAX_QUEUES];
	uint64_t queues = 0, answered = 0;
	bool cut = false;

	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; i < setup->nqueues; i++)
		queues |= BIT(setup->queue[i].index);
	v->wanted &= ~queues; /* whatever comes is no failure of theirs */
	if (v->link == VHOST_USER_UP)
		answered = take_back(v, setup, base);
	for (unsigned i = 0; i < setup->nqueues; i++)
		if (answered & BIT(setup->queue[i].index))
			cut |= settle(v, &setup->queue[i], base[setup->queue[i].index]);
	v->up &= ~answered;
	if (!v->wanted && !cut && answered)
		finish(v);
	if (v->link == VHOST_USER_UP && v->conn.broken)
		vhost_user_link_lost(v, v->conn.broken);
	else if (cut)
		vhost_user_link_renew(v);
	for (unsigned i = 0; i < setup->nqueues; i++)
		if (!(answered & BIT(setup->queue[i].index)))
			settle_alone(v, &setup->queue[i]);
	v->fresh &= ~queues;
	v->up &= ~queues;
	if (!v->wanted) {
		vhost_user_inflight_drop(&v->inflight);
		v->failed = v->tell_failed = false;
		/* A change that nobody announces is seen by the next driver at least. */
		if (v->link == VHOST_USER_UP && v->conn.channel < 0)
			vhost_user_config_refresh(v);
	}
	vhost_user_unlock(v);
}
