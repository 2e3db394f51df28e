/* What a chain costs the device, without what a driver costs.  By hand:
 *
 *	gcc -I. -D_GNU_SOURCE -std=c17 -O2 -g -pthread -o build/bench_ring tests/bench_ring.c \
 *		tests/fake/driver_ring.c build/libringlet.a
 *	build/bench_ring packed event 32          # nanoseconds a chain
 *	valgrind --tool=callgrind --toggle-collect=device_burst build/bench_ring split plain 32 1000
 *
 * split|packed, any of plain event order indirect (joined by +), chains a burst, bursts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/virtio/virtqueue.h"
#include "tests/fake/driver_ring.h"

#define SIZE 256

/* The whole of a device's part: look, take, give back, show, ask. */
__attribute__((noinline)) unsigned device_burst(struct virtqueue *vq);
unsigned device_burst(struct virtqueue *vq)
{
	struct iovec iov[8];
	struct vq_chain c = {.iov = iov, .iov_max = 8};
	unsigned n = 0;

	vq_busy(vq);
	while (vq_pop(vq, &c) > 0) {
		vq_push(vq, c.head, (uint32_t)c.in_len);
		n++;
	}
	vq_wait(vq);
	return n;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "plain";
	unsigned burst = argc > 3 ? (unsigned)atoi(argv[3]) : 32,
		 rounds = argc > 4 ? (unsigned)atoi(argv[4]) : 200000;
	bool packed = argc > 1 && !strcmp(argv[1], "packed"), indirect = strstr(how, "indirect");
	uint64_t features = (uint64_t)packed << VIRTIO_F_RING_PACKED |
			    (uint64_t) !!strstr(how, "event") << VIRTIO_RING_F_EVENT_IDX |
			    (uint64_t) !!strstr(how, "order") << VIRTIO_F_IN_ORDER |
			    1ull << VIRTIO_RING_F_INDIRECT_DESC;
	struct driver_mem m;
	struct driver_ring r;
	struct queue_stats stats = {0};
	struct datapath_queue q = {.kick_fd = -1, .call_fd = -1, .stats = &stats};
	struct virtqueue *vq;
	struct driver_buf buf[2];
	gpa_t tables;
	uint64_t spent = 0, chains = 0;

	driver_mem_init(&m);
	driver_ring_init(&r, &m, SIZE, features, packed ? 0x8000 : 0);
	driver_ring_queue(&r, &q);
	buf[0] = (struct driver_buf){driver_mem_alloc(&m, 64, 64), 12, false};
	buf[1] = (struct driver_buf){driver_mem_alloc(&m, 2048, 64), 1514, true};
	tables = driver_mem_alloc(&m, 32 * SIZE, 16);
	if (vq_new(&vq, &q, &m.mem, features))
		return 1;
	while (rounds--) {
		uint64_t t;

		for (unsigned i = 0; i < burst; i++) {
			int rc = indirect ? driver_ring_add_indirect(&r, tables + 32 * i, buf, 2)
					  : driver_ring_add(&r, buf, 2);

			if (rc < 0)
				break;
		}
		driver_ring_kick(&r);
		t = now();
		chains += device_burst(vq);
		spent += now() - t;
		while (driver_ring_collect(&r, NULL, NULL) > 0)
			;
	}
	printf("%llu chains, %.1f ns each\n", (unsigned long long)chains, (double)spent / (double)chains);
	return vq_error(vq) != 0;
}
