#include "vmm/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "lib/outfile.h"

/* As text and in JSON, by VIRTIO_BALLOON_S_*. */
static const char *const balloon_names[STATS_MAX_BALLOON][2] = {
	{"swapped in", "swap_in"},
	{"swapped out", "swap_out"},
	{"major faults", "major_faults"},
	{"minor faults", "minor_faults"},
	{"free memory", "free_memory"},
	{"total memory", "total_memory"},
	{"available", "available_memory"},
	{"disk caches", "disk_caches"},
	{"huge pages given", "hugetlb_allocations"},
	{"huge pages refused", "hugetlb_failures"},
};

/* --- text --- */

static void print_count(FILE *out, const char *what, uint64_t n)
{
	if (n != STATS_UNSEEN)
		fprintf(out, "  %s %" PRIu64, what, n);
}

static bool seen(uint64_t n)
{
	return n && n != STATS_UNSEEN;
}

static void print_queue(const struct device_report *d, unsigned i, FILE *out)
{
	const struct queue_report *q = &d->queue[i];

	if (!seen(q->kicks) && !seen(q->chains) && !seen(q->interrupts))
		return;
	fprintf(out, "%s queue %u:", d->name, i);
	print_count(out, "kicks", q->kicks);
	print_count(out, "bursts", q->bursts);
	print_count(out, "chains", q->chains);
	print_count(out, "bytes", q->bytes);
	print_count(out, "interrupts", q->interrupts);
	print_count(out, "spared", q->spared);
	print_count(out, "system calls", q->system_calls);
	fputc('\n', out);
}

static void print_balloon(const struct balloon_report *b, FILE *out)
{
	fprintf(out,
		"balloon: wanted %" PRIu64 " MiB, is %" PRIu64 " MiB; given back to the host %" PRIu64 " MiB\n",
		b->wanted >> 20, b->actual >> 20, b->returned >> 20);
	if (!b->known)
		return;
	fprintf(out, "the guest says:");
	for (unsigned i = 0; i < STATS_MAX_BALLOON; i++)
		if (b->known & (1u << i))
			fprintf(out, "  %s %" PRIu64, balloon_names[i][0], b->value[i]);
	fputc('\n', out);
}

void stats_print(const struct run_stats *s, const struct devices_report *d, FILE *out)
{
	fprintf(out,
		"exits to Ringlet    %10" PRIu64 "  (I/O %" PRIu64 ", MMIO %" PRIu64 ", other %" PRIu64 ")\n"
		"  nobody there      %10" PRIu64 "  (I/O %" PRIu64 ", MMIO %" PRIu64 ")\n"
		"writes without exit %10" PRIu64 "\n"
		"console bytes       %10" PRIu64 "\n"
		"first KVM_RUN after %10.3f ms (%.3f ms of CPU)\n"
		"guest ran for       %10.3f ms\n",
		s->exits_total, s->exits_io, s->exits_mmio, s->exits_other,
		s->pio_unhandled + s->mmio_unhandled, s->pio_unhandled, s->mmio_unhandled, s->coalesced,
		s->console_bytes, (double)s->first_run_ns / 1e6, (double)s->first_run_cpu_ns / 1e6,
		(double)s->run_ns / 1e6);
	for (unsigned i = 0; i < d->n; i++)
		for (unsigned q = 0; q < d->device[i].nqueues; q++)
			print_queue(&d->device[i], q, out);
	if (d->balloon)
		print_balloon(d->balloon, out);
}

/* --- JSON --- */

static json_t *count(uint64_t n)
{
	return n == STATS_UNSEEN ? json_null() : json_integer((json_int_t)n);
}

static json_t *queue_object(const struct queue_report *q, unsigned index)
{
	return json_pack("{s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "index", (int)index, "kicks", count(q->kicks),
			 "bursts", count(q->bursts), "chains", count(q->chains), "bytes", count(q->bytes),
			 "interrupts", count(q->interrupts), "spared", count(q->spared), "system_calls",
			 count(q->system_calls));
}

static json_t *device_object(const struct device_report *d)
{
	json_t *queues = json_array();

	for (unsigned i = 0; i < d->nqueues; i++)
		json_array_append_new(queues, queue_object(&d->queue[i], i));
	return json_pack("{s:s,s:s,s:s,s:o}", "name", d->name, "type", d->type, "transport", d->transport,
			 "queues", queues);
}

static json_t *balloon_object(const struct balloon_report *b)
{
	json_t *guest = json_object();

	for (unsigned i = 0; i < STATS_MAX_BALLOON; i++)
		if (b->known & (1u << i))
			json_object_set_new(guest, balloon_names[i][1], count(b->value[i]));
	return json_pack("{s:o,s:o,s:o,s:o}", "wanted", count(b->wanted), "actual", count(b->actual),
			 "returned", count(b->returned), "guest", guest);
}

static json_t *run_object(const struct run_stats *s)
{
	json_t *o = json_object();

#define FIELD(name) json_object_set_new(o, #name, json_integer((json_int_t)s->name))
	FIELD(ncpus);
	FIELD(status);
	FIELD(exits_total);
	FIELD(exits_io);
	FIELD(exits_mmio);
	FIELD(exits_other);
	FIELD(pio_unhandled);
	FIELD(mmio_unhandled);
	FIELD(coalesced);
	FIELD(shadow_on);
	FIELD(console_bytes);
	FIELD(first_run_cpu_ns);
	FIELD(first_run_ns);
	FIELD(run_ns);
#undef FIELD
	return o;
}

static json_t *whole_object(const struct run_stats *s, const struct devices_report *d)
{
	json_t *o = run_object(s);
	json_t *devices = json_array();

	for (unsigned i = 0; i < d->n; i++)
		json_array_append_new(devices, device_object(&d->device[i]));
	json_object_set_new(o, "devices", devices);
	if (d->balloon)
		json_object_set_new(o, "balloon", balloon_object(d->balloon));
	return o;
}

char *stats_json(const struct run_stats *s, const struct devices_report *d)
{
	json_t *o = whole_object(s, d);
	char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	return text;
}

int stats_write_json(const struct run_stats *s, const struct devices_report *d, const char *path)
{
	json_t *o = whole_object(s, d);
	struct outfile out;
	int rc, end;

	rc = outfile_begin(&out, path);
	if (!rc) {
		errno = 0;
		rc = json_dumpfd(o, out.fd, JSON_INDENT(2)) ? (errno ? -errno : -EIO) : 0;
		end = outfile_end(&out, !rc);
		rc = rc ? rc : end;
	}
	json_decref(o);
	return rc;
}

/* --- JSON for programs, of a running VM --- */

_Static_assert(KVM_STATS_UNKNOWN == STATS_UNSEEN, "null is null");

static json_t *kvm_object(const struct kvm_stats *s)
{
	json_t *o = json_object();

#define FIELD(name) json_object_set_new(o, #name, count(s->name))
	FIELD(exits);
	FIELD(io_exits);
	FIELD(mmio_exits);
	FIELD(halt_exits);
	FIELD(irq_exits);
	FIELD(signal_exits);
	FIELD(irq_injections);
	FIELD(insn_emulation);
#undef FIELD
	return o;
}

static json_t *doorbells_array(const struct counted_device *d)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < d->ndoorbells; i++)
		json_array_append_new(all,
				      json_pack("{s:s,s:I,s:I}", "space", d->doorbell[i].pio ? "io" : "memory",
						"address", (json_int_t)d->doorbell[i].address, "length",
						(json_int_t)d->doorbell[i].length));
	return all;
}

static json_t *counted_object(const struct counted_device *d)
{
	json_t *o = device_object(&d->report), *queues = json_object_get(o, "queues"), *q;
	size_t i;

	json_object_set_new(o, "datapath", json_string(d->datapath));
	json_object_set_new(o, "remote", json_boolean(d->remote));
	json_object_set_new(o, "notify", json_string(d->notify_exit ? "exit" : "ioeventfd"));
	json_object_set_new(o, "doorbells", doorbells_array(d));
	json_array_foreach(queues, i, q)
	{
		json_object_set_new(q, "here", json_boolean(d->here[i]));
		json_object_set_new(q, "exit_kicks", count(d->exit_kicks[i]));
	}
	return o;
}

int stats_counters_json(const struct counters_report *c, char *text, size_t size)
{
	json_t *devices = json_array(), *o;
	size_t len;

	for (unsigned i = 0; i < c->ndevices; i++)
		json_array_append_new(devices, counted_object(&c->device[i]));
	o = json_pack("{s:b,s:o,s:o,s:o}", "busy", c->busy, "run", run_object(&c->run), "kvm",
		      c->kvm_missing ? json_null() : kvm_object(&c->kvm), "devices", devices);
	if (c->kvm_missing)
		json_object_set_new(o, "kvm_missing", json_string(c->kvm_missing));
	len = o ? json_dumpb(o, text, size, JSON_COMPACT) : 0;
	json_decref(o);
	if (!len)
		return -ENOMEM;
	if (len >= size) { /* what is there is a part */
		text[0] = '\0';
		return -EMSGSIZE;
	}
	text[len] = '\0';
	return 0;
}
