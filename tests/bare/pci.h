/* The type 1 mechanism (PCI Local Bus 3.0, 3.2.2.3.2) and ECAM, for the tests that compare them. */
#ifndef TESTS_BARE_PCI_H
#define TESTS_BARE_PCI_H
#include "lib/bare.h"

#define CONFIG_DATA (LAYOUT_PCI_CONFIG + 4)

static inline uint32_t config_read32(unsigned device, unsigned off)
{
	outl(LAYOUT_PCI_CONFIG, 1u << 31 | device << 11 | off);
	return inl(CONFIG_DATA);
}

static inline uint64_t ecam(unsigned device, unsigned off)
{
	return LAYOUT_ECAM + ((uint64_t)device << 15) + off;
}
#endif
