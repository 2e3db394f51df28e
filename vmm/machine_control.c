/* What "ringlet ctl" asks of a running machine. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "vmm/machine_counters.h"
#include "vmm/machine_explain.h"
#include "vmm/machine_parts.h"

static int ctl_pause(struct machine *m, bool pause, char *text, size_t size)
{
	if (m->paused == pause)
		return snprintf(text, size, pause ? "it is paused already" : "it is not paused"), -EALREADY;
	for (unsigned i = 0; i < m->inst->nvcpus; i++)
		pause ? vcpu_pause(&m->inst->vcpu[i]) : vcpu_resume(&m->inst->vcpu[i]);
	m->paused = pause;
	return 0;
}

static int ctl_stats(struct machine *m, char *text, size_t size)
{
	struct run_stats s = m->stats; /* of earlier lives; this one is counted at its end */
	struct devices_report devices;
	int rc = devices_report(m->devices, &devices);
	FILE *out = rc ? NULL : fmemopen(text, size, "w");

	if (!rc && !out)
		rc = -errno;
	if (rc) {
		snprintf(text, size, "%s", strerror(-rc));
	} else {
		machine_count(m, &s);
		s.console_bytes = m->console_bytes;
		s.run_ns = clock_ns(CLOCK_MONOTONIC) - m->started_ns - s.first_run_ns;
		stats_print(&s, &devices, out);
		fclose(out);
	}
	devices_report_free(&devices);
	return rc;
}

static int ctl_balloon(struct machine *m, const char *word, char *text, size_t size)
{
	struct err e = {0};
	uint64_t bytes;
	int rc = config_parse_size(word, &bytes);

	if (rc)
		return snprintf(text, size, "\"%s\" is no size; for example 256M", word), rc;
	rc = devices_set_balloon(m->devices, bytes, &e);
	if (rc)
		snprintf(text, size, "%s", e.text);
	return rc;
}

static int ctl_resize(struct machine *m, const char *disk, char *text, size_t size)
{
	struct err e = {0};
	int rc = devices_resize_disk(m->devices, disk, &e);

	if (rc)
		snprintf(text, size, "%s", e.text);
	return rc;
}

/* A VM that somebody has paused stays so. */
static void stand_still(void *opaque, bool on)
{
	struct machine *m = opaque;

	for (unsigned i = 0; !m->paused && i < m->inst->nvcpus; i++)
		on ? vcpu_pause(&m->inst->vcpu[i]) : vcpu_resume(&m->inst->vcpu[i]);
}

static int ctl_datapath(struct machine *m, const char *device, const char *words, struct errand_fds *fds,
			char *text, size_t size)
{
	const struct devices_vcpus vcpus = {.stand_still = stand_still, .opaque = m};
	struct err e = {0};
	int rc = devices_datapath(m->devices, device, words, &vcpus, fds, text, size, &e);

	if (rc)
		snprintf(text, size, "%s", e.text);
	return rc;
}

/* On the loop's thread. */
void machine_errands(void *opaque, int argc, char *const argv[], struct errands *out)
{
	struct machine *m = opaque;

	if (!strcmp(argv[0], "datapath") && argc == 3)
		devices_errands(m->devices, argv[1], argv[2], out);
}

int machine_on_control(void *opaque, int argc, char *const argv[], struct errand_fds *fds, char *text,
		       size_t size)
{
	struct machine *m = opaque;
	const char *arg = argc > 1 ? argv[1] : NULL;

	if (!strcmp(argv[0], "resize-disk") && argc <= 2)
		return ctl_resize(m, arg, text, size);
	if (!strcmp(argv[0], "datapath") && argc == 3)
		return ctl_datapath(m, argv[1], argv[2], fds, text, size);
	if (!strcmp(argv[0], "balloon") && argc == 2)
		return ctl_balloon(m, arg, text, size);
	if (!strcmp(argv[0], "pause") && argc == 1)
		return ctl_pause(m, true, text, size);
	if (!strcmp(argv[0], "resume") && argc == 1)
		return ctl_pause(m, false, text, size);
	if (!strcmp(argv[0], "explain") && argc <= 2)
		return machine_explain(m, arg, text, size);
	if (!strcmp(argv[0], "stats") && argc == 1)
		return ctl_stats(m, text, size);
	if (!strcmp(argv[0], "counters") && argc <= 2)
		return machine_counters(m, arg, text, size);
	if (!strcmp(argv[0], "power-button") && argc == 1) {
		m->asked = true;
		machine_power_button(m);
		return 0;
	}
	if (!strcmp(argv[0], "quit") && argc == 1) {
		machine_end(m, OUTCOME_QUIT, 0);
		return 0;
	}
	snprintf(text, size, "\"%s\" with %d words after it is nothing that I know; see \"ringlet help ctl\"",
		 argv[0], argc - 1);
	return -EINVAL;
}
