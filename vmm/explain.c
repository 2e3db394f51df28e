#include "vmm/explain.h"

#include <inttypes.h>
#include <string.h>

#include "lib/cleanup.h"

/* --- the machine --- */

static void print_known(FILE *out, const char *before, uint64_t n, const char *after)
{
	if (n != KVM_STATS_UNKNOWN)
		fprintf(out, "%s%" PRIu64 "%s", before, n, after);
}

static void print_exits(const struct explain_vm *vm, FILE *out)
{
	const struct run_stats *r = &vm->run;
	const struct kvm_stats *k = &vm->kvm;

	if (vm->kvm_missing) {
		fprintf(out, "exits: - (%s); to Ringlet %" PRIu64 "\n", vm->kvm_missing, r->exits_total);
		return;
	}
	fprintf(out, "exits, as KVM counted them: ");
	print_known(out, "", k->exits, "");
	fprintf(out, "; to Ringlet %" PRIu64 " (I/O %" PRIu64 ", MMIO %" PRIu64 ", other %" PRIu64 ")",
		r->exits_total, r->exits_io, r->exits_mmio, r->exits_other);
	print_known(out, ", halts ", k->halt_exits, "");
	print_known(out, ", the host's interrupts ", k->irq_exits, "");
	fprintf(out, "; among the rest is every doorbell by ioeventfd\n");
	print_known(out, "interrupts, as KVM counted them: ", k->irq_injections,
		    " given to the guest, from all sources\n");
	print_known(out, "instructions that KVM carried out itself: ", k->insn_emulation, "\n");
}

void explain_print_vm(const struct explain_vm *vm, FILE *out)
{
	fprintf(out, "%u vCPU%s, %" PRIu64 " MiB of %s memory%s\n", vm->nvcpus, vm->nvcpus == 1 ? "" : "s",
		vm->mem_bytes >> 20, vm->mem_private ? "private" : "shared",
		vm->paused ? "; paused: nothing moves before \"ringlet ctl NAME resume\"" : "");
	print_exits(vm, out);
}

/* --- a device's head --- */

static const char *driver_word(const struct explain_device *d)
{
	static const char *const words[] = {
		[EXPLAIN_NO_DRIVER] = "no driver yet",
		[EXPLAIN_NEGOTIATES] = "its driver is setting it up",
		[EXPLAIN_RUNS] = "its driver runs",
		[EXPLAIN_NEEDS_RESET] = "waits for a reset by its driver",
		[EXPLAIN_RESETTING] = "is being reset",
		[EXPLAIN_GAVE_UP] = "given up by its driver",
	};

	return words[d->driver];
}

/* Before a driver runs it has not chosen. */
static bool has_intx(const struct explain_device *d)
{
	return d->interrupt == EXPLAIN_INTX && d->driver == EXPLAIN_RUNS;
}

static const char *interrupt_word(const struct explain_device *d)
{
	static const char *const words[] = {
		[EXPLAIN_MSIX] = "virtio-pci with MSI-X",
		[EXPLAIN_INTX] = "virtio-pci with INTx",
		[EXPLAIN_SHARED] = "virtio-mmio",
	};

	return has_intx(d) || d->interrupt != EXPLAIN_INTX ? words[d->interrupt] : "virtio-pci";
}

static void print_head(const struct explain_device *d, FILE *out)
{
	fprintf(out, "\n%s: %s, %s, doorbells by %s, interrupts by %s; %s\n", d->name, d->type,
		interrupt_word(d), d->notify_exit ? "exit" : "ioeventfd",
		d->irq_ioctl || has_intx(d) ? "ioctl" : "irqfd", driver_word(d));
	fprintf(out, "  served by %s\n", d->served_by);
}

/* --- bits --- */

static const char *say_word(enum explain_say say)
{
	static const char *const words[] = {[EXPLAIN_SILENT] = "-", [EXPLAIN_NO] = "no", [EXPLAIN_YES] = "yes"};

	return words[say];
}

static const char *took_word(const struct explain_device *d, const struct explain_bit *b)
{
	return !b->offered ? "" : !d->negotiated ? "offered" : b->taken ? "took" : "left";
}

static void print_bits(const struct explain_device *d, FILE *out)
{
	fprintf(out, "  bit name                 device datapath user driver  removed by\n");
	for (unsigned i = 0; i < d->nbits; i++) {
		const struct explain_bit *b = &d->bit[i];

		fprintf(out, "  %3u %-20s %-6s %-8s %-4s ", b->bit, b->name, say_word(b->device),
			say_word(b->datapath), b->user_off ? "off" : "");
		if (*b->removed_by)
			fprintf(out, "%-7s %s\n", took_word(d, b), b->removed_by);
		else
			fprintf(out, "%s\n", took_word(d, b));
	}
}

/* --- queues --- */

#define UNSEEN "-"

static void print_count(FILE *out, int width, uint64_t n)
{
	if (n == STATS_UNSEEN)
		fprintf(out, " %*s", width, UNSEEN);
	else
		fprintf(out, " %*" PRIu64, width, n);
}

/* Wake-ups are seen here, and those after an exit are known. */
static uint64_t by_ioeventfd(const struct explain_device *d, const struct explain_queue *q)
{
	if (d->notify_exit)
		return 0;
	if (q->counts.kicks == STATS_UNSEEN || q->counts.kicks < q->exit_kicks)
		return q->counts.kicks == STATS_UNSEEN ? STATS_UNSEEN : 0;
	return q->counts.kicks - q->exit_kicks;
}

static bool is_unseen(const struct explain_queue *q)
{
	return q->counts.kicks == STATS_UNSEEN || q->counts.chains == STATS_UNSEEN;
}

static void print_queue(const struct explain_device *d, unsigned i, FILE *out)
{
	const struct explain_queue *q = &d->queue[i];
	const struct queue_report *c = &q->counts;
	char size[16];

	if (d->busy) {
		fprintf(out, "  %5u ?/%-7u ?            it cannot be looked at now\n", i, q->max_size);
		return;
	}
	snprintf(size, sizeof(size), "%u/%u", q->size, q->max_size);
	fprintf(out, "  %5u %-9s %-12s", i, size,
		!q->running ? "nobody"
		: q->here   ? "this process"
			    : d->datapath);
	if (!q->running && !q->exit_kicks && (!q->here || (!c->kicks && !c->chains))) {
		fprintf(out, " it does not run\n");
		return;
	}
	print_count(out, 9, by_ioeventfd(d, q));
	print_count(out, 8, q->exit_kicks);
	print_count(out, 9, c->interrupts);
	print_count(out, 8, c->spared);
	print_count(out, 8, c->bursts);
	print_count(out, 9, c->chains);
	print_count(out, 12, c->bytes);
	print_count(out, 12, c->system_calls);
	fputc('\n', out);
}

static void print_queues(const struct explain_device *d, FILE *out)
{
	fprintf(out, "  queue entries   walked by    ioeventfd by exit interrupt   spared   bursts    chains   "
		     "     bytes "
		     "system calls\n");
	for (unsigned i = 0; i < d->nqueues; i++)
		if (d->queue[i].max_size)
			print_queue(d, i, out);
}

static bool has_unseen(const struct explain_device *d)
{
	for (unsigned i = 0; i < d->nqueues; i++)
		if (d->queue[i].max_size && d->queue[i].running && is_unseen(&d->queue[i]))
			return true;
	return false;
}

void explain_print_notes(const struct explain_device *d, unsigned n, FILE *out)
{
	bool unseen = false;

	for (unsigned i = 0; i < n; i++)
		unseen |= has_unseen(&d[i]);
	if (!n)
		return;
	fprintf(out,
		"\ndevice, datapath: \"-\" has no say in that bit.  driver: what it took or left of what "
		"it was offered.\n"
		"ioeventfd: wake-ups by one; several rings of a doorbell can be one, and a start is one.\n");
	if (unseen)
		fprintf(out, "counts: \"-\" is seen by nobody here: doorbells and interrupts of a queue that "
			     "is walked elsewhere pass\n"
			     "between the guest and who walks it without Ringlet.  KVM's sums above have them "
			     "among all others.\n");
}

/* --- why --- */

struct sentences {
	FILE *out;
	unsigned n;
};

static void print_sentence(void *opaque, const char *key, const char *sentence)
{
	struct sentences *s = opaque;

	(void)key;
	if (!s->n++)
		fprintf(s->out, "  why it is not as fast as it could be:\n");
	fprintf(s->out, "  * %s\n", sentence);
}

void explain_print_device(const struct explain_vm *vm, const struct explain_device *d, FILE *out)
{
	struct sentences s = {.out = out};

	print_head(d, out);
	print_bits(d, out);
	print_queues(d, out);
	explain_why(vm, d, print_sentence, &s);
	if (!s.n)
		fprintf(out, "  nothing that is seen from here makes it slow.\n");
}
