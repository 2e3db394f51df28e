/* A back end dies right after each single store into its in-flight buffer: who comes after it does again what
 * was taken and not shown, in its order, and nothing else.  A model says what that is. */
#include <criterion/criterion.h>
#include <string.h>

static void stored(void);
#define INFLIGHT_STORED() stored()
#include "servers/server_inflight.c"

#define SIZE  8u
#define BYTES (sizeof(struct region) + SIZE * sizeof(struct entry))

static _Alignas(64) char bytes[BYTES];
static struct server_inflight_buffer buffer;
static struct server_inflight *f;

/* What a driver and a virtqueue would know. */
static struct {
	bool in_order;
	uint16_t used;  /* as the driver sees it */
	uint64_t shown; /* since ever */
	uint64_t ages;
	struct chain {
		bool taken, mine, back; /* by anybody; by the one that lives; which has given it back */
		uint64_t age;
	} chain[SIZE];
	int being_taken; /* a head of which it is not certain yet, or -1 */
	unsigned nretired;
	uint16_t retired[SIZE]; /* the next store of the used index shows them */
	uint64_t checks;
} m;

static enum { LIVES, COMES_BACK, COMES_BACK_AGAIN } who;

static struct server_inflight *come_back(struct server_inflight_buffer *b)
{
	const struct server_inflight_queue q = {.size = SIZE,
						.used = m.used,
						.in_order = m.in_order,
						.shown = m.shown};
	struct server_inflight *back = server_inflight_begin(b, &q);

	cr_assert(back);
	return back;
}

static void check_redo(struct server_inflight *back)
{
	bool redo[SIZE] = {0};
	uint64_t age = 0;

	for (int head; (head = server_inflight_redo(back)) >= 0;) {
		cr_assert_not(redo[head]);
		redo[head] = true;
		cr_assert_gt(m.chain[head].age, age, "not in the order in which they were taken");
		age = m.chain[head].age;
	}
	for (int i = 0; i < (int)SIZE; i++)
		if (i != m.being_taken)
			cr_assert_eq(redo[i], m.chain[i].taken, "%s",
				     redo[i] ? "done again, although the driver has been told" : "lost");
	m.checks++;
}

/* Somebody dies now, and so does the next one, at each of its stores. */
static void check(void)
{
	static _Alignas(64) char left[2][BYTES];
	const unsigned level = who;
	struct server_inflight_buffer b = buffer;
	struct server_inflight *back;

	memcpy(left[level], level ? left[0] : bytes, BYTES);
	b.map = left[level];
	who++;
	back = come_back(&b);
	check_redo(back);
	server_inflight_end(back);
	who--;
}

static void stored(void)
{
	if (who < COMES_BACK_AGAIN)
		check();
}

/* --- what a server does --- */

static void begin(bool in_order)
{
	memset(&m, 0, sizeof(m));
	memset(bytes, 0, sizeof(bytes));
	m.in_order = in_order;
	m.being_taken = -1;
	m.used = 65500; /* soon past the end */
	buffer = (struct server_inflight_buffer){
		.map = bytes, .len = BYTES, .stride = BYTES, .nqueues = 1, .queue_size = SIZE};
	f = come_back(&buffer);
}

static void pop(void)
{
	unsigned free = (unsigned)rand() % SIZE;
	int head;

	server_inflight_shown(f, m.shown);
	head = server_inflight_redo(f);
	if (head >= 0) {
		cr_assert(m.chain[head].taken);
		m.chain[head].mine = true;
		return;
	}
	if (m.chain[free].taken)
		return;
	m.being_taken = (int)free;
	m.chain[free].age = ++m.ages;
	server_inflight_take(f, (uint16_t)free);
	m.being_taken = -1;
	m.chain[free].taken = m.chain[free].mine = true;
	check();
}

static bool retires(unsigned i)
{
	for (unsigned k = 0; k < SIZE; k++) {
		bool is_retired = false;

		for (unsigned n = 0; n < m.nretired; n++)
			is_retired |= m.retired[n] == k;
		if (m.in_order && m.chain[k].taken && !is_retired && m.chain[k].age < m.chain[i].age)
			return false;
	}
	return true;
}

static void retire(unsigned i)
{
	for (unsigned n = 0; n < m.nretired; n++)
		if (m.retired[n] == i)
			return;
	if (m.chain[i].back && retires(i))
		m.retired[m.nretired++] = (uint16_t)i;
}

static void push(void)
{
	unsigned i = (unsigned)rand() % SIZE;

	if (!m.chain[i].mine || m.chain[i].back)
		return;
	server_inflight_shown(f, m.shown);
	server_inflight_give(f, (uint16_t)i);
	m.chain[i].back = true;
	for (unsigned again = 0; again < SIZE; again++)
		for (unsigned k = 0; k < SIZE; k++)
			retire(k);
	check();
}

static void flush(void)
{
	m.used = (uint16_t)(m.used + m.nretired);
	m.shown += m.nretired;
	for (unsigned n = 0; n < m.nretired; n++)
		m.chain[m.retired[n]] = (struct chain){.age = m.chain[m.retired[n]].age};
	m.nretired = 0;
	check();
	if (rand() % 2)
		server_inflight_shown(f, m.shown);
}

static void die(void)
{
	server_inflight_end(f);
	m.nretired = 0;
	for (unsigned i = 0; i < SIZE; i++)
		m.chain[i].mine = m.chain[i].back = false;
	f = come_back(&buffer);
}

static void live(bool in_order)
{
	begin(in_order);
	for (unsigned step = 0; step < 20000; step++) {
		const unsigned what = (unsigned)rand() % 100;

		if (what < 45)
			pop();
		else if (what < 85)
			push();
		else if (what < 98)
			flush();
		else
			die();
	}
	cr_expect_gt(m.shown, 1000, "%lu", (unsigned long)m.shown);
	cr_expect_gt(m.checks, 20000, "%lu", (unsigned long)m.checks);
	server_inflight_end(f);
}

Test(server_inflight, dies_after_any_store)
{
	live(false);
}

Test(server_inflight, dies_after_any_store_in_order)
{
	live(true);
}

/* --- what the document says, in so many words --- */

Test(server_inflight, a_batch_is_a_list_from_its_last)
{
	const struct region *r = (const struct region *)(const void *)bytes;

	begin(false);
	who = COMES_BACK_AGAIN; /* no model here */
	for (uint16_t i = 0; i < 4; i++)
		server_inflight_take(f, i);
	server_inflight_give(f, 2);
	server_inflight_give(f, 0);
	server_inflight_give(f, 3);
	cr_expect_eq(r->last_batch_head, 3);
	cr_expect_eq(r->desc[3].next, 0);
	cr_expect_eq(r->desc[0].next, 2);
	for (unsigned i = 0; i < 4; i++)
		cr_expect_eq(r->desc[i].inflight, 1, "nothing is shown yet");
	cr_expect_eq(r->used_idx, 65500);
	server_inflight_shown(f, 0);
	cr_expect_eq(r->used_idx, 65500, "nor now");
	server_inflight_shown(f, 3);
	cr_expect_eq(r->used_idx, 65503);
	for (unsigned i = 0; i < 4; i++)
		cr_expect_eq(r->desc[i].inflight, i == 1);
	server_inflight_end(f);
	m.used = 65503;
	f = come_back(&buffer);
	cr_expect_eq(server_inflight_redo(f), 1);
	cr_expect_eq(server_inflight_redo(f), -1);
	server_inflight_give(f, 1);
	cr_expect_eq(r->desc[1].next, 3, "the last one of the batch before, whoever gave that");
	server_inflight_end(f);
}

Test(server_inflight, in_order_one_that_is_held_back_is_not_in_the_batch)
{
	const struct region *r = (const struct region *)(const void *)bytes;

	begin(true);
	who = COMES_BACK_AGAIN;
	for (uint16_t i = 0; i < 3; i++)
		server_inflight_take(f, i);
	server_inflight_give(f, 2);
	server_inflight_give(f, 1);
	server_inflight_shown(f, 0);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(r->desc[i].inflight, 1);
	server_inflight_give(f, 0);
	cr_expect_eq(r->last_batch_head, 2);
	cr_expect_eq(r->desc[2].next, 1);
	cr_expect_eq(r->desc[1].next, 0);
	server_inflight_shown(f, 3);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(r->desc[i].inflight, 0);
	server_inflight_end(f);
}
