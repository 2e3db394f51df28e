#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int level_max = LOG_WARN;
static _Atomic bool raw_terminal;

void log_set_level(enum log_level level)
{
	level_max = (int)level;
}

void log_set_raw(bool raw)
{
	raw_terminal = raw;
}

/* Copies text, giving every newline the carriage return that a raw terminal needs. */
static size_t with_cr(char *dst, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 2 < size; i++) {
		if (text[i] == '\n' && raw_terminal)
			dst[n++] = '\r';
		dst[n++] = text[i];
	}
	return n;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const char *const prefix[] = {
		[LOG_ERROR] = "ringlet: ",
		[LOG_WARN] = "ringlet: warning: ",
		[LOG_INFO] = "ringlet: ",
		[LOG_DEBUG] = "ringlet: debug: ",
	};
	char text[2048], line[2 * sizeof(text)];
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
	int saved = errno;
	size_t len;
	va_list ap;

	if ((int)level > level_max)
		return;
	len = (size_t)snprintf(text, sizeof(text), "%s", prefix[level]);
	va_start(ap, fmt);
	vsnprintf(text + len, sizeof(text) - len - 1, fmt, ap);
	va_end(ap);
	len = strlen(text);
	text[len++] = '\n';
	len = with_cr(line, sizeof(line), text, len);
	/* One write, so that lines of several threads do not mix.  Nobody can be told of a failure. */
	/* ... nor may a reader that does not read stop us. */
	if (poll(&out, 1, 200) > 0 && write(STDERR_FILENO, line, len) < 0)
		errno = saved;
	errno = saved;
}

bool log_allowed(struct log_limit *limit, unsigned burst)
{
	struct timespec now;
	uint64_t second;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	second = (uint64_t)now.tv_sec + 1;
	if (atomic_exchange(&limit->second, second) != second)
		limit->count = 0;
	return atomic_fetch_add(&limit->count, 1) < burst;
}
