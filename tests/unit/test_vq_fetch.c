/* A driver that changes the ring while the device reads it: no value is used that was not checked. */
static void fetched(const void *p, unsigned len);
#define VQ_FETCHED(ptr, len) fetched((ptr), (len))
/* The code under test once more, with every read of guest memory seen by this file. */
#include "devices/virtio/virtqueue.c"
#include "devices/virtio/vq_split.c"
/* Both formats have functions of those names. */
#define walk_indirect packed_walk_indirect
#define pop_end       packed_pop_end
#define pop_indirect  packed_pop_indirect
#define pop_odd       packed_pop_odd
#include "devices/virtio/vq_packed.c"

#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/vq_fixture.h"

TestSuite(vq_fetch, .fini = finish, .timeout = 20);

#define NSEEN 256

static struct {
	const void *seen[NSEEN];
	unsigned nseen;
	bool on;
	int poison; /* what guest memory is overwritten with after it is read; -1: it is left alone */
} hook;

static void fetched(const void *p, unsigned len)
{
	if (!hook.on)
		return;
	if (hook.nseen < NSEEN)
		hook.seen[hook.nseen++] = p;
	if (hook.poison >= 0)
		memset((void *)(uintptr_t)p, hook.poison, len);
}

static int hooked_pop(int poison)
{
	int rc;

	hook.nseen = 0;
	hook.poison = poison;
	hook.on = true;
	rc = vq_pop(vq, &c);
	hook.on = false;
	return rc;
}

static void seen_once(void)
{
	cr_assert_gt(hook.nseen, 2);
	cr_assert_lt(hook.nseen, NSEEN);
	for (unsigned i = 0; i < hook.nseen; i++)
		for (unsigned k = 0; k < i; k++)
			cr_expect_neq(hook.seen[i], hook.seen[k], "word %u is read twice", k);
}

static const struct driver_buf pieces[5] = {{0x10000, 10, false},
					    {0x11000, 11, false},
					    {DRIVER_MEM_HIGH_START, 12, true}, /* another region */
					    {UINT64_MAX, 0, true},
					    {0x13000, 14, true}};

/* Everything that vq_pop() reads is gone once it is read, and the chain is what it was. */
static void gone(uint64_t f, bool indirect)
{
	static const int poisons[] = {-1, 0, 0xff, 0x01, 0x04, 0x80, 0xa5};

	for (unsigned i = 0; i < sizeof(poisons) / sizeof(*poisons); i++) {
		int id;

		start(8, f | INDIRECT);
		id = indirect ? driver_ring_add_indirect(&r, 0x200000, pieces, 5)
			      : driver_ring_add(&r, pieces, 5);
		driver_ring_kick(&r);
		cr_assert_eq(hooked_pop(poisons[i]), 1);
		seen_once();
		cr_expect_eq(c.head, id);
		cr_expect_eq(c.nout, 2);
		cr_expect_eq(c.nin, 2);
		cr_expect_eq(c.out_len, 21);
		cr_expect_eq(c.in_len, 26);
		for (unsigned k = 0, n = 0; k < 5; k++) {
			if (!pieces[k].len)
				continue;
			cr_expect_eq(iov[n].iov_base, driver_mem_ptr(&m, pieces[k].addr, 1));
			cr_expect_eq(iov[n++].iov_len, pieces[k].len);
		}
		finish();
	}
}

Test(vq_fetch, what_was_read_is_not_read_again_split)
{
	gone(0, false);
}

Test(vq_fetch, what_was_read_is_not_read_again_split_indirect)
{
	gone(0, true);
}

Test(vq_fetch, what_was_read_is_not_read_again_packed)
{
	gone(PACKED, false);
}

Test(vq_fetch, what_was_read_is_not_read_again_packed_indirect)
{
	gone(PACKED, true);
}

Test(vq_fetch, avail_index_is_read_once_a_burst)
{
	start(8, 0);
	for (unsigned i = 0; i < 4; i++)
		add(1, true);
	driver_ring_kick(&r);
	cr_assert_eq(hooked_pop(-1), 1);
	cr_expect_eq(hook.seen[0], &r.avail->idx);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(hooked_pop(-1), 1);
		for (unsigned k = 0; k < hook.nseen; k++)
			cr_expect_neq(hook.seen[k], &r.avail->idx);
	}
}

Test(vq_fetch, a_packed_descriptor_is_two_reads)
{
	start(8, PACKED);
	add(1, true);
	driver_ring_kick(&r);
	cr_assert_eq(hooked_pop(-1), 1);
	cr_expect_eq(hook.nseen, 2);
}

/* --- and with a real thread --- */

static _Atomic bool stop;
static gpa_t table;

static uint32_t rnd(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Half of what it writes is what a good driver would. */
__attribute__((no_sanitize("thread"))) static void flip(volatile struct vring_desc *d, uint32_t *seed)
{
	static const uint64_t addr[] = {
		0x10000, 0x200000, DRIVER_MEM_HIGH_START, DRIVER_MEM_LOW_END - 8, UINT64_MAX - 7, 0xfee00000};
	static const uint32_t len[] = {1, 16, 32, 64, 0, 0xffffffff};
	uint32_t k = rnd(seed);

	switch (k & 7) {
	case 0:
	case 1:
		d->addr = addr[(k >> 8) % 6];
		break;
	case 2:
	case 3:
		d->len = len[(k >> 8) % 6];
		break;
	case 4:
		if (r.packed) /* it keeps the flags where the other format has next */
			d->next = (uint16_t)((d->next & 0x8080) | (k >> 8 & 7));
		else
			d->flags = k >> 8 & 7;
		break;
	case 5:
		if (!r.packed)
			d->next = (k >> 8 & 7) == 7 ? 0xffff : k >> 8 & 7;
		break;
	default:
		d->addr = 0x10000;
		d->len = 16;
	}
}

static void *flipper(void *arg)
{
	uint32_t seed = 12345;

	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint32_t k = rnd(&seed);
		struct vring_desc *t = driver_mem_ptr(&m, table, 128);

		flip(k & 1 ? &r.desc[(k >> 1) & 7] : &t[(k >> 1) & 7], &seed);
	}
	return NULL;
}

static bool in_ram(const struct iovec *v)
{
	for (unsigned i = 0; i < m.mem.nregions; i++) {
		const struct mem_region *g = &m.mem.region[i];
		size_t at = (size_t)((char *)v->iov_base - (char *)g->hva);

		if (at < g->size && v->iov_len && v->iov_len <= g->size - at)
			return true;
	}
	return false;
}

static void race(uint64_t f)
{
	pthread_t thread;
	unsigned good = 0;

	start(8, f | INDIRECT);
	table = 0x200000;
	atomic_store(&stop, false);
	cr_assert_eq(pthread_create(&thread, NULL, flipper, NULL), 0);
	for (unsigned i = 0; i < 4000; i++) {
		int rc;

		for (uint16_t k = 0; k < 4; k++) {
			if (r.packed)
				driver_ring_put(&r, 0x10000, 16, k, k & 1 ? VRING_DESC_F_INDIRECT : 0);
			else
				driver_ring_offer(&r, k);
		}
		driver_ring_kick(&r);
		while ((rc = vq_pop(vq, &c)) > 0) {
			good++;
			cr_assert_leq(c.nout + c.nin, NIOV);
			for (unsigned k = 0; k < c.nout + c.nin; k++)
				cr_assert(in_ram(&iov[k]));
			vq_push(vq, c.head, 0);
		}
		vq_flush(vq);
		if (!rc && !r.packed)
			continue;
		/* Broken, or in step no more: begin again from here. */
		if (!r.packed)
			__atomic_store_n(&r.used->idx, r.avail_pos, __ATOMIC_SEQ_CST);
		q.next = r.avail_pos;
		vq_free(vq);
		cr_assert_eq(vq_new(&vq, &q, &m.mem, f | INDIRECT), 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	cr_expect_gt(good, 0);
}

Test(vq_fetch, a_racing_driver_gets_nothing_out_of_it_split)
{
	race(0);
}

Test(vq_fetch, a_racing_driver_gets_nothing_out_of_it_packed)
{
	race(PACKED);
}
