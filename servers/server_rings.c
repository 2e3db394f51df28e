/* The messages of memory and rings. */
/* #syscalls[server]: fcntl readlink */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "servers/server_handlers.h"

static struct server_vring *vring(struct vhost_user_server *s, uint32_t index)
{
	return index < s->core.c.max_queues ? &s->core.vring[index] : NULL;
}

/* --- memory --- */

int server_set_mem_table(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	int rc = 0;

	server_queues_stop(&s->core);
	server_memory_clear(&s->core.memory);
	for (unsigned i = 0; !rc && i < m->memory.nregions; i++)
		rc = server_memory_add(&s->core.memory, &m->memory.region[i], fd[i]);
	if (rc)
		server_memory_clear(&s->core.memory);
	else
		server_queues_start(&s->core); /* those that are not in it wait for one that has them */
	return rc;
}

int server_get_max_mem_slots(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	return server_reply_u64(s, m, GUEST_MEM_MAX_REGIONS);
}

int server_add_mem_reg(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	int rc;

	server_queues_stop(&s->core);
	rc = server_memory_add(&s->core.memory, &m->mem_reg.region, fd[0]);
	server_queues_start(&s->core);
	return rc;
}

int server_rem_mem_reg(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	int rc;

	(void)fd;
	server_queues_stop(&s->core);
	rc = server_memory_remove(&s->core.memory, &m->mem_reg.region);
	server_queues_start(&s->core);
	return rc;
}

/* --- rings --- */

int server_set_vring_num(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v = vring(s, m->state.index);
	const unsigned most = s->core.c.max_queue_size ? s->core.c.max_queue_size : 32768;

	(void)fd;
	if (!v || v->running || !m->state.num || m->state.num > most)
		return -EINVAL;
	v->size = (uint16_t)m->state.num;
	return 0;
}

int server_set_vring_addr(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v = vring(s, m->addr.index);

	(void)fd;
	if (!v || m->addr.flags) /* no log: it was not offered */
		return -EINVAL;
	server_queue_stop(&s->core, v);
	v->desc = m->addr.desc_user_addr;
	v->avail = m->addr.avail_user_addr;
	v->used = m->addr.used_user_addr;
	v->has_addr = true;
	return server_queue_start(&s->core, v);
}

/* Packed: nothing is in flight, so the used position, in the upper half, is the same or was not said. */
int server_set_vring_base(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v = vring(s, m->state.index);

	(void)fd;
	if (!v || v->running)
		return -EINVAL;
	v->next = (uint16_t)m->state.num;
	return 0;
}

int server_get_vring_base(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v = vring(s, m->state.index);
	struct vhost_user_msg answer = {.size = sizeof(answer.state)};
	int rc;

	(void)fd;
	if (!v)
		return -EINVAL;
	server_queue_end(&s->core, v);
	answer.state.index = m->state.index;
	answer.state.num = v->next;
	if (s->core.features >> VIRTIO_F_RING_PACKED & 1)
		answer.state.num |= (uint32_t)v->next << 16;
	rc = server_reply(s, m, &answer, NULL);
	return rc ? rc : SERVER_REPLIED;
}

/* 0: take it, where NOFD is not said. */
static int check_fd(struct vhost_user_server *s, const struct vhost_user_msg *m)
{
	if (m->u64 & ~(uint64_t)(0xff | SERVER_VRING_NOFD))
		return -EINVAL;
	return vring(s, m->u64 & 0xff) ? 0 : -EINVAL;
}

/* A write to anything else may block, or worse, and another file's poll() may be its owner's to answer (FUSE).
 * An eventfd that may be full must not block either: the front end can undo that, and then stops the loop its
 * own queue is on. */
static int check_eventfd(const struct vhost_user_msg *m, int fd)
{
	char link[32], what[64];
	ssize_t n;
	int flags;

	if (m->u64 & SERVER_VRING_NOFD)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, what, sizeof(what) - 1);
	if (n < 0)
		return -errno;
	what[n] = '\0';
	if (strcmp(what, "anon_inode:[eventfd]"))
		return -EINVAL;
	flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

/* The ring that m is of stands still, and has the descriptor that came in the place of `which` of its own. */
static int change_fd(struct vhost_user_server *s, const struct vhost_user_msg *m, int *fd, size_t which,
		     struct server_vring **out)
{
	struct server_vring *v = NULL;
	int *have, rc = check_fd(s, m);

	if (!rc)
		rc = check_eventfd(m, *fd);
	if (rc)
		return rc;
	v = vring(s, m->u64 & 0xff);
	server_queue_stop(&s->core, v);
	have = (int *)(void *)((char *)v + which);
	if (*have >= 0)
		close(*have);
	*have = m->u64 & SERVER_VRING_NOFD ? -1 : steal_fd(fd);
	*out = v;
	return 0;
}

int server_set_vring_kick(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v;
	int rc = change_fd(s, m, fd, offsetof(struct server_vring, kick_fd), &v);

	if (rc)
		return rc;
	v->by_timer = false;
	v->started = true;
	return server_queue_start(&s->core, v);
}

int server_set_vring_call(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v;
	int rc = change_fd(s, m, fd, offsetof(struct server_vring, call_fd), &v);

	return rc ? rc : server_queue_start(&s->core, v);
}

int server_set_vring_err(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v;
	int rc = change_fd(s, m, fd, offsetof(struct server_vring, err_fd), &v);

	return rc ? rc : server_queue_start(&s->core, v);
}

int server_set_vring_enable(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct server_vring *v = vring(s, m->state.index);

	(void)fd;
	if (!v || m->state.num > 1)
		return -EINVAL;
	v->enabled = m->state.num;
	if (v->enabled)
		return server_queue_start(&s->core, v);
	server_queue_stop(&s->core, v);
	return 0;
}
