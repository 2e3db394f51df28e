#include "compare/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compare/host.h"
#include "compare/process.h"
#include "compare/workloads.h"

struct missing {
	struct err *e;
	unsigned n;
};

static void add(struct missing *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct missing *m, const char *fmt, ...)
{
	const size_t len = strlen(m->e->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->e->text + len, sizeof(m->e->text) - len, fmt, ap);
	va_end(ap);
	m->n++;
}

static void want_file(struct missing *m, const char *option, const char *path)
{
	if (path && access(path, R_OK))
		add(m, "\n%s %s: %s", option, path, strerror(errno));
}

static void want_program(struct missing *m, const char *program, const char *package, const char *who)
{
	if (!process_exists(program))
		add(m, "\n%s: there is no %s; install the package %s", who, program, package);
}

static void want_device(struct missing *m, const char *who, const char *device, const char *module)
{
	host_module(module);
	if (access(device, F_OK))
		add(m, "\n%s: there is no %s; as root: modprobe %s", who, device, module);
	else if (access(device, R_OK | W_OK))
		add(m, "\n%s: %s: %s; run this as root", who, device, strerror(errno));
}

static void check_path(struct missing *m, const struct path *path)
{
	switch (path->kind) {
	case PATH_VHOST_NET:
		want_device(m, path->name, "/dev/vhost-net", "vhost_net");
		break;
	case PATH_NET_VDPA:
	case PATH_DISK_VDPA:
		if (path->device) {
			want_file(m, path->name, path->device);
			break;
		}
		host_module("vhost_vdpa");
		want_device(m, path->name, "/dev/vduse/control", "vduse");
		if (geteuid())
			add(m, "\n%s: making a vDPA device takes root; or give one: vdpa=/dev/vhost-vdpa-N",
			    path->name);
		break;
	case PATH_TAP:
	case PATH_NET_VHOST_USER:
		want_device(m, path->name, "/dev/net/tun", "tun");
		break;
	case PATH_USER:
	case PATH_IN_PROCESS:
	case PATH_DISK_VHOST_USER:
		break;
	}
}

int check_plan(const struct plan *p, struct err *e)
{
	struct missing m = {.e = e};

	snprintf(e->text, sizeof(e->text), "compare: not everything is there:");
	want_device(&m, "the guest", "/dev/kvm", "kvm");
	want_file(&m, "--kernel", p->kernel);
	want_file(&m, "--initrd", p->initrd);
	want_file(&m, "--tools", p->tools);
	for (unsigned i = 0; i < p->npaths; i++)
		check_path(&m, &p->path[i]);
	if (!p->disk) {
		want_program(&m, "ip", "iproute2", "the network");
		if (p->guest == GUEST_BARE)
			want_program(&m, "tc", "iproute2", "the network");
	}
	for (unsigned i = 0; i < p->nworkloads && p->guest == GUEST_LINUX; i++) {
		const struct workload *w = &p->workload[i];

		if (workload_server(w))
			want_program(&m, workload_server(w), workload_server(w), w->name);
		if (!p->tools && w->kind != WORKLOAD_COMMAND)
			add(&m, "\n%s: the guest has no tools; say --tools IMAGE", w->name);
	}
	e->code = m.n ? -ENOENT : 0;
	return e->code;
}
