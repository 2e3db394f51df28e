/* One virtual CPU: its fd, its thread, and what happens when it leaves the guest. */
#ifndef VMM_KVM_VCPU_H
#define VMM_KVM_VCPU_H
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/boot.h"
#include "vmm/bus.h"
#include "vmm/kvm/vm.h"

enum vcpu_next {
	VCPU_RUN,      /* go on */
	VCPU_STOPPED,  /* vcpu_stop() */
	VCPU_SHUTDOWN, /* powered off by a system event */
	VCPU_RESET,    /* triple fault, or reset by a system event */
	VCPU_MEMORY,   /* guest RAM is gone from under it (KVM_RUN: EFAULT) */
	VCPU_FAILED    /* an exit nobody handles; reason and registers are logged */
};

#define VCPU_EXIT_REASONS 64

struct vcpu_stats {                                /* written by the vCPU's thread only; readable by anyone */
	_Atomic uint64_t exits[VCPU_EXIT_REASONS]; /* left the guest for us, by KVM_EXIT_* */
	_Atomic uint64_t pio_unhandled, mmio_unhandled;
	_Atomic uint64_t coalesced;                      /* writes that came without an exit */
	_Atomic uint64_t first_run_cpu_ns, first_run_ns; /* process CPU time, CLOCK_MONOTONIC */
};

struct vcpu_config {
	struct vm *vm;
	unsigned index;
	uint32_t apic_id;
	int pin; /* host CPU, or -1 */
	struct bus *pio, *mmio;
	/* Called once, on the vCPU's thread, when it ends by itself (not by vcpu_stop()). */
	void (*ended)(void *opaque, unsigned index, enum vcpu_next why);
	/* Asked after each exit, before anything of it is handled, no lock held: may this vCPU make more
	 * output now?  Waits a short while; false: ask again.  NULL: always. */
	bool (*ready)(void *opaque);
	void *opaque;
};

struct vcpu {
	struct vcpu_config cfg;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* the rest */
	pthread_cond_t changed;
	bool stop;
	unsigned pause; /* how many asked for it */
	bool outside;   /* of KVM_RUN and of every handler */
	enum vcpu_next why;
	struct vcpu_stats stats;
	unsigned refused; /* EAGAIN of KVM_RUN since it last was in the guest */
};

int vcpu_init(struct vcpu *c, const struct vcpu_config *cfg, struct err *e);
void vcpu_fini(struct vcpu *c); /* after vcpu_join(), if it was started */

int vcpu_start(struct vcpu *c, struct err *e);
void vcpu_stop(struct vcpu *c);  /* any thread: leave KVM_RUN and do not come back */
void vcpu_pause(struct vcpu *c); /* any other thread: returns once it is out of KVM_RUN and of every handler */
void vcpu_resume(struct vcpu *c);
enum vcpu_next vcpu_join(struct vcpu *c); /* why it ended */

/* --- per architecture (vcpu_x86.c) --- */
struct cpu_model; /* what all vCPUs of a VM share: the host's CPUID as KVM allows it */
struct cpu_config;
int cpu_model_init(struct cpu_model **model, struct vm *vm, const struct cpu_config *cfg, struct err *e);
void cpu_model_free(struct cpu_model *model);
uint32_t cpu_model_apic_id(const struct cpu_model *model, unsigned index);
uint8_t cpu_model_phys_bits(const struct cpu_model *model);
int vcpu_setup(struct vcpu *c, const struct cpu_model *model, struct err *e);
int vcpu_set_entry(struct vcpu *c, const struct boot_entry *entry, struct err *e); /* boot vCPU only */
void vcpu_log_registers(struct vcpu *c);
#endif
