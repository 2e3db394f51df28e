/* vmevent on KVM: ioeventfd, irqfd and one interrupt route table. */
#ifndef VMM_KVM_EVENT_H
#define VMM_KVM_EVENT_H
#include "vmm/vmevent.h"

extern const struct vmevent_ops kvm_event_ops; /* v is embedded in struct vm */
#endif
