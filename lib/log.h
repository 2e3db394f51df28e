/* Messages to the person at the terminal (stderr).  Any thread; a line is written whole. */
#ifndef LIB_LOG_H
#define LIB_LOG_H
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level); /* LOG_WARN until set */
void log_set_raw(bool raw);               /* the terminal is raw: lines end in CR LF */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)

/* For what a guest can cause as often as it likes: at most `burst` lines a second for each place. */
struct log_limit {
	_Atomic uint64_t second;
	_Atomic unsigned count;
};
bool log_allowed(struct log_limit *limit, unsigned burst);
#define log_guest(...)                                                                                         \
	do {                                                                                                   \
		static struct log_limit limit_;                                                                \
		if (log_allowed(&limit_, 5))                                                                   \
			log_msg(LOG_WARN, __VA_ARGS__);                                                        \
	} while (0)
#endif
