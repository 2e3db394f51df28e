#include "vmm/kvm/api.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"

/* What nothing works without.  Older than any kernel Ringlet supports, but /dev/kvm is not always the
 * real one. */
static const struct {
	int cap;
	const char *name;
} needed[] = {
#define CAP(x)                                                                                                 \
	{                                                                                                      \
		x, #x                                                                                          \
	}
	CAP(KVM_CAP_IRQCHIP),        CAP(KVM_CAP_USER_MEMORY), CAP(KVM_CAP_SET_TSS_ADDR),
	CAP(KVM_CAP_EXT_CPUID),      CAP(KVM_CAP_MP_STATE),    CAP(KVM_CAP_IRQ_ROUTING),
	CAP(KVM_CAP_IRQFD),          CAP(KVM_CAP_IOEVENTFD),   CAP(KVM_CAP_SIGNAL_MSI),
	CAP(KVM_CAP_IMMEDIATE_EXIT), CAP(KVM_CAP_PIT2),        CAP(KVM_CAP_SET_IDENTITY_MAP_ADDR),
	CAP(KVM_CAP_NR_MEMSLOTS),
#undef CAP
};

int kvm_api_probe(int kvm_fd, struct kvm_api *api)
{
	size_t len = 0;

	memset(api, 0, sizeof(*api));
	api->expected = KVM_API_VERSION;
	api->version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0UL);
	if (api->version < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(needed) && len < sizeof(api->missing); i++)
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			len += (size_t)snprintf(api->missing + len, sizeof(api->missing) - len, "%s%s",
						len ? " " : "", needed[i].name);
	return 0;
}
