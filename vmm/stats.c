#include "vmm/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

void stats_print(const struct run_stats *s, FILE *out)
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
}

int stats_write_json(const struct run_stats *s, const char *path)
{
	json_t *o = json_object();
	int rc;

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
	errno = 0;
	rc = json_dump_file(o, path, JSON_INDENT(2));
	json_decref(o);
	return rc ? (errno ? -errno : -EIO) : 0;
}
