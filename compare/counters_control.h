/* What the VM itself says: "ringlet ctl NAME counters DEVICE". */
#ifndef COMPARE_COUNTERS_CONTROL_H
#define COMPARE_COUNTERS_CONTROL_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

#define VM_COUNTS_DEADLINE_MS 2000
#define VM_COUNTS_UNKNOWN     UINT64_MAX
#define VM_COUNTS_DOORBELLS   4

struct vm_counts {
	uint64_t exits, irq_injections; /* KVM's: VM_COUNTS_UNKNOWN if it has none */
	uint64_t user_exits;
	uint64_t kicks;      /* wake-ups by the device's doorbells; UNKNOWN if not all its queues are served
				there */
	uint64_t exit_kicks; /* doorbells that came as exits */
	bool busy;           /* a device waits for its back end: not all could be looked at */
	bool kvm_missing;    /* exits and irq_injections are not told */
	bool notify_exit;    /* all doorbells come so */
	bool remote, kernel_vhost, vdpa; /* who serves the device */
	bool pci;
	unsigned ndoorbells;
	struct {
		bool pio;
		uint64_t address, length;
	} doorbell[VM_COUNTS_DOORBELLS];
};

/* One request and its answer, within the deadline.  0, or -errno with a sentence in e: -ETIMEDOUT, -EPIPE (it
 * ended), -EPROTO (its answer is none), -EREMOTEIO (it refused, in its words), what connect() says. */
int vm_counts_ask(const char *socket_path, const char *device, struct vm_counts *out, struct err *e);
#endif
