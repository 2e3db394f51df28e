/* The vhost-user wire: messages, their names, and moving them over a Unix socket (QEMU,
 * docs/interop/vhost-user.rst).  Numbers are in the machine's byte order. */
#ifndef BACKENDS_VHOST_USER_MSG_H
#define BACKENDS_VHOST_USER_MSG_H
#include <linux/vhost_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_NET_SET_MTU = 20,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_NREQUESTS
};

enum vhost_user_backend_request { /* on a channel of their own, from the back end */
				  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
};

#define VHOST_USER_F_PROTOCOL_FEATURES 30 /* among the virtio features; no driver sees it */

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_NET_MTU = 4,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
};

#define VHOST_USER_VERSION      0x1u /* of flags */
#define VHOST_USER_VERSION_MASK 0x3u
#define VHOST_USER_REPLY        0x4u
#define VHOST_USER_NEED_REPLY   0x8u

#define VHOST_USER_MAX_FDS    8
#define VHOST_USER_MAX_CONFIG 256

struct vhost_user_mem_region {
	uint64_t guest_phys_addr;
	uint64_t memory_size;
	uint64_t userspace_addr;
	uint64_t mmap_offset;
};

struct vhost_user_memory {
	uint32_t nregions, padding;
	struct vhost_user_mem_region region[VHOST_USER_MAX_FDS];
};

struct vhost_user_mem_reg {
	uint64_t padding;
	struct vhost_user_mem_region region;
};

#define VHOST_USER_CONFIG_HDR 12
struct vhost_user_config_space {
	uint32_t offset, size, flags;
	uint8_t region[VHOST_USER_MAX_CONFIG];
};

struct vhost_user_inflight_desc { /* peers send and expect the padding too */
	uint64_t mmap_size, mmap_offset;
	uint16_t num_queues, queue_size;
};

#define VHOST_USER_HDR_LEN 12
struct vhost_user_msg {
	uint32_t request, flags, size; /* size: bytes of payload */
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vhost_user_memory memory;
		struct vhost_user_mem_reg mem_reg;
		struct vhost_user_config_space config;
		struct vhost_user_inflight_desc inflight;
	};
};

#define VHOST_USER_MAX_PAYLOAD (sizeof(struct vhost_user_msg) - offsetof(struct vhost_user_msg, u64))

/* "SET_VRING_NUM"; "?" for one we do not know. */
const char *vhost_user_request_name(uint32_t request);
/* One line in buf: name, flags, and what the payload says.  Returns buf. */
char *vhost_user_msg_text(const struct vhost_user_msg *m, unsigned nfds, char *buf, size_t len);

/* Header and payload, with nfds descriptors (which stay the caller's) to the first byte.  sock must not
 * block; waits for room until `deadline` (CLOCK_MONOTONIC, ns).  0; -ETIMEDOUT; -EPIPE, -ECONNRESET: nobody
 * is there any more. */
int vhost_user_send(int sock, const struct vhost_user_msg *m, const int *fds, unsigned nfds, uint64_t deadline);

/* A message on its way in.  Zero it before the first use. */
struct vhost_user_reader {
	struct vhost_user_msg msg;
	size_t have; /* bytes of header and payload */
	int fd[VHOST_USER_MAX_FDS];
	unsigned nfds;
};

/* Takes what has arrived, never more than one message.  1: r->msg and r->fd[] are whole, and r's until the
 * clear that must come before the next read.  0: more has to arrive.  -ECONNRESET: the other side has closed.
 * -EPROTO: more descriptors or a larger payload than any message has; what came is closed. */
int vhost_user_read(int sock, struct vhost_user_reader *r);
/* Closes the descriptors that nobody has taken (set to -1) and begins anew. */
void vhost_user_reader_clear(struct vhost_user_reader *r);
#endif
