/* The host's end of a tap, by a packet socket.
 *	frames ping IFNAME SECONDS    sends a frame, waits for it to come back: prints "done N ns TOTAL median
 *NS" */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SENT 0x88b5
#define BACK 0x88b6
#define MOST 1000000

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static uint32_t took[MOST];
	unsigned char frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,      2,
				   0,    0,    0,    0,    1,    SENT >> 8, SENT & 0xff};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(BACK)};
	struct timeval limit = {.tv_usec = 100000};
	uint64_t begin, end, total = 0;
	unsigned n = 0, lost = 0;
	int fd, one = 1;

	if (argc != 4 || strcmp(argv[1], "ping"))
		return 2;
	fd = socket(AF_PACKET, SOCK_RAW, htons(BACK));
	to.sll_ifindex = (int)if_nametoindex(argv[2]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))) {
		perror("frames");
		return 1;
	}
	end = now() + (uint64_t)(atof(argv[3]) * 1e9);
	while ((begin = now()) < end && n < MOST) {
		char back[2048];

		if (send(fd, frame, sizeof(frame), 0) < 0 || recv(fd, back, sizeof(back), 0) < 0) {
			lost++;
			continue;
		}
		took[n] = (uint32_t)(now() - begin);
		total += took[n++];
	}
	qsort(took, n, sizeof(took[0]), by_size);
	printf("done %u ns %llu median %u lost %u\n", n, (unsigned long long)total, n ? took[n / 2] : 0, lost);
	return 0;
}
