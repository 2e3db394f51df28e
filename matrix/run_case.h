/* One case: its files, its process, its verdict. */
#ifndef MATRIX_RUN_CASE_H
#define MATRIX_RUN_CASE_H
#include "matrix/run.h"

/* Makes the directory and those above it; *out is its absolute path, the caller's.  0 or -errno, a sentence. */
int case_make_out(char **out, const char *path, struct err *e);

/* Starts case i; what an earlier run left in its directory is gone.  0 or -errno with a sentence. */
int case_begin(struct run *r, size_t i, struct err *e);
/* Its keeper has something to say: takes that, and sets the verdict. */
void case_end(struct run *r, size_t i);

/* A file of its directory, for sentences and for reading. */
#define CASE_PATH   4096
#define CASE_RESULT "result.json"
#define CASE_LOG    "console.log"
#define CASE_OUT    "stdout"
#define CASE_ERR    "stderr"
void case_path(const struct run *r, size_t i, const char *file, char path[CASE_PATH]);
#endif
