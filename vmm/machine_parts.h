/* The machine's insides, for its files alone (machine*.c).
 *
 * struct machine is the process's; struct vm_instance is one life of the guest.  A guest that resets
 * under --reboot again gets a new instance: new VM, vCPUs and devices over the same (cleared) RAM, so
 * nothing of its past can survive in a register.
 *
 * Threads: the loop (main thread) owns signals, timers and the terminal; each vCPU its exits; the
 * consoles their writers.  Whoever learns that the guest is over calls machine_end(); the first one
 * wins. */
#ifndef VMM_MACHINE_PARTS_H
#define VMM_MACHINE_PARTS_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/bus.h"
#include "vmm/config.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/evloop.h"
#include "vmm/guest_mem.h"
#include "vmm/kvm/shadow.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine_command.h"
#include "vmm/machine_devices.h"
#include "vmm/machine_root.h"
#include "vmm/outcome.h"
#include "vmm/payload.h"
#include "vmm/pci.h"
#include "vmm/platform.h"
#include "vmm/sandbox.h"
#include "vmm/serial.h"
#include "vmm/stats.h"
#include "vmm/terminal.h"

#define DRAIN_BUSY_MS 10 /* how long a queued write may wait while there are many */

struct vm_instance {
	struct vm vm;
	struct cpu_model *model;
	struct bus pio, mmio;
	struct platform platform;
	struct pci pci;
	struct serial com1, com2;
	struct kvm_shadow shadow;
	struct vcpu *vcpu; /* [nvcpus] set up so far */
	unsigned nvcpus;
};

struct machine {
	const struct run_config *cfg;
	struct sandbox sandbox;
	int kvm_fd; /* for the lives after the first, or -1 */
	struct payload payload;
	struct guest_mem mem;
	struct evloop *loop;
	struct console *console; /* kernel log, or the whole terminal */
	struct machine_command command;
	struct terminal terminal;
	bool has_terminal;
	struct ev_watch signals;
	struct ev_timer timeout, boot, drain, trouble, settle;
	struct vm_instance *inst;
	struct devices *devices;
	struct machine_root *root; /* what serves --root and --share; NULL: nothing */
	struct control *control;
	bool paused;
	_Atomic bool output_held; /* the virtio console waits for room in ours */
	_Atomic bool input_room;  /* ... or has room for input again */
	pthread_mutex_t end_lock;
	enum outcome outcome;
	int value;
	_Atomic bool panic_seen;
	_Atomic bool seen[TROUBLES]; /* on the console, in this life */
	_Atomic bool asked;          /* the power button was pressed */
	uint64_t console_bytes;
	unsigned quiet;               /* looks at the ring, in a row, that found nothing */
	uint64_t started_ns, exec_ns; /* CLOCK_MONOTONIC: main(), exec() */
	struct timespec exec_date;    /* CLOCK_REALTIME, of the same */
	struct run_stats stats;
};

/* --- machine_end.c: how the guest ends, and who says so --- */

bool machine_again(const struct machine *m); /* it starts anew after what ended it */
/* Any thread. */
void machine_end(struct machine *m, enum outcome outcome, int value);
void machine_power_button(struct machine *m); /* loop's thread */
void machine_on_platform(void *opaque, enum platform_event event, uint8_t value);
void machine_on_reset_port(void *opaque);
void machine_on_vcpu_ended(void *opaque, unsigned index, enum vcpu_next why);
void machine_on_trouble(void *opaque, enum trouble kind);
void machine_on_trouble_timer(struct ev_timer *t);
void machine_on_timeout(struct ev_timer *t);
void machine_on_boot_timeout(struct ev_timer *t);
/* When the guest has ended and all of its console was read: an answer is none where the kernel was in trouble.
 */
void machine_judge(struct machine *m);
/* What is known of the end beside the outcome, or "". */
void machine_detail(struct machine *m, const struct err *e, char *text, size_t size);
void machine_on_root_lost(void *opaque); /* a directory is not served any more; said why */
/* Before memory is anybody else's: waits until no back end can write to it.  False: the guest is to end
 * instead. */
bool machine_settle(struct machine *m);
void machine_on_settle(struct ev_timer *t);
void machine_on_signal(struct ev_watch *w, uint32_t events);

/* --- machine_io.c: consoles, terminal, serial ports --- */

int machine_init_consoles(struct machine *m, struct err *e);
int machine_init_terminal(struct machine *m, struct err *e);
struct devices_console machine_virtio_console(struct machine *m); /* the virtio console's end */
bool machine_on_ready(void *opaque);                              /* for vCPUs: may the guest write on? */
void machine_on_room(void *opaque);
void machine_on_com1(void *opaque, const void *data, size_t len);
void machine_queued_write(void *opaque, bool pio, uint64_t addr, const void *data, unsigned len);
void machine_on_drain(struct ev_timer *t);

/* --- machine_instance.c: one life of the guest --- */

int machine_instance_new(struct machine *m, struct err *e); /* on errors too, instance_free() is due */
int machine_instance_run(struct machine *m, struct err *e);
void machine_instance_free(struct machine *m);
/* Adds what this life has counted. */
void machine_count(const struct machine *m, struct run_stats *s);

/* --- machine_result.c: what is told of the run --- */

/* Before anything can go wrong: --result says "failed" until it is known better, so that a run that is killed
 * leaves nothing of an earlier one.  0 or -errno. */
int machine_result_begin(struct machine *m, const struct config *cfg, struct err *e);
/* Opens what machine_result_end() writes, which can open nothing.  0 or -errno. */
int machine_result_reserve(const struct machine *m, struct err *e);
/* --stats, --result, --junit: 0 or -errno, said.  Before the devices are closed; tail: the console's, or NULL.
 */
int machine_result_end(struct machine *m, const struct config *cfg, int status, const char *why,
		       const char *tail);

/* --- machine_control.c: what "ringlet ctl" asks for --- */

int machine_on_control(void *opaque, int argc, char *const argv[], struct errand_fds *fds, char *text,
		       size_t size);
void machine_errands(void *opaque, int argc, char *const argv[], struct errands *out);
#endif
