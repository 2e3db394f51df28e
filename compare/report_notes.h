/* Sentences that belong to a table: why a figure is missing, what failed, which differences mean nothing. */
#ifndef COMPARE_REPORT_NOTES_H
#define COMPARE_REPORT_NOTES_H
#include "compare/result.h"

/* mark: as in the table: '-' not known, '!' failed, '~' a difference that the spread makes meaningless; ' '
 * neither.  text: valid during the call. */
typedef void report_say(void *context, char mark, const char *text);

void report_notes(const struct result *r, unsigned workload, report_say *say, void *context);

/* The feature bits that the paths' drivers have taken: those in common, and where paths differ what each has
 * besides. */
void report_features(const struct result *r, report_say *say, void *context);
/* Bits that all paths have, of those whose bits are known (not 0).  false: they differ. */
bool report_common_features(const struct result *r, uint64_t *common);
#endif
