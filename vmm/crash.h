/* The last words: the terminal is given back, and a SIGBUS in guest RAM is told for what it is. */
#ifndef VMM_CRASH_H
#define VMM_CRASH_H
#include "vmm/guest_mem.h"

/* Handlers for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT.  mem (or NULL) must stay valid. */
void crash_install(const struct guest_mem *mem);
#endif
