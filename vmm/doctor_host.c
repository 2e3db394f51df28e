#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/doctor_checks.h"
#include "vmm/ram_file.h"

#define GIB (UINT64_C(1) << 30)

/* Version 1 says "no limit" by a number near the largest. */
#define NO_LIMIT (UINT64_C(1) << 60)

int doctor_read(const char *root, const char *path, char *buf, size_t len)
{
	char full[4096];
	CLEANUP_FD int fd = -1;
	ssize_t n;
	size_t done = 0;

	buf[0] = '\0';
	snprintf(full, sizeof(full), "%s%s", root, path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (done < len - 1 && (n = read(fd, buf + done, len - 1 - done)) != 0) {
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	if (done && buf[done - 1] == '\n')
		done--;
	buf[done] = '\0';
	return (int)done;
}

bool doctor_read_u64(const char *root, const char *path, uint64_t *n)
{
	char text[32], *end;

	*n = 0;
	if (doctor_read(root, path, text, sizeof(text)) <= 0)
		return false;
	errno = 0;
	*n = strtoull(text, &end, 10);
	return end != text && !errno;
}

bool doctor_has_cpu_flag(const char *root, const char *flag)
{
	char text[8192], *line, *word, *rest;

	/* The first CPU stands for all; it comes first. */
	if (doctor_read(root, "/proc/cpuinfo", text, sizeof(text)) <= 0)
		return false;
	line = strstr(text, "\nflags");
	line = line ? strchr(line, ':') : NULL;
	if (!line)
		return false;
	line++;
	line[strcspn(line, "\n")] = '\0';
	for (word = strtok_r(line, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest))
		if (!strcmp(word, flag))
			return true;
	return false;
}

bool doctor_exists(const char *root, const char *path)
{
	char full[4096];

	snprintf(full, sizeof(full), "%s%s", root, path);
	return access(full, F_OK) == 0;
}

int doctor_try_device(const char *root, const char *path)
{
	char full[4096];
	CLEANUP_FD int fd = -1;

	snprintf(full, sizeof(full), "%s%s", root, path);
	fd = open(full, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : 0;
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *s = list; (s = strstr(s, word)); s += len)
		if ((s == list || s[-1] == ',') && (s[len] == ',' || !s[len]))
			return true;
	return false;
}

/* The least of file in mount + path and every directory above it, down to mount itself; UINT64_MAX:
 * there is no limit. */
static uint64_t limit_upwards(const char *root, const char *mount, const char *path, const char *file)
{
	char dir[2048], name[4096];
	uint64_t n, least = UINT64_MAX;

	snprintf(dir, sizeof(dir), "%s%s", mount, path);
	for (;;) {
		char *slash;

		snprintf(name, sizeof(name), "%s/%s", dir, file);
		if (doctor_read_u64(root, name, &n) && n < NO_LIMIT && n < least)
			least = n;
		if (strlen(dir) <= strlen(mount))
			return least;
		slash = strrchr(dir, '/');
		*slash = '\0';
	}
}

/* Where the cgroup file system is mounted: version 2's, or that of a version 1 controller. */
static bool cgroup_mount(const char *root, const char *controller, char *mount, size_t len)
{
	char text[32768], *rest = NULL;

	if (doctor_read(root, "/proc/mounts", text, sizeof(text)) <= 0)
		return false;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char dir[1024], type[32], options[512];

		if (sscanf(line, "%*s %1023s %31s %511s", dir, type, options) != 3)
			continue;
		if (controller ? !strcmp(type, "cgroup") && has_word(options, controller)
			       : !strcmp(type, "cgroup2")) {
			snprintf(mount, len, "%s", dir);
			return true;
		}
	}
	return false;
}

/* Our place below the mount: the line "0::/path", or that of a version 1 controller. */
static bool cgroup_path(const char *root, const char *controller, char *path, size_t len)
{
	char text[8192], *rest = NULL;

	if (doctor_read(root, "/proc/self/cgroup", text, sizeof(text)) <= 0)
		return false;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *controllers = strchr(line, ':');
		char *dir = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!dir)
			continue;
		*dir++ = '\0';
		controllers++;
		if (controller ? has_word(controllers, controller) : !*controllers) {
			snprintf(path, len, "%s", strcmp(dir, "/") != 0 ? dir : "");
			return true;
		}
	}
	return false;
}

bool doctor_cgroup_limit(const char *root, const char *file_v2, const char *controller_v1, const char *file_v1,
			 uint64_t *limit)
{
	char mount[1024], path[1024];

	*limit = UINT64_MAX;
	for (int v1 = 0; v1 < 2; v1++) {
		const char *controller = v1 ? controller_v1 : NULL;

		uint64_t n;

		if (!cgroup_mount(root, controller, mount, sizeof(mount)) ||
		    !cgroup_path(root, controller, path, sizeof(path)))
			continue;
		n = limit_upwards(root, mount, path, v1 ? file_v1 : file_v2);
		if (n < *limit)
			*limit = n;
	}
	return *limit != UINT64_MAX;
}

/* "; mounted at /dev/hugepages", for the mounts with pages of this size. */
static void hugetlb_mounts(const char *root, uint64_t bytes, char *found, size_t len)
{
	char text[32768], wanted[32], *rest = NULL;
	size_t n = 0;

	found[0] = '\0';
	if (doctor_read(root, "/proc/mounts", text, sizeof(text)) <= 0)
		return;
	/* The kernel never says 1G here. */
	snprintf(wanted, sizeof(wanted), "pagesize=%" PRIu64 "M", bytes >> 20);
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char dir[256], type[32], options[512];

		if (sscanf(line, "%*s %255s %31s %511s", dir, type, options) != 3 ||
		    strcmp(type, "hugetlbfs") != 0)
			continue;
		if (has_word(options, wanted))
			n += (size_t)snprintf(found + n, len - n, "%s%s", n ? ", " : "; mounted at ", dir);
		if (n >= len)
			return;
	}
}

static void check_hugepages(const char *root, struct check *c, const char *pagesize, uint64_t bytes)
{
	char dir[96], name[160], mounts[256], v2[48], v1[48], capped[96] = "";
	uint64_t total, nfree = 0, limit;

	snprintf(dir, sizeof(dir), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB", bytes >> 10);
	snprintf(name, sizeof(name), "%s/nr_hugepages", dir);
	if (!doctor_read_u64(root, name, &total)) {
		check_set(c, CHECK_MISSING, "this kernel or CPU has no huge pages of %s", pagesize);
		return;
	}
	snprintf(name, sizeof(name), "%s/free_hugepages", dir);
	doctor_read_u64(root, name, &nfree);
	hugetlb_mounts(root, bytes, mounts, sizeof(mounts));
	snprintf(v2, sizeof(v2), "hugetlb.%sB.max", pagesize);
	snprintf(v1, sizeof(v1), "hugetlb.%sB.limit_in_bytes", pagesize);
	if (doctor_cgroup_limit(root, v2, "hugetlb", v1, &limit))
		snprintf(capped, sizeof(capped), "; our cgroup may have %" PRIu64, limit / bytes);
	check_set(c, !nfree || limit < bytes ? CHECK_MISSING : CHECK_OK, "%" PRIu64 " of %" PRIu64 " free%s%s",
		  nfree, total, mounts, capped);
	if (limit < bytes)
		check_mend(c, "raise %s of this process's cgroup", v2);
	else if (!nfree)
		check_mend(c, "echo %" PRIu64 " | sudo tee %s/nr_hugepages", total + (bytes == GIB ? 1 : 512),
			   dir);
}

void check_hugepages_2m(const char *root, struct check *c)
{
	check_hugepages(root, c, "2M", UINT64_C(2) << 20);
}

void check_hugepages_1g(const char *root, struct check *c)
{
	check_hugepages(root, c, "1G", GIB);
}

void check_shmem_enabled(const char *root, struct check *c)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char text[128], *value, *end;

	doctor_read(root, path, text, sizeof(text));
	value = strchr(text, '[');
	end = value ? strchr(value, ']') : NULL;
	if (!end) {
		check_set(c, CHECK_MISSING, "no transparent huge pages for shared memory");
		return;
	}
	*end = '\0';
	value++;
	if (strcmp(value, "never") != 0 && strcmp(value, "deny") != 0) {
		check_set(c, CHECK_OK, "%s: guest memory can have huge pages", value);
		return;
	}
	if (!*root && ram_file_large()) {
		check_set(c, CHECK_OK, "%s, but guest memory has huge pages, from a tmpfs of its own", value);
		return;
	}
	check_set(c, CHECK_NOTE,
		  "%s, and no tmpfs with them can be had: guest memory gets no transparent huge pages", value);
	check_mend(c, "echo advise | sudo tee %s", path);
}

/* The soft limit of this line of /proc/self/limits.  -1: there is none; -2: it is not known. */
static int64_t soft_limit(const char *root, const char *name)
{
	char text[8192], *line;

	if (doctor_read(root, "/proc/self/limits", text, sizeof(text)) <= 0)
		return -2;
	line = strstr(text, name);
	if (!line)
		return -2;
	line += strlen(name);
	line += strspn(line, " ");
	return strncmp(line, "unlimited", 9) ? strtoll(line, NULL, 10) : -1;
}

void check_memlock(const char *root, struct check *c)
{
	int64_t limit = soft_limit(root, "Max locked memory");

	if (limit == -2) {
		check_set(c, CHECK_NOTE, "the limit on locked memory cannot be read");
	} else if (limit == -1) {
		check_set(c, CHECK_OK, "locked memory is not limited");
	} else {
		check_set(c, CHECK_NOTE,
			  "%" PRId64 " KiB may be locked; a vDPA device locks "
			  "all the guest's memory",
			  limit >> 10);
		check_mend(c, "ulimit -l unlimited  # as root");
	}
}

void check_nofile(const char *root, struct check *c)
{
	int64_t limit = soft_limit(root, "Max open files");

	if (limit == -2) {
		check_set(c, CHECK_NOTE, "the limit on open files cannot be read");
	} else if (limit == -1) {
		check_set(c, CHECK_OK, "open files are not limited");
	} else if (limit >= 1024) {
		check_set(c, CHECK_OK, "%" PRId64 " files may be open", limit);
	} else {
		check_set(c, CHECK_NOTE,
			  "%" PRId64 " files may be open; a guest takes one a "
			  "vCPU and several a queue",
			  limit);
		check_mend(c, "ulimit -n 4096");
	}
}

void check_io_uring(const char *root, struct check *c)
{
	struct io_uring_params params = {0};
	uint64_t disabled = 0;
	int fd;

	doctor_read_u64(root, "/proc/sys/kernel/io_uring_disabled", &disabled);
	if (disabled) {
		check_set(c, CHECK_MISSING, "kernel.io_uring_disabled is %" PRIu64 ": %s", disabled,
			  disabled == 1 ? "only for CAP_SYS_ADMIN and the group kernel.io_uring_group"
					: "for nobody");
		check_mend(c, "sudo sysctl kernel.io_uring_disabled=0");
		/* Whom 1 lets in is for the kernel to say. */
		if (disabled != 1)
			return;
	}
	fd = (int)syscall(SYS_io_uring_setup, 1U, &params);
	if (fd >= 0) {
		close(fd);
		check_set(c, CHECK_OK, "rings can be made");
		c->mend[0] = '\0';
	} else if (errno == ENOSYS) {
		check_set(c, CHECK_MISSING, "the kernel has none; disks fall back to threads");
	} else if (!disabled) {
		check_set(c, CHECK_MISSING, "refused: %s%s", strerror(errno),
			  errno == EPERM ? " (a container's seccomp filter?)" : "");
	}
}

/* "0-3,8": 5 */
static unsigned count_cpu_list(const char *list)
{
	unsigned n = 0;

	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		n += (unsigned)(last - first + 1);
		if (*end != ',')
			break;
		list = end + 1;
	}
	return n;
}

/* CPU time that our cgroups leave us, in hundredths of a CPU. */
static bool cpu_quota(const char *root, uint64_t *hundredths)
{
	const uint64_t period = 100000;
	uint64_t quota;

	/* Nothing that sets quotas uses another period than the kernel's default. */
	if (!doctor_cgroup_limit(root, "cpu.max", "cpu", "cpu.cfs_quota_us", &quota))
		return false;
	*hundredths = quota * 100 / period;
	return true;
}

void check_cpus(const char *root, struct check *c)
{
	char text[8192], *line;
	uint64_t hundredths = 0;
	unsigned n;

	doctor_read(root, "/proc/self/status", text, sizeof(text));
	line = strstr(text, "Cpus_allowed_list:");
	if (!line) {
		check_set(c, CHECK_NOTE, "the CPUs that may be used cannot be read");
		return;
	}
	line += strlen("Cpus_allowed_list:");
	line += strspn(line, " \t");
	line[strcspn(line, "\n")] = '\0';
	n = count_cpu_list(line);
	if (cpu_quota(root, &hundredths) && hundredths < n * UINT64_C(100))
		check_set(c, CHECK_NOTE,
			  "%u usable (%.200s), but the cgroup leaves time for "
			  "%" PRIu64 ".%02" PRIu64 " of them",
			  n, line, hundredths / 100, hundredths % 100);
	else
		check_set(c, CHECK_OK, "%u usable (%.200s)", n, line);
}
