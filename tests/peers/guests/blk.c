/* A disk that starts as zeroes: pieces of 4 to 16 KiB are written, read back and compared, `depth` of them at a
 * time on each queue, and all of it is read at the end, whose checksum is printed for the host to compare.
 *
 * Options: count=N (requests, then it ends; 0: until it is told), depth=N, queues=N, blocks=N (of 4 KiB),
 * zeroes=1 (write zeroes and discard too), heal=1 (NEEDS_RESET is answered with a reset and what was on its way
 * is sent again), slow=N (at most N a ms), late=N (us between making requests available and the doorbell).
 *
 * Typed: p prints where it is, r resets the device and goes on, h stops, g goes on, c prints the capacity, q
 * ends. */
#include "tests/bare/blk.h"
#include "guest.h"

#define BLOCK      4096u
#define MAX_BLOCKS 8192u
#define MAX_PIECE  4u
#define MAX_QUEUES 4u
#define MAX_DEPTH  64u
#define UNKNOWN    0xffffffffu /* discarded: any content */

static struct request {
	struct blk_req *r;
	uint32_t type, first, n, generation;
	unsigned queue;
	bool away;
	struct request *next; /* to be sent again */
} requests[MAX_QUEUES * MAX_DEPTH];

static struct vdev disk;
static struct vq *vq[MAX_QUEUES];
static uint32_t content[MAX_BLOCKS]; /* generation; 0: zeroes */
static bool busy[MAX_BLOCKS];
static uint32_t generation;
static unsigned nqueues, depth, blocks, away, resets, missed, pace, late;
static uint64_t done, reads, writes, others;
static uint64_t heap;
static bool heal, holding;

static uint64_t pattern_of(uint32_t block, uint32_t what)
{
	return (uint64_t)what << 32 | block;
}

static void put_block(uint8_t *p, uint32_t block, uint32_t what)
{
	uint64_t word = (pattern_of(block, what) + 1) * 0x9e3779b97f4a7c15ul;

	for (unsigned i = 0; i < BLOCK; i += 8, word = word * 6364136223846793005ul + 1442695040888963407ul)
		*(uint64_t *)(p + i) = what ? word : 0;
}

static void check_block(const uint8_t *p, uint32_t block, uint32_t what)
{
	uint64_t word = (pattern_of(block, what) + 1) * 0x9e3779b97f4a7c15ul;

	if (what == UNKNOWN)
		return;
	for (unsigned i = 0; i < BLOCK; i += 8, word = word * 6364136223846793005ul + 1442695040888963407ul)
		if (*(const uint64_t *)(p + i) != (what ? word : 0)) {
			FAIL("block %u differs at byte %u: 0x%lx, expected 0x%lx of generation %u", block, i,
			     *(const uint64_t *)(p + i), what ? word : 0, what);
			finish();
		}
}

static void print_state(const char *word)
{
	print("%s requests %lu reads %lu writes %lu others %lu away %u resets %u missed %u status %u .\n", word,
	      done, reads, writes, others, away, resets, missed, vdev_status(&disk));
}

static void submit(struct request *q)
{
	if (!blk_submit(vq[q->queue], q->r, q->type, (uint64_t)q->first * (BLOCK / SECTOR))) {
		FAIL("no room in queue %u", q->queue);
		finish();
	}
	q->away = true;
	away++;
}

/* What was on its way is sent again: whether it has happened does not show. */
static void setup(void)
{
	uint64_t wanted = BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_FLUSH);

	alloc_release(heap);
	if (option("zeroes", 0))
		wanted |= BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	patient_reset(&disk);
	vdev_begin(&disk, wanted);
	if (option("zeroes", 0))
		CHECK(vdev_has(&disk, VIRTIO_BLK_F_DISCARD) && vdev_has(&disk, VIRTIO_BLK_F_WRITE_ZEROES));
	if (nqueues > 1)
		CHECK(vdev_has(&disk, VIRTIO_BLK_F_MQ) && vdev_config(&disk, 34, 2) >= nqueues);
	for (unsigned i = 0; i < nqueues; i++)
		vq[i] = vq_new(&disk, i, 0);
	/* Three descriptors each, where there are no indirect ones. */
	REQUIRE(vq[0]->size >= depth * (vq[0]->indirect ? 1 : 3));
	vdev_driver_ok(&disk);
	away = 0;
	for (unsigned i = 0; i < nqueues * depth; i++)
		if (requests[i].away)
			submit(&requests[i]);
	for (unsigned i = 0; i < nqueues; i++)
		vq_kick(vq[i]);
}

/* n blocks that nothing is on its way to. */
static bool claim(struct request *q)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		uint32_t n = 1 + (uint32_t)(rnd() % MAX_PIECE), first = (uint32_t)(rnd() % (blocks - n + 1)), i;

		for (i = 0; i < n && !busy[first + i]; i++)
			;
		if (i < n)
			continue;
		q->first = first;
		q->n = n;
		for (i = 0; i < n; i++)
			busy[first + i] = true;
		return true;
	}
	return false;
}

static bool start(struct request *q)
{
	uint64_t dice = rnd();

	if (!claim(q))
		return false;
	q->r->len = q->n * BLOCK;
	if (option("zeroes", 0) && dice % 16 < 2) {
		const struct virtio_blk_discard_write_zeroes range = {.sector = (uint64_t)q->first *
										(BLOCK / SECTOR),
								      .num_sectors = q->n * (BLOCK / SECTOR)};

		q->type = dice % 16 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES;
		for (unsigned i = 0; i < sizeof(range); i++)
			q->r->data[i] = ((const uint8_t *)&range)[i];
		q->r->len = sizeof(range);
	} else if (dice & 16) {
		q->type = VIRTIO_BLK_T_OUT;
		q->generation = ++generation;
		for (unsigned i = 0; i < q->n; i++)
			put_block(q->r->data + i * BLOCK, q->first + i, q->generation);
	} else {
		q->type = VIRTIO_BLK_T_IN;
	}
	submit(q);
	return true;
}

static void finished(struct request *q, uint32_t used)
{
	if (q->r->status) {
		FAIL("request of type %u at block %u: status %u", q->type, q->first, q->r->status);
		finish();
	}
	if (q->type == VIRTIO_BLK_T_IN)
		CHECK_EQ(used, q->n * BLOCK + 1);
	for (unsigned i = 0; i < q->n; i++) {
		uint32_t *c = &content[q->first + i];

		if (q->type == VIRTIO_BLK_T_IN)
			check_block(q->r->data + i * BLOCK, q->first + i, *c);
		else
			*c = q->type == VIRTIO_BLK_T_OUT       ? q->generation
			     : q->type == VIRTIO_BLK_T_DISCARD ? UNKNOWN
							       : 0;
		busy[q->first + i] = false;
	}
	q->away = false;
	away--;
	done++;
	reads += q->type == VIRTIO_BLK_T_IN;
	writes += q->type == VIRTIO_BLK_T_OUT;
	others += q->type != VIRTIO_BLK_T_IN && q->type != VIRTIO_BLK_T_OUT;
}

static bool collect(void)
{
	bool any = false;
	uint32_t used;
	struct blk_req *r;

	for (unsigned i = 0; i < nqueues; i++)
		while ((r = vq_get(vq[i], &used))) {
			finished((struct request *)r->tag, used);
			any = true;
		}
	return any;
}

static void sleep(void)
{
	unsigned seen = vq[0]->irqs;

	if (disk.irq == VDEV_POLL || !away) {
		pause();
		return;
	}
	vq_want_irq(vq[0], true);
	if (vq_more(vq[0]) || wait_for(&vq[0]->irqs, seen + 1, 20) || !vq_more(vq[0]))
		return;
	if (!wait_for(&vq[0]->irqs, seen + 1, 1000))
		missed++;
}

static bool needs_reset(void)
{
	if (!vdev_needs_reset(&disk))
		return false;
	if (!heal) {
		FAIL("the device needs a reset");
		finish();
	}
	setup();
	resets++;
	return true;
}

static bool obey(void)
{
	switch (typed()) {
	case 'p':
		print_state("state");
		break;
	case 'r':
		setup();
		resets++;
		print_state("reset");
		break;
	case 'c':
		print("capacity %lu config_irqs %u .\n", vdev_config(&disk, 0, 8), disk.config_irqs);
		break;
	case 'h':
		holding = true;
		break;
	case 'g':
		holding = false;
		break;
	case 'q':
		return false;
	}
	needs_reset();
	return true;
}

static void work(uint64_t count)
{
	uint64_t next = 0;
	unsigned budget = ~0u;

	for (;;) {
		bool any = collect();

		for (unsigned i = 0; !holding && i < nqueues; i++) {
			bool kick = false;

			for (unsigned k = 0; k < depth && budget; k++) {
				struct request *q = &requests[i * depth + k];

				if (q->away || !start(q))
					continue;
				kick = true;
				budget--;
			}
			if (kick && late)
				delay_us(late);
			if (kick)
				vq_kick(vq[i]);
			any |= kick;
		}
		if (!any)
			sleep();
		if (now_ms() < next)
			continue;
		next = now_ms() + 2;
		budget = pace ? 2 * pace : ~0u;
		if (!obey() || (count && done >= count))
			return;
	}
}

static void drain(void)
{
	uint64_t end = now_ms() + 20000;

	while (away) {
		if (!collect())
			sleep();
		needs_reset();
		if (now_ms() > end) {
			FAIL("%u requests have not come back (status 0x%x)", away, vdev_status(&disk));
			finish();
		}
	}
}

/* What was discarded is written first: the host cannot know what it holds. */
static void read_all(void)
{
	struct blk_req *r = requests[0].r;
	uint32_t crc = 0;

	for (unsigned b = 0; b < blocks; b++) {
		if (content[b] == UNKNOWN) {
			content[b] = ++generation;
			put_block(r->data, b, content[b]);
			REQUIRE(!blk_do(vq[0], r, VIRTIO_BLK_T_OUT, (uint64_t)b * (BLOCK / SECTOR), BLOCK));
		}
		REQUIRE(!blk_do(vq[0], r, VIRTIO_BLK_T_IN, (uint64_t)b * (BLOCK / SECTOR), BLOCK));
		check_block(r->data, b, content[b]);
		crc = crc32(crc, r->data, BLOCK);
	}
	if (vdev_has(&disk, VIRTIO_BLK_F_FLUSH))
		REQUIRE(!blk_do(vq[0], r, VIRTIO_BLK_T_FLUSH, 0, 0));
	print("crc %08x bytes %u\n", crc, blocks * BLOCK);
}

int main(void)
{
	const uint64_t count = option("count", 0);

	nqueues = (unsigned)option("queues", 1);
	depth = (unsigned)option("depth", 32);
	blocks = (unsigned)option("blocks", 1024);
	pace = (unsigned)option("slow", 0);
	late = (unsigned)option("late", 0);
	heal = option("heal", 0);
	REQUIRE(nqueues && nqueues <= MAX_QUEUES && depth && depth <= MAX_DEPTH && blocks >= MAX_PIECE &&
		blocks <= MAX_BLOCKS);
	now_ms();
	for (unsigned i = 0; i < nqueues * depth; i++) {
		requests[i].r = blk_req_new(MAX_PIECE * BLOCK);
		requests[i].r->tag = (uint64_t)&requests[i];
		requests[i].queue = i / depth;
	}
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	heap = alloc_mark();
	setup();
	REQUIRE(vdev_config(&disk, 0, 8) >= (uint64_t)blocks * (BLOCK / SECTOR));
	print("ready capacity %lu features 0x%lx\n", vdev_config(&disk, 0, 8), disk.features);
	work(count);
	drain();
	if (!heal)
		CHECK_EQ(missed, 0);
	print_state("done");
	read_all();
	CHECK_EQ(vdev_status(&disk), 0xf);
	return 0;
}
