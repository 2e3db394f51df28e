/* The ARP request of 10.0.2.15 that a user-mode network answers. */
#ifndef TESTS_UNIT_WHO_HAS_GATEWAY_H
#define TESTS_UNIT_WHO_HAS_GATEWAY_H

static const unsigned char who_has_gateway[42] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6, 0, 1, 8, 0,  6, 4, 0,
	1,    0x52, 0x54, 0,    0x12, 0x34, 0x56, 10,   0, 2,    15,   0,    0, 0, 0, 0, 0, 10, 0, 2, 2,
};
#endif
