/* An SVG file becomes part of a page. */
#ifndef COMPARE_REPORT_SVG_H
#define COMPARE_REPORT_SVG_H
#include <stdio.h>

/* Copies it without what stands before <svg; each id in it, and what refers to it, gets the prefix, so that
 * several can live in one page.  It is gnuplot's: no scripts, no quoted angle brackets. */
void report_svg_embed(FILE *svg, const char *prefix, FILE *out);
#endif
