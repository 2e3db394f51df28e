#include "backends/vhost_trace.h"

#include <linux/vhost.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/cleanup.h"
#include "lib/trace.h"

enum arg { NONE, U64, U32, U16, U8, INT, STATE, FD, ADDR, MEMORY, TARGET, CONFIG, RANGE };

#define REQUEST(r, arg)                                                                                        \
	{                                                                                                      \
		VHOST_##r, #r, arg                                                                             \
	}

static const struct request {
	unsigned long request;
	const char *name;
	enum arg arg;
} requests[] = {
	REQUEST(GET_FEATURES, U64),
	REQUEST(SET_FEATURES, U64),
	REQUEST(GET_BACKEND_FEATURES, U64),
	REQUEST(SET_BACKEND_FEATURES, U64),
	REQUEST(SET_OWNER, NONE),
	REQUEST(SET_MEM_TABLE, MEMORY),
	REQUEST(SET_VRING_NUM, STATE),
	REQUEST(SET_VRING_ADDR, ADDR),
	REQUEST(SET_VRING_BASE, STATE),
	REQUEST(GET_VRING_BASE, STATE),
	REQUEST(SET_VRING_KICK, FD),
	REQUEST(SET_VRING_CALL, FD),
	REQUEST(SET_VRING_ERR, FD),
	REQUEST(SET_VRING_BUSYLOOP_TIMEOUT, STATE),
	REQUEST(NET_SET_BACKEND, FD),
	REQUEST(SCSI_GET_ABI_VERSION, INT),
	REQUEST(SCSI_SET_ENDPOINT, TARGET),
	REQUEST(SCSI_CLEAR_ENDPOINT, TARGET),
	REQUEST(VSOCK_SET_GUEST_CID, U64),
	REQUEST(VSOCK_SET_RUNNING, INT),
	REQUEST(VDPA_GET_DEVICE_ID, U32),
	REQUEST(VDPA_GET_STATUS, U8),
	REQUEST(VDPA_SET_STATUS, U8),
	REQUEST(VDPA_GET_CONFIG, CONFIG),
	REQUEST(VDPA_SET_CONFIG, CONFIG),
	REQUEST(VDPA_SET_VRING_ENABLE, STATE),
	REQUEST(VDPA_GET_VRING_NUM, U16),
	REQUEST(VDPA_SET_CONFIG_CALL, INT),
	REQUEST(VDPA_GET_IOVA_RANGE, RANGE),
	REQUEST(VDPA_GET_CONFIG_SIZE, U32),
	REQUEST(VDPA_GET_VQS_COUNT, U32),
	REQUEST(VDPA_SUSPEND, NONE),
};

static const struct request *find(unsigned long request)
{
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		if (requests[i].request == request)
			return &requests[i];
	return NULL;
}

const char *vhost_request_name(unsigned long request)
{
	const struct request *r = find(request);

	return r ? r->name : "?";
}

static void print_arg(char *buf, size_t len, enum arg kind, const void *arg)
{
	buf[0] = '\0';
	switch (kind) {
	case NONE:
		break;
	case U64:
		snprintf(buf, len, " %#llx", (unsigned long long)*(const uint64_t *)arg);
		break;
	case U32:
		snprintf(buf, len, " %u", *(const uint32_t *)arg);
		break;
	case U16:
		snprintf(buf, len, " %u", *(const uint16_t *)arg);
		break;
	case U8:
		snprintf(buf, len, " %#x", *(const uint8_t *)arg);
		break;
	case INT:
		snprintf(buf, len, " %d", *(const int *)arg);
		break;
	case STATE: {
		const struct vhost_vring_state *s = arg;

		snprintf(buf, len, " vring=%u num=%u", s->index, s->num);
		break;
	}
	case FD: {
		const struct vhost_vring_file *f = arg;

		snprintf(buf, len, " vring=%u fd=%d", f->index, f->fd);
		break;
	}
	case ADDR: {
		const struct vhost_vring_addr *a = arg;

		snprintf(buf, len, " vring=%u desc=%#llx avail=%#llx used=%#llx", a->index,
			 (unsigned long long)a->desc_user_addr, (unsigned long long)a->avail_user_addr,
			 (unsigned long long)a->used_user_addr);
		break;
	}
	case MEMORY:
		snprintf(buf, len, " regions=%u", ((const struct vhost_memory *)arg)->nregions);
		break;
	case TARGET: {
		const struct vhost_scsi_target *t = arg;

		snprintf(buf, len, " wwpn=%s tpgt=%u", t->vhost_wwpn, t->vhost_tpgt);
		break;
	}
	case CONFIG: {
		const struct vhost_vdpa_config *c = arg;

		snprintf(buf, len, " offset=%u size=%u", c->off, c->len);
		break;
	}
	case RANGE: {
		const struct vhost_vdpa_iova_range *r = arg;

		snprintf(buf, len, " first=%#llx last=%#llx", (unsigned long long)r->first,
			 (unsigned long long)r->last);
		break;
	}
	}
}

void vhost_trace(const char *device, const char *protocol, unsigned long request, const void *arg, int rc)
{
	const struct request *r = find(request);
	char text[320], what[384];

	if (!trace_wanted())
		return;
	text[0] = '\0';
	/* What the kernel would have filled in says nothing when it has not. */
	if (r && arg && !(rc && _IOC_DIR(request) == _IOC_READ))
		print_arg(text, sizeof(text), r->arg, arg);
	snprintf(what, sizeof(what), "%s%s", r ? r->name : "?", text);
	trace_call(device, protocol, what, rc);
}

void vhost_trace_open(const char *device, const char *protocol, const char *path, int rc)
{
	char what[256];

	if (!trace_wanted())
		return;
	snprintf(what, sizeof(what), "OPEN path=%s", path);
	trace_call(device, protocol, what, rc);
}

void vhost_trace_iotlb(const char *device, const char *protocol, const struct vhost_msg_v2 *msg, int rc)
{
	static const char *const types[] = {
		[VHOST_IOTLB_UPDATE] = "IOTLB_UPDATE",
		[VHOST_IOTLB_INVALIDATE] = "IOTLB_INVALIDATE",
		[VHOST_IOTLB_BATCH_BEGIN] = "IOTLB_BATCH_BEGIN",
		[VHOST_IOTLB_BATCH_END] = "IOTLB_BATCH_END",
	};
	const char *type = msg->iotlb.type < ARRAY_SIZE(types) ? types[msg->iotlb.type] : NULL;
	char what[128];

	if (!trace_wanted())
		return;
	if (msg->iotlb.size)
		snprintf(what, sizeof(what), "%s iova=%#llx size=%#llx", type ? type : "?",
			 (unsigned long long)msg->iotlb.iova, (unsigned long long)msg->iotlb.size);
	else
		snprintf(what, sizeof(what), "%s", type ? type : "?");
	trace_call(device, protocol, what, rc);
}
