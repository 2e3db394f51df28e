/* #syscalls[main]: pread64
 * #ioctls[main]: KVM_GET_STATS_FD
 *
 * Theory of operation.  The file says what it has: a header, descriptors with the name of each counter and its
 * place, and the counters.  KVM gives the file to nobody while the vCPU runs (the ioctl wants the vCPU's mutex,
 * which KVM_RUN holds), so a vCPU stands still while it is asked for; reading needs no such thing. */
#include "vmm/kvm/kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/kvm/vcpu.h"

#define MAX_NAME 256

static const struct {
	const char *name;
	size_t field;
} wanted[] = {
	{"exits", offsetof(struct kvm_stats, exits)},
	{"io_exits", offsetof(struct kvm_stats, io_exits)},
	{"mmio_exits", offsetof(struct kvm_stats, mmio_exits)},
	{"halt_exits", offsetof(struct kvm_stats, halt_exits)},
	{"irq_exits", offsetof(struct kvm_stats, irq_exits)},
	{"signal_exits", offsetof(struct kvm_stats, signal_exits)},
	{"irq_injections", offsetof(struct kvm_stats, irq_injections)},
	{"insn_emulation", offsetof(struct kvm_stats, insn_emulation)},
};

static int read_at(int fd, uint64_t at, void *buf, size_t len)
{
	ssize_t n = pread(fd, buf, len, (off_t)at);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EPROTO;
}

static void add(struct kvm_stats *s, size_t field, uint64_t value)
{
	uint64_t *p = (uint64_t *)(void *)((char *)s + field);

	*p = *p == KVM_STATS_UNKNOWN ? value : *p + value;
}

static int read_one(int fd, const struct kvm_stats_header *h, const struct kvm_stats_desc *d, const char *name,
		    struct kvm_stats *out)
{
	uint64_t value;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (strcmp(name, wanted[i].name) || d->size < 1)
			continue;
		rc = read_at(fd, (uint64_t)h->data_offset + d->offset, &value, sizeof(value));
		if (rc)
			return rc;
		add(out, wanted[i].field, value);
	}
	return 0;
}

int kvm_stats_read(int fd, struct kvm_stats *out)
{
	struct {
		struct kvm_stats_desc desc;
		char name[MAX_NAME + 1];
	} d = {0};
	struct kvm_stats_header h;
	int rc = read_at(fd, 0, &h, sizeof(h));

	if (!rc && (h.name_size < 1 || h.name_size > MAX_NAME))
		rc = -EPROTO;
	for (uint32_t i = 0; !rc && i < h.num_desc; i++) {
		const size_t len = sizeof(d.desc) + h.name_size;

		rc = read_at(fd, h.desc_offset + i * len, &d, len);
		rc = rc ? rc : read_one(fd, &h, &d.desc, d.name, out);
	}
	return rc;
}

int kvm_stats_collect(struct vcpu *vcpu, unsigned n, struct kvm_stats *out)
{
	int rc = 0;

	memset(out, 0xff, sizeof(*out)); /* KVM_STATS_UNKNOWN, each */
	for (unsigned i = 0; !rc && i < n; i++) {
		CLEANUP_FD int fd = -1;

		vcpu_pause(&vcpu[i]);
		fd = ioctl(vcpu[i].fd, KVM_GET_STATS_FD, NULL);
		rc = fd < 0 ? -errno : 0;
		vcpu_resume(&vcpu[i]);
		rc = rc ? rc : kvm_stats_read(fd, out);
	}
	return rc;
}
