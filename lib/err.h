/* An error on its way to the user: a code for the program, a sentence for the person.
 * Whoever knows the detail writes the sentence; whoever can do something about it prints it. */
#ifndef LIB_ERR_H
#define LIB_ERR_H

struct err {
	int code; /* -errno, 0 while nothing went wrong */
	char text[1024];
};

/* Fills in e (which may be NULL) and returns code, so that a function can end with it.
 * The text has no trailing newline; it may hold several lines. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "what: " in front of the text and returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#endif
