/* All of it: a control socket that answers as it is told, and a process whose threads are named like a VMM's.
 */
#include <errno.h>
#include <math.h>

#include "compare/counters.h"
#include "compare/counters_attach.h"
#include "tests/unit/test_compare_counters_crowd.h"
#include "tests/unit/test_compare_counters_vm.h"

#define CALLS 10000

static struct crowd crowd, backend;
static struct fake_vm vm;
static struct counters *c;
static struct err e;
static char text[3][1024];
static double value[METRICS];

static void setup(void)
{
	crowd_start(&crowd);
	memset(&value, 0, sizeof(value));
	value[METRIC_RATE] = 1234;
}

static void teardown(void)
{
	counters_free(c);
	c = NULL;
	crowd_stop(&crowd);
	crowd_stop(&backend);
	fake_vm_stop(&vm);
}

TestSuite(compare_counters, .init = setup, .fini = teardown, .timeout = 60);

struct said {
	const char *datapath, *notify;
	unsigned exits, user_exits, irqs, kicks, exit_kicks;
	bool remote, no_kvm, busy;
};

/* What it answers to the n-th request. */
static void say(unsigned n, const struct said *s)
{
	char kvm[96] = "null", kicks[16] = "null";

	if (!s->no_kvm)
		snprintf(kvm, sizeof(kvm), "{\\\"exits\\\":%u,\\\"irq_injections\\\":%u}", s->exits, s->irqs);
	if (!s->remote)
		snprintf(kicks, sizeof(kicks), "%u", s->kicks);
	snprintf(text[n], sizeof(text[n]),
		 "{\"ok\":true,\"text\":\"{\\\"busy\\\":%s,\\\"run\\\":{\\\"exits_total\\\":%u},\\\"kvm\\\":%s,"
		 "\\\"devices\\\":[{\\\"name\\\":\\\"net0\\\",\\\"transport\\\":\\\"pci\\\",\\\"datapath\\\":"
		 "\\\"%s\\\",\\\"remote\\\":%s,\\\"notify\\\":\\\"%s\\\",\\\"doorbells\\\":[],\\\"queues\\\":"
		 "[{\\\"index\\\":0,\\\"kicks\\\":%s,\\\"exit_kicks\\\":%u}]}]}\"}\n",
		 s->busy ? "true" : "false", s->user_exits, kvm, s->datapath ? s->datapath : "in-process",
		 s->remote ? "true" : "false", s->notify ? s->notify : "ioeventfd", kicks, s->exit_kicks);
	vm.says[n] = text[n];
}

static void start(const struct said *before, const struct said *after)
{
	say(0, before);
	say(1, before);
	say(2, after);
	fake_vm_start(&vm);
	cr_assert_eq(counters_new(&c, crowd.pid, vm.path, "net0", backend.pid, &e), 0, "%s", e.text);
	cr_assert_eq(counters_begin(c, &e), 0, "%s", e.text);
}

static void stop(void)
{
	cr_assert_eq(counters_end(c, value, &e), 0, "%s", e.text);
	for (unsigned m = METRIC_CPU_VCPU; m < METRICS; m++)
		cr_expect(!isnan(value[m]) == !counters_missing(c, m),
			  "metric %u is %f, and missing because: %s", m, value[m],
			  counters_missing(c, m) ? counters_missing(c, m) : "nothing");
}

/* Interrupts are KVM's where the processor leaves them to it. */
static bool kvm_counts_interrupts(void)
{
	static const char *const files[] = {"/sys/module/kvm_intel/parameters/enable_apicv",
					    "/sys/module/kvm_amd/parameters/avic"};
	bool posted = false;

	for (unsigned i = 0; i < 2; i++) {
		FILE *f = fopen(files[i], "r");
		int word = f ? fgetc(f) : 0;

		posted |= word == 'Y' || word == '1';
		if (f)
			fclose(f);
	}
	return !posted;
}

Test(compare_counters, differences_of_what_the_vm_says)
{
	start(&(struct said){.exits = 1000, .user_exits = 10, .irqs = 5, .kicks = 70},
	      &(struct said){.exits = 1500, .user_exits = 13, .irqs = 45, .kicks = 79});
	stop();
	cr_expect_eq(value[METRIC_EXITS], 500);
	cr_expect_eq(value[METRIC_USER_EXITS], 3);
	cr_expect_eq(value[METRIC_KICKS], 9, "%f", value[METRIC_KICKS]);
	if (kvm_counts_interrupts())
		cr_expect_eq(value[METRIC_INTERRUPTS], 40);
	cr_expect_eq(value[METRIC_RATE], 1234, "it is not ours");
}

Test(compare_counters, cpu_is_a_share_of_the_time)
{
	crowd_start(&backend);
	start(&(struct said){.datapath = "vhost-user", .remote = true},
	      &(struct said){.datapath = "vhost-user", .remote = true});
	crowd_do(&crowd, WHO_VCPU, 0, 200);
	crowd_do(&crowd, WHO_HELPER, 0, 100);
	crowd_do(&backend, WHO_NET, 0, 150);
	stop();
	cr_expect_geq(counters_seconds(c), 0.45);
	value[METRIC_CPU_VCPU] *= counters_seconds(c);
	value[METRIC_CPU_VMM] *= counters_seconds(c);
	value[METRIC_CPU_BACKEND] *= counters_seconds(c);
	cr_expect(value[METRIC_CPU_VCPU] >= 0.2 && value[METRIC_CPU_VCPU] < 0.26, "%f", value[METRIC_CPU_VCPU]);
	cr_expect(value[METRIC_CPU_VMM] >= 0.1 && value[METRIC_CPU_VMM] < 0.16, "%f", value[METRIC_CPU_VMM]);
	cr_expect(value[METRIC_CPU_BACKEND] >= 0.15 && value[METRIC_CPU_BACKEND] < 0.21, "%f",
		  value[METRIC_CPU_BACKEND]);
	cr_expect_lt(value[METRIC_CPU_VHOST], 0.01);
}

Test(compare_counters, system_calls_by_whom)
{
	crowd_start(&backend);
	start(&(struct said){0}, &(struct said){0});
	crowd_do(&crowd, WHO_NET, 2 * CALLS, 0);
	crowd_do(&backend, WHO_NET, CALLS, 0);
	stop();
	if (attach_missing(TRACED_SYSCALLS)) {
		cr_expect(counters_missing(c, METRIC_SYSCALLS));
		cr_expect(counters_missing(c, METRIC_SYSCALLS_BACKEND));
		return;
	}
	cr_expect(value[METRIC_SYSCALLS] >= 2 * CALLS && value[METRIC_SYSCALLS] < 2.1 * CALLS, "%f",
		  value[METRIC_SYSCALLS]);
	cr_expect(value[METRIC_SYSCALLS_BACKEND] >= CALLS && value[METRIC_SYSCALLS_BACKEND] < 1.1 * CALLS, "%f",
		  value[METRIC_SYSCALLS_BACKEND]);
}

Test(compare_counters, where_there_is_no_back_end_it_spends_nothing)
{
	start(&(struct said){0}, &(struct said){0});
	stop();
	cr_expect_eq(value[METRIC_CPU_BACKEND], 0);
	cr_expect_eq(value[METRIC_SYSCALLS_BACKEND], 0);
}

Test(compare_counters, a_back_end_that_nobody_named)
{
	start(&(struct said){.datapath = "vhost-vdpa", .remote = true},
	      &(struct said){.datapath = "vhost-vdpa", .remote = true});
	cr_expect(counters_missing(c, METRIC_CPU_BACKEND));
	cr_expect(counters_missing(c, METRIC_SYSCALLS_BACKEND));
	stop();
}

Test(compare_counters, kicks_by_exits_are_the_vmms_count)
{
	start(&(struct said){.notify = "exit", .datapath = "vhost-net", .remote = true, .exit_kicks = 3},
	      &(struct said){.notify = "exit", .datapath = "vhost-net", .remote = true, .exit_kicks = 10});
	stop();
	cr_expect_eq(value[METRIC_KICKS], 7);
}

Test(compare_counters, kicks_that_nobody_sees)
{
	start(&(struct said){.datapath = "vhost-net", .remote = true},
	      &(struct said){.datapath = "vhost-net", .remote = true});
	stop();
	cr_expect(isnan(value[METRIC_KICKS]));
}

Test(compare_counters, kvm_without_statistics)
{
	start(&(struct said){.no_kvm = true}, &(struct said){.no_kvm = true, .user_exits = 4});
	cr_assert(counters_missing(c, METRIC_EXITS));
	cr_expect(strstr(counters_missing(c, METRIC_EXITS), "no statistics"));
	stop();
	cr_expect_eq(value[METRIC_USER_EXITS], 4);
}

Test(compare_counters, kvm_that_could_not_be_asked_this_time)
{
	start(&(struct said){.exits = 1}, &(struct said){.no_kvm = true, .busy = true});
	cr_expect_not(counters_missing(c, METRIC_EXITS));
	stop();
	cr_expect(isnan(value[METRIC_EXITS]));
	cr_expect(strstr(counters_missing(c, METRIC_EXITS), "waited for a back end"));

	/* The next time it may be there again. */
	vm.says[3] = text[0];
	cr_assert_eq(counters_begin(c, &e), 0, "%s", e.text);
	stop();
	cr_expect_eq(value[METRIC_EXITS], 0);
}

Test(compare_counters, a_guest_that_began_anew)
{
	start(&(struct said){.exits = 1000, .user_exits = 9}, &(struct said){.exits = 10, .user_exits = 9});
	stop();
	cr_expect(isnan(value[METRIC_EXITS]));
	cr_expect(strstr(counters_missing(c, METRIC_EXITS), "anew"));
}

Test(compare_counters, no_vm)
{
	cr_expect_eq(counters_new(&c, crowd.pid, "/nowhere/s", "net0", 0, &e), -ENOENT);
	cr_expect_null(c);
	cr_expect(strstr(e.text, "/nowhere/s"), "%s", e.text);
}

Test(compare_counters, a_vm_that_ends_meanwhile)
{
	start(&(struct said){0}, &(struct said){0});
	crowd_stop(&crowd);
	cr_expect_eq(counters_end(c, value, &e), -ESRCH);
	cr_expect(strstr(e.text, "ended"), "%s", e.text);
	for (unsigned m = METRIC_CPU_VCPU; m < METRICS; m++)
		cr_expect(isnan(value[m]));
}

Test(compare_counters, a_vm_that_stops_answering)
{
	start(&(struct said){0}, &(struct said){0});
	fake_vm_stop(&vm);
	cr_expect_eq(counters_end(c, value, &e), -ENOENT);
	cr_expect(strstr(e.text, "no VM listens"), "%s", e.text);
	cr_expect(isnan(value[METRIC_CPU_VCPU]));
}
