/* Looking for chains instead of waiting for kicks, and showing what is done in the midst of a burst. */
#include <pthread.h>

#include "tests/unit/vq_fixture.h"

TestSuite(vq_poll, .fini = finish, .timeout = 20);

/* Each test body runs for both formats, with and without VIRTIO_RING_F_EVENT_IDX. */
#define ALL(name)                                                                                              \
	static void name(uint64_t f);                                                                          \
	Test(vq_poll, name##_split)                                                                            \
	{                                                                                                      \
		name(0);                                                                                       \
	}                                                                                                      \
	Test(vq_poll, name##_split_event)                                                                      \
	{                                                                                                      \
		name(EVENT);                                                                                   \
	}                                                                                                      \
	Test(vq_poll, name##_packed)                                                                           \
	{                                                                                                      \
		name(PACKED);                                                                                  \
	}                                                                                                      \
	Test(vq_poll, name##_packed_event)                                                                     \
	{                                                                                                      \
		name(PACKED | EVENT);                                                                          \
	}                                                                                                      \
	static void name(uint64_t f)

/* --- vq_poll --- */

ALL(a_poll_finds_what_is_there_and_shows_what_is_done)
{
	int a;

	start(8, f);
	a = add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	add(1, true);
	driver_ring_kick(&r);
	cr_expect(vq_poll(vq));
	collects(a, 1);
	take();
}

ALL(a_poll_asks_for_no_kicks)
{
	start(8, f);
	add(1, true);
	cr_expect(driver_ring_kick(&r));
	vq_busy(vq);
	take();
	cr_expect_not(vq_poll(vq));
	add(1, true);
	cr_expect_not(driver_ring_kick(&r));
	cr_expect(vq_wait(vq));
}

/* Missed once: not tried the next time, then tried again. */
ALL(polls_that_find_nothing_become_rare)
{
	start(8, f);
	cr_expect_not(vq_poll(vq));
	add(1, true);
	driver_ring_kick(&r);
	cr_expect_not(vq_poll(vq));
	cr_expect(vq_poll(vq));
	take();
	cr_expect_not(vq_poll(vq)); /* a find: it was tried at once, and missed again */
	add(1, true);
	driver_ring_kick(&r);
	cr_expect_not(vq_poll(vq));
	cr_expect(vq_poll(vq));
}

ALL(a_broken_ring_is_not_polled)
{
	start(8, f);
	add(1, true);
	driver_ring_kick(&r);
	vq_break(vq, -EILSEQ);
	cr_expect_not(vq_poll(vq));
}

/* --- vq_expect --- */

ALL(an_expected_chain_needs_no_kick)
{
	start(8, f);
	cr_assert_not(vq_wait(vq));
	/* Nothing comes: it waits for kicks again. */
	cr_expect_not(vq_expect(vq));
	add(1, true);
	cr_expect(driver_ring_kick(&r));
	cr_expect(vq_poll(vq) || vq_wait(vq));
	take();
}

static void *answer(void *unused)
{
	(void)unused;
	usleep(300);
	add(1, true);
	return (void *)(uintptr_t)driver_ring_kick(&r);
}

/* The driver comes while it is looked for, and sees that no kick is wanted.  Looking takes microseconds, so it
 * is given many chances to be seen. */
ALL(looking_for_an_answer_turns_kicks_off_meanwhile)
{
	unsigned spared = 0;

	start(8, f);
	for (unsigned i = 0; i < 200 && !spared; i++) {
		pthread_t t;
		void *kicked;
		bool found = false;

		vq_wait(vq);
		cr_assert_eq(pthread_create(&t, NULL, answer, NULL), 0);
		for (unsigned n = 0; n < 2000000 && !found; n++)
			found = vq_expect(vq);
		cr_assert_eq(pthread_join(t, &kicked), 0);
		spared += found && !kicked;
		vq_push(vq, take(), 1);
		vq_flush(vq);
		cr_assert_eq(driver_ring_collect(&r, NULL, NULL), 1);
	}
	cr_expect_gt(spared, 0);
}

ALL(a_ring_without_kicks_is_not_expected_of)
{
	start(8, f);
	vq_break(vq, -EILSEQ);
	cr_expect_not(vq_expect(vq));
}

/* --- vq_show --- */

ALL(what_is_shown_is_used_before_the_interrupt_for_it)
{
	int a, b;

	start(8, f);
	a = add(1, true);
	b = add(2, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_show(vq);
	collects(a, 1);
	cr_expect_eq(calls(), 0);
	vq_push(vq, take(), 2);
	vq_flush(vq);
	collects(b, 2);
	cr_expect_eq(calls(), 1);
	cr_expect_eq(stats.chains, 2);
	cr_expect_eq(stats.calls, 1);
}

ALL(an_interrupt_that_is_due_comes_with_a_flush_that_shows_no_more)
{
	start(8, f);
	add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_show(vq);
	vq_flush(vq);
	cr_expect_eq(calls(), 1);
	vq_flush(vq);
	cr_expect_eq(calls(), 0);
	cr_expect_eq(stats.bursts, 1);
}
