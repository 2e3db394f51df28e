#include "vmm/hugepages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool read_u64(const char *path, uint64_t *value)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fscanf(f, "%" SCNu64, value) == 1;
	fclose(f);
	return ok;
}

static uint64_t pool(uint64_t page_size, const char *name)
{
	char path[128];
	uint64_t n = 0;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", page_size >> 10,
		 name);
	read_u64(path, &n);
	return n;
}

static void size_name(uint64_t page_size, char *name, size_t len)
{
	if (page_size >= 1u << 30)
		snprintf(name, len, "%" PRIu64 "GB", page_size >> 30);
	else
		snprintf(name, len, "%" PRIu64 "MB", page_size >> 20);
}

/* The hugetlb limit of our own cgroup or one above it, version 2 or 1; the tightest counts. */
static bool cgroup_limit(uint64_t page_size, char *file, size_t len, uint64_t *limit, uint64_t *used)
{
	char line[512], size[16], dir[600];
	bool found = false;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return false;
	size_name(page_size, size, sizeof(size));
	while (fgets(line, sizeof(line), f)) {
		char *controllers = strchr(line, ':'), *path, *slash;
		bool v2;

		line[strcspn(line, "\n")] = 0;
		if (!controllers || !(path = strchr(controllers + 1, ':')))
			continue;
		*path++ = 0;
		controllers++;
		v2 = !*controllers;
		if (!v2 && !strstr(controllers, "hugetlb"))
			continue;
		snprintf(dir, sizeof(dir), "/sys/fs/cgroup%s%s", v2 ? "" : "/hugetlb", path);
		for (;;) {
			char name[800];
			uint64_t max, cur = 0;

			snprintf(name, sizeof(name), "%s/hugetlb.%s.%s", dir, size,
				 v2 ? "max" : "limit_in_bytes");
			if (read_u64(name, &max) && (!found || max < *limit) && max < 1ull << 62) {
				found = true;
				*limit = max;
				snprintf(file, len, "%s", name);
				snprintf(name, sizeof(name), "%s/hugetlb.%s.%s", dir, size,
					 v2 ? "current" : "usage_in_bytes");
				read_u64(name, &cur);
				*used = cur;
			}
			slash = strrchr(dir, '/');
			if (!slash || slash <= dir + strlen("/sys/fs/cgroup") - 1)
				break;
			*slash = 0;
		}
	}
	fclose(f);
	return found;
}

int hugepages_explain(uint64_t page_size, uint64_t want, struct err *e)
{
	uint64_t need = want / page_size, total = pool(page_size, "nr_hugepages");
	uint64_t nfree = pool(page_size, "free_hugepages"), reserved = pool(page_size, "resv_hugepages");
	uint64_t limit = 0, used = 0, avail = nfree > reserved ? nfree - reserved : 0;
	char file[800], size[16];

	size_name(page_size, size, sizeof(size));
	if (cgroup_limit(page_size, file, sizeof(file), &limit, &used) &&
	    (used >= limit || limit - used < want))
		return err_set(e, -ENOMEM,
			       "--mem: %" PRIu64 " MiB of RAM need %" PRIu64 " huge pages of %s, but this "
			       "process's cgroup allows %" PRIu64 " (%" PRIu64 " used)\nRaise it: echo %" PRIu64
			       " > %s",
			       want >> 20, need, size, limit / page_size, used / page_size, used + want, file);
	if (avail < need)
		return err_set(e, -ENOMEM,
			       "--mem: %" PRIu64 " MiB of RAM need %" PRIu64
			       " huge pages of %s; the host has %" PRIu64 " free of %" PRIu64 " (%" PRIu64
			       " reserved by others)\nGet more: echo %" PRIu64
			       " > /sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
			       want >> 20, need, size, nfree, total, reserved, total + need - avail,
			       page_size >> 10);
	return err_set(e, -ENOMEM,
		       "--mem: the host refused %" PRIu64 " huge pages of %s although %" PRIu64 " of %" PRIu64
		       " are free; another process may have been quicker, or a mount's size= limits them",
		       need, size, nfree, total);
}
