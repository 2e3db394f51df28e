/* What KVM itself has counted: its binary statistics (Linux 5.14; Documentation/virt/kvm/api.rst, 4.133). */
#ifndef VMM_KVM_KVM_STATS_H
#define VMM_KVM_KVM_STATS_H
#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* Sums over all vCPUs, since they were made.  What this kernel does not count is KVM_STATS_UNKNOWN. */
#define KVM_STATS_UNKNOWN UINT64_MAX
struct kvm_stats {
	uint64_t exits;          /* of any kind, most of which stay in the kernel */
	uint64_t io_exits;       /* port I/O, answered in the kernel or not */
	uint64_t mmio_exits;     /* MMIO that the kernel could not answer */
	uint64_t halt_exits;     /* the guest had nothing to do */
	uint64_t irq_exits;      /* the host had an interrupt */
	uint64_t signal_exits;   /* somebody here wanted the vCPU out */
	uint64_t irq_injections; /* interrupts given to the guest, of any source */
	uint64_t insn_emulation; /* instructions that KVM carried out itself */
};

/* Adds those of the file fd that KVM_GET_STATS_FD gave to out.  0 or -errno; -EPROTO: it is no such file. */
int kvm_stats_read(int fd, struct kvm_stats *out);

/* All of n vCPUs.  Not on a vCPU's thread: each is paused for the moment in which KVM makes its file.
 * 0; -ENOTTY: this KVM has no statistics; another -errno. */
int kvm_stats_collect(struct vcpu *vcpu, unsigned n, struct kvm_stats *out);
#endif
