#include "compare/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/host.h"
#include "compare/workloads.h"
#include "lib/cleanup.h"

#define WARM_MS 300

static unsigned ms_of(double seconds)
{
	return (unsigned)(seconds * 1000 + .5);
}

char *guest_bare_append(const struct plan *p, const struct workload *w, bool packed, bool probe)
{
	const char *what = w ? w->name : p->disk ? "qd1" : "pps";
	char *text = NULL;

	if (asprintf(&text, "what=%s ms=%u warm=%u hold=%u%s%s", what, ms_of(p->seconds), WARM_MS,
		     GUEST_HOLD_MS, packed ? " packed=1" : "", probe ? " probe=1" : "") < 0)
		return NULL;
	return text;
}

/* What a tool is told may have to be whole seconds. */
static unsigned whole_seconds(const struct plan *p)
{
	const unsigned ms = ms_of(p->seconds);

	return ms < 1000 ? 1 : (ms + 999) / 1000;
}

char *guest_linux_script(const struct plan *p)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "kind=%s\nseconds=%u\nms=%u\nhold_us=%u\n", p->disk ? "disk" : "net", whole_seconds(p),
		ms_of(p->seconds), GUEST_HOLD_MS * 1000u);
	fprintf(f, "address=%s\nprefix=%s\nhost=%s\nworkloads='", GUEST_ADDRESS, HOST_PREFIX, HOST_ADDRESS);
	for (unsigned i = 0; i < p->nworkloads; i++)
		fprintf(f, "%s%s", i ? " " : "", p->workload[i].name);
	fprintf(f, "'\npoints='");
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		fprintf(f, "%s%g", i ? " " : "", latency_percent[i]);
	fprintf(f, "'\n%s", guest_script);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* On any address: a user-mode network's host is our loopback. */
static char *const iperf3[] = {"iperf3", "-s", "--logfile", "/dev/null", NULL};
static char *const sockperf[] = {"sockperf", "server", "--tcp", NULL};
static char *const *const servers[] = {iperf3, sockperf};

static bool is_wanted(const struct plan *p, const char *program)
{
	for (unsigned i = 0; i < p->nworkloads; i++) {
		const char *server = workload_server(&p->workload[i]);

		if (server && !strcmp(server, program))
			return true;
	}
	return false;
}

char *const *guest_host_server(const struct plan *p, unsigned n)
{
	for (unsigned i = 0; p->guest == GUEST_LINUX && i < ARRAY_SIZE(servers); i++)
		if (is_wanted(p, servers[i][0]) && !n--)
			return servers[i];
	return NULL;
}
