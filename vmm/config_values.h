/* The values that options take.  All return 0 or -EINVAL with what was found and expected in e. */
#ifndef VMM_CONFIG_VALUES_H
#define VMM_CONFIG_VALUES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/config.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

int value_switch(const char *text, bool *on, struct err *e); /* NULL: on */
int value_number(const char *text, unsigned min, unsigned max, unsigned *n, struct err *e);
/* "0x130000020": feature bits; the x may be left out. */
int value_bits(const char *text, uint64_t *bits, struct err *e);
int value_size(const char *text, uint64_t *bytes, struct err *e);
int value_duration(const char *text, uint64_t *ms, struct err *e);

/* Which of the words (separated by spaces) it is. */
int value_choice(const char *text, const char *words, unsigned *index, struct err *e);

/* "0-1+4": host CPUs, ranges joined by "+", at most max of them. */
int value_cpu_list(const char *text, uint16_t *cpus, unsigned max, unsigned *ncpus, struct err *e);

/* "52:54:00:12:34:56": an address that one card may have. */
int value_mac(const char *text, uint8_t mac[6], struct err *e);

/* "12M" or "1500B" (bytes a second), "10000p" (packets a second), or both joined by "+"; 0 for what
 * is not said. */
int value_rate(const char *text, uint64_t *bytes, uint64_t *packets, struct err *e);

/* "512M", "3G", "4K": in the largest unit of which it is a whole number. */
void format_size(uint64_t bytes, char *buf, size_t len);
#endif
