/* "ringlet explain": what a running VM's devices offer and why, who serves their queues and what was counted,
 * and what makes a path slow.  Plain facts go in, text comes out: vmm/machine_explain.c collects the facts. */
#ifndef VMM_EXPLAIN_H
#define VMM_EXPLAIN_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/kvm/kvm_stats.h"
#include "vmm/stats.h"

#define EXPLAIN_MAX_BITS 64

enum explain_say { EXPLAIN_SILENT, EXPLAIN_NO, EXPLAIN_YES };

struct explain_bit { /* of virtio's features */
	unsigned bit;
	char name[32];
	enum explain_say device, datapath;
	bool user_off, offered, taken;
	char removed_by[128]; /* "packed=off, vhost-net"; "": it is offered */
};

struct explain_queue {
	uint16_t size, max_size; /* entries: as the driver made it, as it might have; max 0: there is none */
	bool running;
	bool here;           /* this process walks it */
	uint64_t exit_kicks; /* doorbells that came as exits */
	struct queue_report counts;
};

enum explain_driver {
	EXPLAIN_NO_DRIVER,
	EXPLAIN_NEGOTIATES,
	EXPLAIN_RUNS,
	EXPLAIN_NEEDS_RESET,
	EXPLAIN_RESETTING, /* until lingers ends */
	EXPLAIN_GAVE_UP,   /* it set FAILED */
};

enum explain_interrupt { EXPLAIN_MSIX, EXPLAIN_INTX, EXPLAIN_SHARED /* virtio-mmio's only one */ };

struct explain_device {
	char name[16];        /* "net0" */
	const char *type;     /* "net" */
	const char *datapath; /* "vhost-net": who serves what this process does not */
	char served_by[256];  /* the same in a sentence, with who and where */
	uint32_t id;          /* VIRTIO_ID_* */
	bool remote;          /* datapath is not this process */
	enum explain_driver driver;
	bool busy;         /* its registers could not be looked at: a driver's access has not ended */
	bool negotiated;   /* taken is what the driver took */
	uint64_t taken;    /* bits */
	char refused[128]; /* names of bits that its driver asked for in vain, or "" */
	unsigned parallel; /* pairs of a card, request queues of a disk; 0: it has no choice */
	unsigned nbits;
	struct explain_bit bit[EXPLAIN_MAX_BITS];
	unsigned nqueues;
	struct explain_queue queue[STATS_MAX_QUEUES];

	/* The path. */
	enum explain_interrupt interrupt;
	bool notify_exit, irq_ioctl;
	bool away;         /* its back end */
	bool tap_gone;     /* the host removed it */
	bool lingers;      /* one before may still use guest memory */
	bool slirp;        /* net: through the helper that is a network of its own */
	bool rated;        /* net: rate= */
	bool sync_file;    /* disk: no io_uring */
	bool writethrough; /* disk */
};

struct explain_vm {
	unsigned nvcpus;
	uint64_t mem_bytes;
	bool mem_private; /* share=off */
	bool paused;
	struct run_stats run;
	struct kvm_stats kvm;
	const char *kvm_missing; /* why kvm is not filled in, or NULL */
};

void explain_print_vm(const struct explain_vm *vm, FILE *out);
void explain_print_device(const struct explain_vm *vm, const struct explain_device *d, FILE *out);
void explain_print_notes(const struct explain_device *d, unsigned n, FILE *out); /* on what is in the tables */

/* Each reason why d is slow, or stands still, as one sentence.  key: "no-event-idx", the same in every version.
 */
void explain_why(const struct explain_vm *vm, const struct explain_device *d,
		 void (*say)(void *opaque, const char *key, const char *sentence), void *opaque);
#endif
