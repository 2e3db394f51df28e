/* MSI-X: the table at every width, and who is attached when. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "tests/fake/fake_vmevent.h"
#include "tests/unit/teardown.h"
#include "vmm/msix.h"

#define N       5u
#define SIZE    (N * PCI_MSIX_ENTRY_SIZE)
#define ENABLE  PCI_MSIX_FLAGS_ENABLE
#define MASKALL PCI_MSIX_FLAGS_MASKALL

static struct fake_vmevent vm;
static struct msix m;
static struct msix_source a, b;
static int fd[2];

static void start(bool irqfd)
{
	fake_vmevent_init(&vm);
	msix_init(&m, N, &vm.event, irqfd);
	for (unsigned i = 0; i < 2; i++)
		fd[i] = eventfd(0, EFD_NONBLOCK);
}

static void setup(void)
{
	start(true);
}

static void teardown(void)
{
	msix_unmap(&m, &a);
	msix_unmap(&m, &b);
	msix_fini(&m);
	cr_expect_eq(vm.misuse, 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	cr_expect_eq(fake_vmevent_msis(&vm), 0);
	fake_vmevent_fini(&vm);
	close(fd[0]);
	close(fd[1]);
}

TestSuite(msix, .init = setup, .fini = teardown_once);

static void put(unsigned off, uint32_t v)
{
	msix_table_write(&m, off, &v, 4);
}

static uint32_t get(unsigned off)
{
	uint32_t v = ~0u;

	msix_table_read(&m, off, &v, 4);
	return v;
}

static void program(unsigned v, uint32_t data, bool masked)
{
	put(v * 16, 0xfee00000);
	put(v * 16 + 4, 0);
	put(v * 16 + 8, data);
	put(v * 16 + 12, masked);
}

static void mask(unsigned v, bool masked)
{
	put(v * 16 + 12, masked);
}

static uint64_t pba(void)
{
	uint64_t v = ~0ull;

	msix_pba_read(&m, 0, &v, 8);
	return v;
}

static void signal_fd(int f)
{
	const uint64_t one = 1;

	cr_assert_eq(write(f, &one, 8), 8);
}

/* What the guest got on fd's vector since the last look. */
static unsigned got(int gsi)
{
	unsigned n;

	fake_vmevent_pump(&vm);
	n = vm.injected[gsi];
	vm.injected[gsi] = 0;
	return n;
}

/* --- the table --- */

WholeTest(msix, all_vectors_are_masked_at_first)
{
	for (unsigned i = 0; i < N; i++) {
		cr_expect_eq(get(i * 16), 0);
		cr_expect_eq(get(i * 16 + 12), 1);
	}
	cr_expect_eq(pba(), 0);
}

static uint8_t expected_byte(unsigned off, uint8_t v)
{
	switch (off % 16) {
	case 0:
		return v & 0xfc;
	case 12:
		return v & 1;
	case 13:
	case 14:
	case 15:
		return 0;
	}
	return v;
}

WholeTest(msix, table_at_every_width_and_offset)
{
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < SIZE + 16; off++) {
			uint8_t before[SIZE], after[SIZE], in[8], out[8];

			msix_table_read(&m, 0, before, SIZE);
			for (unsigned i = 0; i < len; i++)
				in[i] = (uint8_t)(off * 31 + len * 7 + i * 13 + 1);
			msix_table_write(&m, off, in, len);
			memset(out, 0xee, sizeof(out));
			msix_table_read(&m, off, out, len);
			for (unsigned i = 0; i < len; i++) {
				bool exists = off + i < SIZE;

				cr_assert_eq(out[i], exists ? expected_byte(off + i, in[i]) : 0, "%u/%u", off,
					     len);
				if (exists)
					before[off + i] = out[i];
			}
			msix_table_read(&m, 0, after, SIZE);
			cr_assert_arr_eq(before, after, SIZE, "%u/%u", off, len);
		}
}

WholeTest(msix, far_beyond_the_table)
{
	uint64_t v = ~0ull;

	msix_table_write(&m, 0xffc, &v, 8);
	msix_table_read(&m, 0xffc, &v, 8);
	cr_expect_eq(v, 0);
	v = ~0ull;
	msix_pba_read(&m, 0xffc, &v, 8);
	cr_expect_eq(v, 0);
}

WholeTest(msix, capability)
{
	static struct pci_device d;
	int at = msix_add_capability(&m, &d, 2, 0x4000, 0x5000);

	cr_assert_gt(at, 0);
	cr_expect_eq(d.config[at], PCI_CAP_ID_MSIX);
	cr_expect_eq(pci_get16(d.config + at + PCI_MSIX_FLAGS), N - 1, "one less than there are");
	cr_expect_eq(pci_get32(d.config + at + PCI_MSIX_TABLE), 0x4002);
	cr_expect_eq(pci_get32(d.config + at + PCI_MSIX_PBA), 0x5002);
	cr_expect_eq(pci_get16(d.writable + at + PCI_MSIX_FLAGS), ENABLE | MASKALL);
}

/* --- attached while it may fire --- */

WholeTest(msix, fires_when_enabled_and_unmasked)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	cr_expect_eq(vm.msi[m.vector[1].gsi].addr, 0xfee00000);
	cr_expect_eq(vm.msi[m.vector[1].gsi].data, 0x41);
	signal_fd(fd[0]);
	cr_expect_eq(got(m.vector[1].gsi), 1);
}

WholeTest(msix, no_route_before_it_may_fire)
{
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	program(1, 0x41, false);
	cr_expect_eq(vm.msi_sets, 0, "not enabled");
	msix_control(&m, ENABLE | MASKALL, true);
	cr_expect_eq(vm.msi_sets, 0, "the function is masked");
	msix_control(&m, ENABLE, false);
	cr_expect_eq(vm.msi_sets, 0, "no bus master");
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	msix_control(&m, ENABLE, true);
	cr_expect_eq(vm.msi_sets, 1);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 1);
}

/* Every route that KVM takes in costs a grace period. */
WholeTest(msix, masking_costs_no_route)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	for (unsigned i = 0; i < 10; i++) {
		mask(1, true);
		mask(1, false);
	}
	cr_expect_eq(vm.msi_sets, 1);
}

WholeTest(msix, masked_is_pending_and_unmasking_delivers)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, true);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	cr_expect_eq(pba(), 0);
	signal_fd(fd[0]);
	signal_fd(fd[0]);
	cr_expect_eq(pba(), 1 << 1);
	mask(1, false);
	cr_expect_eq(got(m.vector[1].gsi), 1);
}

WholeTest(msix, function_mask_is_pending_and_unmasking_delivers)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	msix_control(&m, ENABLE | MASKALL, true);
	signal_fd(fd[0]);
	cr_expect_eq(got(m.vector[1].gsi), 0);
	cr_expect_eq(pba(), 1 << 1);
	msix_control(&m, ENABLE, true);
	cr_expect_eq(got(m.vector[1].gsi), 1);
}

/* What was attached readable stays so: KVM injects and leaves the count. */
WholeTest(msix, unmasked_is_never_pending)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, true);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	signal_fd(fd[0]);
	mask(1, false);
	cr_expect_eq(pba(), 0);
}

/* ... and must not be delivered again. */
WholeTest(msix, delivered_on_unmasking_once)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, true);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	signal_fd(fd[0]);
	mask(1, false);
	cr_expect_eq(got(m.vector[1].gsi), 1);
	mask(1, true);
	cr_expect_eq(pba(), 0);
	mask(1, false);
	cr_expect_eq(got(m.vector[1].gsi), 0);
}

WholeTest(msix, pending_bits_at_every_width_and_offset)
{
	msix_control(&m, ENABLE, true);
	cr_assert_eq(msix_map(&m, &a, 4, fd[0]), 0);
	cr_assert_eq(msix_map(&m, &b, 0, fd[1]), 0);
	signal_fd(fd[0]);
	signal_fd(fd[1]);
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 16; off++) {
			uint8_t v[8];

			memset(v, 0xee, sizeof(v));
			msix_pba_read(&m, off, v, len);
			for (unsigned i = 0; i < len; i++)
				cr_assert_eq(v[i], off + i == 0 ? 0x11 : 0, "%u/%u", off, len);
		}
}

WholeTest(msix, a_new_message_moves_what_is_attached)
{
	int gsi;

	msix_control(&m, ENABLE, true);
	program(2, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 2, fd[0]), 0);
	gsi = m.vector[2].gsi;
	put(2 * 16 + 8, 0x99);
	cr_expect_eq(vm.msi[gsi].data, 0x99);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, fd[0]), gsi);
}

WholeTest(msix, a_write_across_two_entries_reaches_both)
{
	uint64_t v = 0xfee0000000000000; /* unmasks vector 1, and the address of vector 2 */

	msix_control(&m, ENABLE, true);
	program(1, 0x41, true);
	program(2, 0x42, false);
	put(2 * 16, 0xfee01000);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	cr_assert_eq(msix_map(&m, &b, 2, fd[1]), 0);
	msix_table_write(&m, 1 * 16 + 12, &v, 8);
	cr_expect_neq(fake_vmevent_gsi_of(&vm, fd[0]), -1);
	cr_expect_eq(vm.msi[m.vector[2].gsi].addr, 0xfee00000);
}

WholeTest(msix, two_sources_share_a_vector)
{
	int gsi;

	msix_control(&m, ENABLE, true);
	program(3, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 3, fd[0]), 0);
	cr_assert_eq(msix_map(&m, &b, 3, fd[1]), 0);
	gsi = m.vector[3].gsi;
	cr_expect_eq(fake_vmevent_gsi_of(&vm, fd[0]), gsi);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, fd[1]), gsi);
	cr_expect_eq(fake_vmevent_msis(&vm), 1);
	msix_unmap(&m, &a);
	signal_fd(fd[1]);
	cr_expect_eq(got(gsi), 1, "the other one goes on");
	mask(3, true);
	signal_fd(fd[1]);
	cr_expect_eq(pba(), 1 << 3);
}

WholeTest(msix, unmapped_and_mapped_elsewhere)
{
	msix_control(&m, ENABLE, true);
	program(0, 0x40, false);
	program(1, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 0, fd[0]), 0);
	msix_unmap(&m, &a);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, fd[0]), -1);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, fd[0]), m.vector[1].gsi);
}

WholeTest(msix, mapped_to_nothing)
{
	msix_control(&m, ENABLE, true);
	cr_assert_eq(msix_map(&m, &a, MSIX_NO_VECTOR, fd[0]), 0);
	signal_fd(fd[0]);
	msix_fire(&m, &a);
	cr_expect_eq(pba(), 0);
	cr_expect_eq(vm.sent, 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
}

WholeTest(msix, never_mapped)
{
	static struct msix_source s;

	msix_control(&m, ENABLE, true);
	program(0, 0x40, true);
	cr_assert_eq(msix_map(&m, &a, 0, -1), 0);
	msix_fire(&m, &a);
	msix_fire(&m, &s);
	msix_unmap(&m, &s);
	cr_expect_eq(pba(), 1, "and it took nothing of vector 0's with it");
}

/* --- what cannot be had --- */

WholeTest(msix, vectors_out_of_range)
{
	cr_expect(msix_reserve(&m, N - 1));
	cr_expect(!msix_reserve(&m, N));
	cr_expect(!msix_reserve(&m, 0xffff));
	cr_expect_eq(msix_map(&m, &a, N, fd[0]), -ENOSPC);
}

WholeTest(msix, no_routes_left)
{
	vm.msis_left = 1;
	cr_expect(msix_reserve(&m, 0));
	cr_expect(msix_reserve(&m, 0), "it has one already");
	cr_expect(!msix_reserve(&m, 1));
	cr_expect_eq(msix_map(&m, &a, 1, fd[0]), -ENOSPC);
	cr_expect_eq(msix_map(&m, &a, 1, -1), 0, "needs none");
}

WholeTest(msix, attaching_fails)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, false);
	vm.attaches_left = 0;
	cr_expect_eq(msix_map(&m, &a, 1, fd[0]), -ENOSPC);
	vm.attaches_left = -1;
	cr_expect_eq(msix_map(&m, &a, 1, fd[0]), 0);
}

WholeTest(msix, a_message_that_KVM_refuses_fires_nothing)
{
	msix_control(&m, ENABLE, true);
	program(1, 0x41, false);
	cr_assert_eq(msix_map(&m, &a, 1, fd[0]), 0);
	vm.sets_left = 0;
	put(1 * 16 + 4, 0xffffffff);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0, "not to the place before");
	vm.sets_left = -1;
	put(1 * 16 + 4, 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 1);
}

/* --- by hand --- */

WholeTest(msix, fired_by_hand)
{
	program(2, 0x77, false);
	cr_assert_eq(msix_map(&m, &a, 2, -1), 0);
	msix_control(&m, ENABLE, true);
	msix_fire(&m, &a);
	cr_expect_eq(vm.sent, 1);
	cr_expect_eq(vm.last_sent.data, 0x77);
	cr_expect_eq(vm.last_sent.addr, 0xfee00000);
	cr_expect_eq(fake_vmevent_msis(&vm), 0);
}

WholeTest(msix, fired_by_hand_while_masked)
{
	program(2, 0x77, true);
	cr_assert_eq(msix_map(&m, &a, 2, -1), 0);
	msix_control(&m, ENABLE, true);
	msix_fire(&m, &a);
	msix_fire(&m, &a);
	cr_expect_eq(vm.sent, 0);
	cr_expect_eq(pba(), 1 << 2);
	mask(2, false);
	cr_expect_eq(vm.sent, 1);
	cr_expect_eq(pba(), 0);
	mask(2, true);
	mask(2, false);
	cr_expect_eq(vm.sent, 1);
}

WholeTest(msix, what_was_pending_goes_with_its_source)
{
	program(2, 0x77, true);
	msix_control(&m, ENABLE, true);
	cr_assert_eq(msix_map(&m, &a, 2, -1), 0);
	msix_fire(&m, &a);
	msix_unmap(&m, &a);
	cr_expect_eq(pba(), 0);
	mask(2, false);
	cr_expect_eq(vm.sent, 0);
}

/* --- at random: the table against a model --- */

static uint32_t next(void)
{
	static uint32_t x = 12345;

	x ^= x << 13;
	x ^= x >> 17;
	return x ^= x << 5;
}

WholeTest(msix, attached_exactly_while_it_may_fire)
{
	bool masked[N], on = false;
	struct msix_source *s[2] = {&a, &b};
	uint16_t vector[2] = {MSIX_NO_VECTOR, MSIX_NO_VECTOR};

	for (unsigned i = 0; i < N; i++)
		masked[i] = true;
	for (unsigned round = 0; round < 20000; round++) {
		unsigned v = next() % N, which = next() % 2;

		switch (next() % 4) {
		case 0:
			masked[v] = next() % 2;
			mask(v, masked[v]);
			break;
		case 1:
			on = next() % 2;
			msix_control(&m, on ? ENABLE : next() % 2 ? ENABLE | MASKALL : 0, true);
			break;
		case 2:
			msix_unmap(&m, s[which]);
			vector[which] = next() % 4 ? (uint16_t)v : MSIX_NO_VECTOR;
			cr_assert_eq(msix_map(&m, s[which], vector[which], fd[which]), 0);
			break;
		case 3:
			signal_fd(fd[which]);
			break;
		}
		for (unsigned i = 0; i < 2; i++) {
			bool live = vector[i] != MSIX_NO_VECTOR && on && !masked[vector[i]];

			cr_assert_eq(fake_vmevent_gsi_of(&vm, fd[i]), live ? m.vector[vector[i]].gsi : -1);
		}
	}
}
