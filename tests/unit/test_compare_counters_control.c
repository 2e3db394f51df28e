/* What the VM says of itself, and what it says when it is not one. */
#include <errno.h>

#include "compare/counters_control.h"
#include "lib/clock.h"
#include "tests/unit/test_compare_counters_vm.h"

static struct fake_vm vm;
static struct vm_counts got;
static struct err e;

static void teardown(void)
{
	fake_vm_stop(&vm);
}

TestSuite(compare_counters_control, .fini = teardown, .timeout = 60);

static int ask(const char *answer)
{
	vm.says[0] = vm.says[1] = vm.says[2] = vm.says[3] = answer;
	if (!vm.thread)
		fake_vm_start(&vm);
	return vm_counts_ask(vm.path, "net0", &got, &e);
}

/* A sentence that says whose fault it is and about which socket. */
static void expect_sentence(const char *word)
{
	cr_expect(strstr(e.text, vm.path), "%s", e.text);
	cr_expect(strstr(e.text, word), "%s, but expected \"%s\" in it", e.text, word);
}

#define QUEUE(kicks, exits) "{\\\"index\\\":0,\\\"kicks\\\":" #kicks ",\\\"exit_kicks\\\":" #exits "}"
#define DEVICE(name, datapath, remote, queues)                                                                 \
	"{\\\"name\\\":\\\"" name "\\\",\\\"transport\\\":\\\"pci\\\",\\\"datapath\\\":\\\"" datapath          \
	"\\\",\\\"remote\\\":" remote ",\\\"notify\\\":\\\"ioeventfd\\\",\\\"queues\\\":[" queues              \
	"],\\\"doorbells\\\":[{\\\"space\\\":\\\"io\\\",\\\"address\\\":4096,\\\"length\\\":256},"             \
	"{\\\"space\\\":\\\"memory\\\",\\\"address\\\":3221237760,\\\"length\\\":256}]}"
#define ANSWER(kvm, devices)                                                                                   \
	"{\"ok\":true,\"text\":\"{\\\"busy\\\":false,\\\"run\\\":{\\\"exits_total\\\":7},\\\"kvm\\\":" kvm     \
	",\\\"devices\\\":[" devices "]}\"}\n"
#define KVM "{\\\"exits\\\":100,\\\"irq_injections\\\":null}"

Test(compare_counters_control, takes_what_is_said)
{
	cr_assert_eq(ask(ANSWER(KVM, DEVICE("net1", "vhost-net", "true", "") "," DEVICE(
					     "net0", "in-process", "false", QUEUE(3, 1) "," QUEUE(4, 0)))),
		     0, "%s", e.text);
	cr_expect_str_eq(vm.asked, "{\"args\":[\"counters\",\"net0\"]}\n");
	cr_expect_eq(got.exits, 100);
	cr_expect_eq(got.irq_injections, VM_COUNTS_UNKNOWN);
	cr_expect_eq(got.user_exits, 7);
	cr_expect_eq(got.kicks, 7);
	cr_expect_eq(got.exit_kicks, 1);
	cr_expect_not(got.kvm_missing);
	cr_expect_not(got.remote);
	cr_expect_not(got.notify_exit);
	cr_expect(got.pci);
	cr_assert_eq(got.ndoorbells, 2);
	cr_expect(got.doorbell[0].pio);
	cr_expect_eq(got.doorbell[0].address, 4096);
	cr_expect_not(got.doorbell[1].pio);
	cr_expect_eq(got.doorbell[1].length, 256);
}

Test(compare_counters_control, who_serves_it)
{
	cr_assert_eq(ask(ANSWER(KVM, DEVICE("net0", "vhost-net", "true", QUEUE(null, 0) "," QUEUE(1, 0)))), 0);
	cr_expect(got.remote && got.kernel_vhost && !got.vdpa);
	cr_expect_eq(got.kicks, VM_COUNTS_UNKNOWN, "one of the queues is not to be seen");
	cr_assert_eq(ask(ANSWER(KVM, DEVICE("net0", "vhost-user", "true", ""))), 0);
	cr_expect(got.remote && !got.kernel_vhost && !got.vdpa);
	cr_assert_eq(ask(ANSWER(KVM, DEVICE("net0", "vhost-vdpa", "true", ""))), 0);
	cr_expect(got.remote && !got.kernel_vhost && got.vdpa);
}

Test(compare_counters_control, kvm_may_have_none)
{
	cr_assert_eq(ask(ANSWER("null", DEVICE("net0", "in-process", "false", ""))), 0);
	cr_expect(got.kvm_missing);
	cr_expect_eq(got.exits, VM_COUNTS_UNKNOWN);
}

Test(compare_counters_control, a_refusal_is_passed_on)
{
	cr_expect_eq(ask("{\"ok\":false,\"text\":\"no device is called net0\"}\n"), -EREMOTEIO);
	expect_sentence("no device is called net0");
}

Test(compare_counters_control, rubbish)
{
	static const char *const rubbish[] = {
		"\n",
		"hello\n",
		"[]\n",
		"{}\n",
		"null\n",
		"{\"ok\":true}\n",
		"{\"ok\":1,\"text\":\"{}\"}\n",
		"{\"ok\":true,\"text\":7}\n",
		"{\"ok\":true,\"text\":\"exits to Ringlet 7\"}\n",
		"{\"ok\":true,\"text\":\"[]\"}\n",
		"{\"ok\":true,\"text\":\"{\\\"run\\\":{}}\"}\n",
		ANSWER(KVM, ""),
		ANSWER(KVM, DEVICE("net1", "in-process", "false", "")),
		ANSWER(KVM, "{\\\"name\\\":\\\"net0\\\"}"),
		ANSWER(KVM, "7"),
		"\xff\xfe\n",
	};

	for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
		cr_expect_eq(ask(rubbish[i]), -EPROTO, "%s", rubbish[i]);
		expect_sentence("not to be understood");
	}
}

static void expect_deadline(const char *answer)
{
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	uint64_t took;

	vm.hold = true;
	cr_expect_eq(ask(answer), -ETIMEDOUT, "%s", e.text);
	took = (clock_ns(CLOCK_MONOTONIC) - begin) / 1000000;
	expect_sentence("2 s");
	cr_expect_geq(took, VM_COUNTS_DEADLINE_MS - 1);
	cr_expect_lt(took, VM_COUNTS_DEADLINE_MS + 2000);
}

Test(compare_counters_control, nothing_for_two_seconds)
{
	expect_deadline(NULL);
}

Test(compare_counters_control, half_a_line_for_two_seconds)
{
	expect_deadline("{\"ok\":true,\"te");
}

Test(compare_counters_control, hangs_up_at_once)
{
	cr_expect_eq(ask(NULL), -EPIPE);
	expect_sentence("hung up");
}

Test(compare_counters_control, hangs_up_after_half_a_line)
{
	cr_expect_eq(ask("{\"ok\":true,\"te"), -EPIPE);
	expect_sentence("hung up");
}

Test(compare_counters_control, a_line_without_end)
{
	char *much = malloc((2 << 20) + 1);

	memset(much, 'x', 2 << 20);
	much[2 << 20] = '\0';
	cr_expect_eq(ask(much), -EPROTO);
	expect_sentence("no end");
	fake_vm_stop(&vm);
	free(much);
}

Test(compare_counters_control, nobody_is_there)
{
	snprintf(vm.path, sizeof(vm.path), "/nowhere/s");
	cr_expect_eq(vm_counts_ask(vm.path, "net0", &got, &e), -ENOENT);
	expect_sentence("no VM listens there");
}

Test(compare_counters_control, nobody_listens_any_more)
{
	fake_vm_start(&vm);
	shutdown(vm.fd, SHUT_RDWR);
	pthread_join(vm.thread, NULL);
	vm.thread = 0;
	close(vm.fd);
	cr_expect_eq(vm_counts_ask(vm.path, "net0", &got, &e), -ECONNREFUSED);
	expect_sentence("no VM listens there");
	unlink(vm.path);
}

Test(compare_counters_control, a_path_that_no_socket_has)
{
	char path[256];

	memset(path, 'x', sizeof(path));
	path[255] = '\0';
	cr_expect_eq(vm_counts_ask(path, "net0", &got, &e), -ENAMETOOLONG);
}
