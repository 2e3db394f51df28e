/* "ringlet compare". */
#ifndef COMPARE_COMPARE_H
#define COMPARE_COMPARE_H

/* argv: what stands after "compare".  The exit status. */
int compare_main(int argc, char *const argv[]);
#endif
