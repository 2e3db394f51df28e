/* "ringlet explain": each reason holds when it should and only then, and the tables say what they are given. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/explain.h"

#define BIT(n) (UINT64_C(1) << (n))

static struct explain_vm vm;
static struct explain_device d;
static char *text;
static char keys[1024], sentences[8192];

static void set_bit(unsigned bit, const char *name, bool taken)
{
	struct explain_bit *b = &d.bit[d.nbits++];

	*b = (struct explain_bit){
		.bit = bit, .device = EXPLAIN_YES, .datapath = EXPLAIN_YES, .offered = true, .taken = taken};
	snprintf(b->name, sizeof(b->name), "%s", name);
	d.taken |= taken ? BIT(bit) : 0;
}

static void common(uint32_t id, const char *type)
{
	vm = (struct explain_vm){.nvcpus = 1, .mem_bytes = 64u << 20};
	d = (struct explain_device){.type = type,
				    .datapath = "vhost-net",
				    .served_by = "vhost-net, a thread of the kernel",
				    .id = id,
				    .driver = EXPLAIN_RUNS,
				    .negotiated = true,
				    .parallel = 1,
				    .nqueues = 2};
	snprintf(d.name, sizeof(d.name), "dev0");
	for (unsigned i = 0; i < d.nqueues; i++)
		d.queue[i] =
			(struct explain_queue){.size = 256, .max_size = 256, .running = true, .here = true};
	set_bit(VIRTIO_RING_F_INDIRECT_DESC, "INDIRECT_DESC", true);
	set_bit(VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX", true);
}

/* With all that makes them fast. */
static void a_card(void)
{
	common(VIRTIO_ID_NET, "net");
	set_bit(VIRTIO_NET_F_CSUM, "CSUM", true);
	set_bit(VIRTIO_NET_F_HOST_TSO4, "HOST_TSO4", true);
	set_bit(VIRTIO_NET_F_GUEST_TSO4, "GUEST_TSO4", true);
	set_bit(VIRTIO_NET_F_MRG_RXBUF, "MRG_RXBUF", true);
	set_bit(VIRTIO_NET_F_MQ, "MQ", true);
}

static void a_disk(void)
{
	common(VIRTIO_ID_BLOCK, "blk");
	set_bit(VIRTIO_BLK_F_MQ, "MQ", true);
}

static void teardown(void)
{
	free(text);
	text = NULL;
}

TestSuite(explain, .fini = teardown, .timeout = 30);
TestSuite(why, .fini = teardown, .timeout = 30);

static struct explain_bit *bit(unsigned n)
{
	for (unsigned i = 0; i < d.nbits; i++)
		if (d.bit[i].bit == n)
			return &d.bit[i];
	cr_assert(false, "no bit %u", n);
	return NULL;
}

static void left(unsigned n) /* by its driver */
{
	bit(n)->taken = false;
	d.taken &= ~BIT(n);
}

static void removed(unsigned n, const char *by)
{
	left(n);
	bit(n)->offered = false;
	snprintf(bit(n)->removed_by, sizeof(bit(n)->removed_by), "%s", by);
}

static void on_sentence(void *opaque, const char *key, const char *sentence)
{
	(void)opaque;
	strcat(strcat(keys, key), " ");
	strcat(strcat(sentences, sentence), "\n");
}

static const char *why(void)
{
	keys[0] = sentences[0] = '\0';
	explain_why(&vm, &d, on_sentence, NULL);
	return keys;
}

/* This reason holds, it alone, and its sentence has these words. */
static void only(const char *key, const char *words)
{
	char with_space[64];

	snprintf(with_space, sizeof(with_space), "%s ", key);
	cr_expect_str_eq(why(), with_space);
	cr_expect(strstr(sentences, words), "\"%s\" is not in: %s", words, sentences);
}

static void none(void)
{
	cr_expect_str_eq(why(), "");
}

/* --- why --- */

Test(why, a_card_with_everything_has_no_reason)
{
	a_card();
	none();
}

Test(why, a_disk_with_everything_has_no_reason)
{
	a_disk();
	none();
}

Test(why, before_a_driver_has_chosen_no_bit_is_missed)
{
	a_card();
	d.negotiated = false;
	d.taken = 0;
	none();
}

Test(why, needs_reset)
{
	a_card();
	d.driver = EXPLAIN_NEEDS_RESET;
	only("needs-reset", "until its driver resets it");
}

Test(why, given_up_by_its_driver)
{
	a_card();
	d.driver = EXPLAIN_GAVE_UP;
	only("gave-up", "FAILED");
}

Test(why, bits_asked_for_in_vain)
{
	a_card();
	strcpy(d.refused, "RING_PACKED");
	only("refused", "RING_PACKED");
}

Test(why, no_driver)
{
	a_card();
	d.driver = EXPLAIN_NO_DRIVER;
	only("no-driver", "No driver");
}

Test(why, a_driver_that_is_not_done)
{
	a_card();
	d.driver = EXPLAIN_NEGOTIATES;
	only("negotiates", "not started");
}

Test(why, a_register_access_that_does_not_end)
{
	a_card();
	d.busy = true;
	only("busy", "waits for vhost-net");
}

Test(why, a_back_end_that_is_away)
{
	a_card();
	d.away = true;
	only("away", "away");
}

Test(why, one_that_was_cut_off_and_lives)
{
	a_card();
	d.lingers = true;
	only("lingers", "may still use");
}

Test(why, a_tap_that_was_removed)
{
	a_card();
	d.tap_gone = true;
	only("tap-gone", "gone");
}

Test(why, exits_instead_of_ioeventfd_because_of_the_user)
{
	a_card();
	d.notify_exit = true;
	d.queue[0].exit_kicks = 100000;
	only("notify-exit", "notify=exit");
}

Test(why, exits_instead_of_ioeventfd_because_of_the_driver)
{
	a_card();
	d.queue[0].exit_kicks = 60;
	d.queue[1].exit_kicks = 39;
	none();
	d.queue[1].exit_kicks = 40;
	only("doorbells-exit", "100 doorbells");
}

Test(why, irq_ioctl)
{
	a_card();
	d.irq_ioctl = true;
	only("irq-ioctl", "irq=ioctl");
}

Test(why, intx)
{
	a_card();
	d.interrupt = EXPLAIN_INTX;
	only("intx", "INTx");
	d.driver = EXPLAIN_NEGOTIATES; /* it may still turn MSI-X on */
	only("negotiates", "");
}

Test(why, one_interrupt_for_several_queues)
{
	a_card();
	d.interrupt = EXPLAIN_SHARED;
	only("shared-interrupt", "its 2 queues");
	d.queue[1].running = false;
	none();
}

Test(why, no_event_idx_by_its_user)
{
	a_card();
	removed(VIRTIO_RING_F_EVENT_IDX, "event_idx=off");
	only("no-event-idx", "removed by event_idx=off");
}

Test(why, no_event_idx_by_its_driver)
{
	a_disk();
	left(VIRTIO_RING_F_EVENT_IDX);
	only("no-event-idx", "its driver did not take it");
}

Test(why, no_event_idx_anywhere)
{
	a_disk();
	left(VIRTIO_RING_F_EVENT_IDX);
	bit(VIRTIO_RING_F_EVENT_IDX)->bit = 63;
	only("no-event-idx", "neither device nor datapath has it");
}

Test(why, no_indirect)
{
	a_disk();
	removed(VIRTIO_RING_F_INDIRECT_DESC, "vhost-user");
	only("no-indirect", "removed by vhost-user");
	a_card(); /* its frames are short */
	left(VIRTIO_RING_F_INDIRECT_DESC);
	none();
}

Test(why, a_short_ring)
{
	a_card();
	d.queue[1].size = 65;
	none();
	d.queue[1].size = 64;
	only("short-ring", "queue 1 of 64 entries where 256");
	d.queue[1].running = false;
	none();
}

Test(why, a_single_queue_with_many_vcpus)
{
	a_disk();
	vm.nvcpus = 3;
	none();
	vm.nvcpus = 4;
	only("single-queue", "4 vCPUs share one queue");
	a_card();
	vm.nvcpus = 64;
	only("single-queue", "queues=16");
	d.parallel = 2;
	none();
	d.parallel = 0; /* it has no choice */
	none();
}

Test(why, many_queues_and_a_driver_that_uses_one)
{
	a_disk();
	d.parallel = 4;
	left(VIRTIO_BLK_F_MQ);
	only("no-mq", "of 4 queues");
	a_card();
	d.parallel = 2;
	removed(VIRTIO_NET_F_MQ, "vhost-vdpa");
	only("no-mq", "of 2 pairs of queues the driver uses one (removed by vhost-vdpa)");
	d.parallel = 1;
	none();
}

Test(why, no_checksums)
{
	a_card();
	removed(VIRTIO_NET_F_CSUM, "csum=off");
	removed(VIRTIO_NET_F_HOST_TSO4, "the device");
	only("no-csum", "removed by csum=off"); /* the one that the other follows from */
}

Test(why, no_segmentation_when_it_sends)
{
	a_card();
	removed(VIRTIO_NET_F_HOST_TSO4, "vhost-user");
	only("no-tx-offload", "removed by vhost-user");
}

Test(why, no_segmentation_when_it_receives)
{
	a_card();
	removed(VIRTIO_NET_F_GUEST_TSO4, "tap");
	removed(VIRTIO_NET_F_MRG_RXBUF, "mrg_rxbuf=off"); /* without which it needs no large buffers */
	only("no-rx-offload", "removed by tap");
}

Test(why, no_mergeable_buffers_for_long_frames)
{
	a_card();
	removed(VIRTIO_NET_F_MRG_RXBUF, "mrg_rxbuf=off");
	only("no-mrg-rxbuf", "64 KiB");
}

Test(why, bits_of_cards_are_no_bits_of_disks)
{
	a_disk();
	d.taken &= ~(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	none();
}

Test(why, a_network_in_user_space)
{
	a_card();
	d.slirp = true;
	only("slirp", "--net user");
}

Test(why, a_rate)
{
	a_card();
	d.rated = true;
	only("rate", "rate=");
}

Test(why, a_file_without_io_uring)
{
	a_disk();
	d.sync_file = true;
	only("sync-file", "io_uring");
}

Test(why, writes_that_wait_to_be_durable)
{
	a_disk();
	d.writethrough = true;
	only("writethrough", "cache=writethrough");
}

Test(why, memory_that_nobody_else_can_map)
{
	a_disk();
	vm.mem_private = true;
	only("private-memory", "share=off");
	common(VIRTIO_ID_RNG, "rng"); /* is served here anyway */
	vm.mem_private = true;
	none();
}

Test(why, several_reasons_each_in_its_sentence)
{
	a_card();
	d.notify_exit = d.irq_ioctl = true;
	left(VIRTIO_RING_F_EVENT_IDX);
	cr_expect_str_eq(why(), "notify-exit irq-ioctl no-event-idx ");
}

/* --- text --- */

static const char *device(void)
{
	size_t len;
	FILE *out;

	free(text);
	out = open_memstream(&text, &len);
	explain_print_device(&vm, &d, out);
	explain_print_notes(&d, 1, out);
	fclose(out);
	return text;
}

static const char *machine(void)
{
	size_t len;
	FILE *out;

	free(text);
	out = open_memstream(&text, &len);
	explain_print_vm(&vm, out);
	fclose(out);
	return text;
}

static void has(const char *s, const char *words)
{
	cr_expect(strstr(s, words), "\"%s\" is not in:\n%s", words, s);
}

Test(explain, the_head_says_what_it_is_and_who_serves_it)
{
	a_card();
	has(device(),
	    "dev0: net, virtio-pci with MSI-X, doorbells by ioeventfd, interrupts by irqfd; its driver runs\n"
	    "  served by vhost-net, a thread of the kernel\n");
	d.notify_exit = true;
	d.interrupt = EXPLAIN_INTX;
	has(device(), "virtio-pci with INTx, doorbells by exit, interrupts by ioctl; ");
	d.driver = EXPLAIN_NO_DRIVER; /* so that nobody has chosen between the two */
	has(device(), "dev0: net, virtio-pci, doorbells by exit, interrupts by irqfd; no driver yet");
}

Test(explain, bits)
{
	a_card();
	left(VIRTIO_NET_F_MQ);
	removed(VIRTIO_NET_F_CSUM, "csum=off, vhost-net");
	bit(VIRTIO_NET_F_CSUM)->user_off = true;
	bit(VIRTIO_NET_F_CSUM)->device = EXPLAIN_SILENT;
	bit(VIRTIO_NET_F_CSUM)->datapath = EXPLAIN_NO;
	has(device(), "\n    0 CSUM                 -      no       off          csum=off, vhost-net\n");
	has(text, "\n   22 MQ                   yes    yes           left\n");
	has(text, "\n   29 EVENT_IDX            yes    yes           took\n");
	d.negotiated = false;
	has(device(), "\n   29 EVENT_IDX            yes    yes           offered\n");
}

Test(explain, queues_that_are_walked_here)
{
	a_card();
	d.queue[1].exit_kicks = 3;
	d.queue[1].counts = (struct queue_report){.kicks = 10,
						  .bursts = 9,
						  .chains = 40,
						  .bytes = 5000,
						  .interrupts = 8,
						  .spared = 7,
						  .system_calls = 6};
	has(device(), "\n      1 256/256   this process         7        3         8        7        9        "
		      "40         5000"
		      "            6\n");
	cr_expect_not(strstr(text, "seen by nobody here"));
}

Test(explain, queues_that_are_walked_elsewhere)
{
	a_card();
	d.queue[1].here = false;
	d.queue[1].exit_kicks = 3;
	d.queue[1].counts = (struct queue_report){
		STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, 0};
	has(device(), "\n      1 256/256   vhost-net            -        3         -        -        -         "
		      "-            -"
		      "            0\n");
	has(text, "seen by nobody here");
}

Test(explain, with_exits_no_doorbell_came_by_ioeventfd)
{
	a_card();
	d.notify_exit = true;
	d.queue[0].exit_kicks = 12;
	d.queue[0].counts.kicks = 20;
	has(device(), "\n      0 256/256   this process         0       12 ");
}

Test(explain, wake_ups_fewer_than_exits_are_no_negative_number)
{
	a_card();
	d.queue[0].exit_kicks = 12;
	d.queue[0].counts.kicks = 5;
	has(device(), "\n      0 256/256   this process         0       12 ");
}

Test(explain, a_queue_that_does_not_run)
{
	a_card();
	d.queue[1].running = false;
	has(device(), "\n      1 256/256   nobody       it does not run\n");
	d.queue[1].here = false; /* of which nobody counts anything */
	d.queue[1].counts.kicks = d.queue[1].counts.chains = STATS_UNSEEN;
	has(device(), "\n      1 256/256   nobody       it does not run\n");
}

Test(explain, a_device_that_cannot_be_looked_at)
{
	a_card();
	d.busy = true;
	has(device(), "\n      1 ?/256     ?            it cannot be looked at now\n");
}

Test(explain, a_device_that_is_being_reset)
{
	a_card();
	d.driver = EXPLAIN_RESETTING;
	d.lingers = true;
	has(device(), "is being reset\n");
	cr_expect_str_eq(why(), "lingers ");
}

Test(explain, a_queue_that_is_none)
{
	a_card();
	d.queue[1].max_size = 0;
	cr_expect_not(strstr(device(), "\n      1 "));
}

Test(explain, reasons_or_that_there_is_none)
{
	a_card();
	has(device(), "\n  nothing that is seen from here makes it slow.\n");
	d.irq_ioctl = true;
	has(device(), "\n  why it is not as fast as it could be:\n  * Each interrupt wakes Ringlet");
	cr_expect_not(strstr(text, "nothing that is seen"));
}

Test(explain, the_machine_with_what_kvm_counted)
{
	a_card();
	vm.nvcpus = 2;
	vm.run = (struct run_stats){.exits_total = 60, .exits_io = 10, .exits_mmio = 20, .exits_other = 30};
	vm.kvm = (struct kvm_stats){.exits = 1000,
				    .halt_exits = 5,
				    .irq_exits = 6,
				    .irq_injections = 77,
				    .insn_emulation = KVM_STATS_UNKNOWN};
	has(machine(),
	    "2 vCPUs, 64 MiB of shared memory\n"
	    "exits, as KVM counted them: 1000; to Ringlet 60 (I/O 10, MMIO 20, other 30), halts 5, the host's "
	    "interrupts 6; ");
	has(text, "interrupts, as KVM counted them: 77 given");
	cr_expect_not(strstr(text, "carried out itself"));
}

Test(explain, the_machine_without)
{
	a_card();
	vm.mem_private = vm.paused = true;
	vm.kvm_missing = "this KVM has no statistics";
	vm.run.exits_total = 3;
	has(machine(), "1 vCPU, 64 MiB of private memory; paused");
	has(text, "exits: - (this KVM has no statistics); to Ringlet 3\n");
}

/* --- the command line --- */

static struct config cfg;
static struct err e;

#define PARSE(...)                                                                                             \
	({                                                                                                     \
		static char *const argv_[] = {"ringlet", __VA_ARGS__, NULL};                                   \
		e = (struct err){0};                                                                           \
		config_parse(&cfg, (int)(sizeof(argv_) / sizeof(argv_[0])) - 1, argv_, &e);                    \
	})

Test(explain_command, of_all_devices)
{
	cr_assert_eq(PARSE("explain", "vm"), 0, "%s", e.text);
	cr_expect_eq(cfg.command, COMMAND_EXPLAIN);
	cr_expect_str_eq(cfg.ctl.name, "vm");
	cr_expect_eq(cfg.ctl.argc, 1);
	cr_expect_str_eq(cfg.ctl.argv[0], "explain");
	config_free(&cfg);
}

Test(explain_command, of_one)
{
	cr_assert_eq(PARSE("explain", "-v", "vm", "net0"), 0, "%s", e.text);
	cr_expect(cfg.verbose);
	cr_expect_eq(cfg.ctl.argc, 2);
	cr_expect_str_eq(cfg.ctl.argv[0], "explain");
	cr_expect_str_eq(cfg.ctl.argv[1], "net0");
	config_free(&cfg);
}

Test(explain_command, what_it_refuses)
{
	cr_expect_eq(PARSE("explain"), -EINVAL);
	has(e.text, "which VM");
	cr_expect_eq(PARSE("explain", "vm", "net0", "net1"), -EINVAL);
	has(e.text, "\"net1\"");
	cr_expect_eq(PARSE("explain", "vm", "--", "x"), -EINVAL);
	has(e.text, "nothing after --");
	cr_expect_eq(PARSE("explain", "vm", "--dry-run"), -EINVAL);
	config_free(&cfg);
}

Test(explain_command, help)
{
	cr_assert_eq(PARSE("explain", "--help"), 0);
	cr_expect_eq(cfg.command, COMMAND_HELP);
	cr_expect_str_eq(cfg.help_topic, "explain");
	cr_expect_str_neq(config_help("explain"), config_help(NULL));
	has(config_help("explain"), "ringlet explain NAME [DEVICE]");
	config_free(&cfg);
}
