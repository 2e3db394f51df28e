/* Why a path is slow: one function a reason.  Each writes its sentence and says whether it holds. */
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/explain.h"

#define MANY_VCPUS 4
#define MANY_EXITS 100 /* a few are made while a driver starts */
#define TEXT       512

typedef bool reason(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT]);

#define SAY(...) (snprintf(text, TEXT, __VA_ARGS__), true)

/* --- bits --- */

static bool took(const struct explain_device *d, unsigned bit)
{
	return d->taken >> bit & 1;
}

static bool lacks(const struct explain_device *d, unsigned bit)
{
	return d->negotiated && !took(d, bit);
}

/* Who sees to it that the driver has not got it. */
static const char *blame(const struct explain_device *d, unsigned bit, char *buf, size_t len)
{
	for (unsigned i = 0; i < d->nbits; i++) {
		if (d->bit[i].bit != bit)
			continue;
		if (d->bit[i].offered)
			return "its driver did not take it";
		snprintf(buf, len, "removed by %s", d->bit[i].removed_by);
		return buf;
	}
	return "neither device nor datapath has it";
}

/* --- it stands still --- */

static reason needs_reset, gave_up, refused, no_driver, negotiates, busy, away, lingers, tap_gone;

static bool needs_reset(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->driver == EXPLAIN_NEEDS_RESET &&
	       SAY("It stands still until its driver resets it; Ringlet's log says why.");
}

static bool gave_up(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->driver == EXPLAIN_GAVE_UP && SAY("Its driver has given it up (status FAILED).");
}

static bool refused(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return *d->refused && SAY("Its driver asked for %s, which it was not offered.", d->refused);
}

static bool no_driver(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->driver == EXPLAIN_NO_DRIVER &&
	       SAY("No driver has it: the guest has not looked for one yet, or has none.");
}

static bool negotiates(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->driver == EXPLAIN_NEGOTIATES && SAY("Its driver has found it and not started it yet.");
}

static bool busy(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->busy &&
	       SAY("An access of its driver to a register waits for %s and has not ended.", d->datapath);
}

static bool away(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->away && SAY("Its back end is away: nothing is served until it is back.");
}

static bool lingers(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->lingers &&
	       SAY("A back end that was cut off does not answer and may still use the guest's memory: "
		   "the device waits until it has ended.");
}

static bool tap_gone(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->tap_gone &&
	       SAY("Its tap is gone from the host: no frame comes or goes until it is moved to another.");
}

/* --- doorbells and interrupts --- */

static reason exits, exits_seen, irq_ioctl, intx, shared_interrupt, no_event_idx;

static bool exits(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->notify_exit &&
	       SAY("Each doorbell is an exit to Ringlet instead of an ioeventfd (notify=exit).");
}

/* The driver rings where, or as wide as, no ioeventfd is. */
static bool exits_seen(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	uint64_t n = 0;

	(void)vm;
	for (unsigned i = 0; i < d->nqueues; i++)
		n += d->queue[i].exit_kicks;
	return !d->notify_exit && n >= MANY_EXITS &&
	       SAY("%" PRIu64
		   " doorbells came as exits instead of by ioeventfd: its driver rings with another width, "
		   "or by configuration space.",
		   n);
}

static bool irq_ioctl(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->irq_ioctl && SAY("Each interrupt wakes Ringlet, which raises it by a system call, instead of "
				   "an irqfd (irq=ioctl).");
}

static bool intx(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->interrupt == EXPLAIN_INTX && d->driver == EXPLAIN_RUNS &&
	       SAY("Its driver uses INTx, not MSI-X: each interrupt goes through Ringlet, one line serves all "
		   "queues, "
		   "and the driver's look at the ISR is an exit.");
}

static bool shared_interrupt(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	unsigned n = 0;

	(void)vm;
	for (unsigned i = 0; i < d->nqueues; i++)
		n += d->queue[i].running;
	return d->interrupt == EXPLAIN_SHARED && n > 1 &&
	       SAY("virtio-mmio has one interrupt for its %u queues, and each look at its status is an exit; "
		   "transport=pci has one a queue.",
		   n);
}

static bool no_event_idx(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return lacks(d, VIRTIO_RING_F_EVENT_IDX) && SAY("No EVENT_IDX: doorbells and interrupts can only be "
							"turned on and off, so there are more of both (%s).",
							blame(d, VIRTIO_RING_F_EVENT_IDX, who, sizeof(who)));
}

/* --- rings and queues --- */

static reason no_indirect, short_ring, single_queue, no_mq;

static bool is_disk(const struct explain_device *d)
{
	return d->id == VIRTIO_ID_BLOCK;
}

static bool is_net(const struct explain_device *d)
{
	return d->id == VIRTIO_ID_NET;
}

static bool no_indirect(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return is_disk(d) && lacks(d, VIRTIO_RING_F_INDIRECT_DESC) &&
	       SAY("No INDIRECT_DESC: each request takes a ring entry a piece, so fewer can be under way (%s).",
		   blame(d, VIRTIO_RING_F_INDIRECT_DESC, who, sizeof(who)));
}

static bool short_ring(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	for (unsigned i = 0; i < d->nqueues; i++) {
		const struct explain_queue *q = &d->queue[i];

		if (q->running && q->size <= q->max_size / 4)
			return SAY("Its driver made queue %u of %u entries where %u could be: less can be "
				   "under way.",
				   i, q->size, q->max_size);
	}
	return false;
}

static bool single_queue(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	return d->parallel == 1 && vm->nvcpus >= MANY_VCPUS &&
	       SAY("%u vCPUs share one %s: they wait for each other, and one thread serves them all; queues=%u "
		   "gives "
		   "each its own.",
		   vm->nvcpus, is_net(d) ? "pair of queues" : "queue", vm->nvcpus < 16 ? vm->nvcpus : 16);
}

static bool no_mq(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	const unsigned bit = is_net(d) ? VIRTIO_NET_F_MQ : VIRTIO_BLK_F_MQ;
	char who[160];

	(void)vm;
	return (is_net(d) || is_disk(d)) && d->parallel > 1 && lacks(d, bit) &&
	       SAY("No MQ: of %u %s the driver uses one (%s).", d->parallel,
		   is_net(d) ? "pairs of queues" : "queues", blame(d, bit, who, sizeof(who)));
}

/* --- cards --- */

static reason no_csum, no_tx_offload, no_rx_offload, no_mrg_rxbuf, slirp, rated;

static bool no_csum(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return is_net(d) && lacks(d, VIRTIO_NET_F_CSUM) &&
	       SAY("No CSUM: the guest computes the checksums of all it sends, and can have no TSO (%s).",
		   blame(d, VIRTIO_NET_F_CSUM, who, sizeof(who)));
}

static bool no_tx_offload(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return is_net(d) && lacks(d, VIRTIO_NET_F_HOST_TSO4) && !lacks(d, VIRTIO_NET_F_CSUM) &&
	       SAY("No HOST_TSO4: the guest cuts TCP into frames of the MTU itself when it sends (%s).",
		   blame(d, VIRTIO_NET_F_HOST_TSO4, who, sizeof(who)));
}

static bool no_rx_offload(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return is_net(d) && lacks(d, VIRTIO_NET_F_GUEST_TSO4) &&
	       SAY("No GUEST_TSO4: the guest receives TCP one frame of the MTU at a time (%s).",
		   blame(d, VIRTIO_NET_F_GUEST_TSO4, who, sizeof(who)));
}

static bool no_mrg_rxbuf(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	char who[160];

	(void)vm;
	return is_net(d) && lacks(d, VIRTIO_NET_F_MRG_RXBUF) && took(d, VIRTIO_NET_F_GUEST_TSO4) &&
	       SAY("No MRG_RXBUF: each receive buffer must hold a frame of 64 KiB, so a ring holds few (%s).",
		   blame(d, VIRTIO_NET_F_MRG_RXBUF, who, sizeof(who)));
}

static bool slirp(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->slirp &&
	       SAY("Each frame is copied to a helper process that is the network in user space (--net user); "
		   "a tap has none of that.");
}

static bool rated(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->rated && SAY("It is held to a rate (rate=).");
}

/* --- disks --- */

static reason sync_file, writethrough, memory;

static bool sync_file(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->sync_file &&
	       SAY("Its file is read and written by a system call a request, not by io_uring (aio=sync, or "
		   "io_uring is refused on this host).");
}

static bool writethrough(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	(void)vm;
	return d->writethrough && SAY("Each write waits until it is durable (cache=writethrough).");
}

static bool memory(const struct explain_vm *vm, const struct explain_device *d, char text[TEXT])
{
	return vm->mem_private && (is_net(d) || is_disk(d)) &&
	       SAY("Memory is not shared (--mem share=off): no back end of vhost-user or vDPA can serve it.");
}

/* --- all --- */

static const struct {
	const char *key;
	reason *holds;
} reasons[] = {
	{"needs-reset", needs_reset},
	{"gave-up", gave_up},
	{"refused", refused},
	{"no-driver", no_driver},
	{"negotiates", negotiates},
	{"busy", busy},
	{"away", away},
	{"lingers", lingers},
	{"tap-gone", tap_gone},
	{"notify-exit", exits},
	{"doorbells-exit", exits_seen},
	{"irq-ioctl", irq_ioctl},
	{"intx", intx},
	{"shared-interrupt", shared_interrupt},
	{"no-event-idx", no_event_idx},
	{"no-indirect", no_indirect},
	{"short-ring", short_ring},
	{"single-queue", single_queue},
	{"no-mq", no_mq},
	{"no-csum", no_csum},
	{"no-tx-offload", no_tx_offload},
	{"no-rx-offload", no_rx_offload},
	{"no-mrg-rxbuf", no_mrg_rxbuf},
	{"slirp", slirp},
	{"rate", rated},
	{"sync-file", sync_file},
	{"writethrough", writethrough},
	{"private-memory", memory},
};

void explain_why(const struct explain_vm *vm, const struct explain_device *d,
		 void (*say)(void *opaque, const char *key, const char *sentence), void *opaque)
{
	char text[TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].holds(vm, d, text))
			say(opaque, reasons[i].key, text);
}
