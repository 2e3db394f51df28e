#include "vmm/guest_plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

static void append(struct guest_plan *p, const char *data, size_t len)
{
	if (p->len + len > p->cap) {
		size_t cap = p->len + len + 4096;
		char *grown = realloc(p->data, cap);

		if (!grown) {
			p->error = -ENOMEM;
			return;
		}
		p->data = grown;
		p->cap = cap;
	}
	memcpy(p->data + p->len, data, len);
	p->len += len;
}

void guest_plan_add(struct guest_plan *p, const char *key, const char *fmt, ...)
{
	CLEANUP_FREE char *value = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (n < 0) {
		value = NULL;
		p->error = -ENOMEM;
	}
	if (!p->error)
		append(p, key, strlen(key));
	if (!p->error)
		append(p, " ", 1);
	if (!p->error)
		append(p, value, (size_t)n + 1);
}

void guest_plan_fini(struct guest_plan *p)
{
	free(p->data);
	*p = (struct guest_plan){0};
}
