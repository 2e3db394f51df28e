/* "ringlet matrix": kernels, options and commands from a file, every combination booted, one verdict. */
#ifndef MATRIX_MATRIX_H
#define MATRIX_MATRIX_H

/* argv: what follows "ringlet matrix".  The process's exit status: 0 every case ended as expected, 1 some did
 * not, 125 the command line, the file or the host; 128 + N: signal N ended it early. */
int matrix_main(int argc, char *argv[]);
#endif
