/* The doctor, in front of hosts made of files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/teardown.h"
#include "vmm/doctor.h"
#include "vmm/doctor_checks.h"

static char root[64];

static void make_root(void)
{
	strcpy(root, "/tmp/ringlet-doctor-XXXXXX");
	cr_assert(mkdtemp(root));
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	cr_expect_eq(system(command), 0);
}

TestSuite(doctor, .init = make_root, .fini = teardown_once);

/* A file of the fake host, and the directories above it. */
static void host_file(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(full, 0755);
		*s = '/';
	}
	f = fopen(full, "w");
	cr_assert(f, "%s: %s", full, strerror(errno));
	fputs(text, f);
	fclose(f);
}

static struct check probe(const char *name)
{
	const struct check_def *def = doctor_check_find(name);
	struct check c = {.status = CHECK_OK};

	cr_assert(def, "no check %s", name);
	def->probe(root, &c);
	return c;
}

/* The result of the check has this status, and all of the words (ended by NULL) in it. */
static void finds(const char *name, enum check_status status, ...)
{
	struct check c = probe(name);
	char text[1024];
	const char *word;
	va_list ap;

	snprintf(text, sizeof(text), "%s -> %s", c.found, c.mend);
	cr_expect_eq(c.status, status, "%s: status %d: %s", name, (int)c.status, text);
	va_start(ap, status);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(text, word), "%s misses \"%s\" in: %s", name, word, text);
	va_end(ap);
}

#define NONE (const char *)NULL

WholeTest(doctor, check_names_are_unique)
{
	for (size_t i = 0; i < ndoctor_checks; i++)
		cr_expect_eq(doctor_check_find(doctor_checks[i].name), &doctor_checks[i]);
	cr_expect_null(doctor_check_find("nonsense"));
}

WholeTest(doctor, survives_a_host_without_any_file)
{
	for (size_t i = 0; i < ndoctor_checks; i++) {
		struct check c = probe(doctor_checks[i].name);

		cr_expect(c.found[0], "%s says nothing", doctor_checks[i].name);
	}
}

WholeTest(doctor, kvm_device_without_module_on_intel)
{
	host_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse\n\n");
	finds("kvm-device", CHECK_MISSING, "no /dev/kvm", "modprobe kvm_intel", NONE);
}

WholeTest(doctor, kvm_device_without_module_on_amd)
{
	host_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu svm sse\n\n");
	finds("kvm-device", CHECK_MISSING, "modprobe kvm_amd", NONE);
}

WholeTest(doctor, kvm_device_in_a_vm_without_nesting)
{
	struct check c;

	host_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor sse\n\n");
	finds("kvm-device", CHECK_MISSING, "nested virtualisation", NONE);
	c = probe("kvm-device");
	cr_expect_str_empty(c.mend);
}

WholeTest(doctor, cpu_flags_are_whole_words)
{
	host_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx_extra xsvm\n\n");
	cr_expect_not(doctor_has_cpu_flag(root, "vmx"));
	cr_expect_not(doctor_has_cpu_flag(root, "svm"));
	cr_expect(doctor_has_cpu_flag(root, "fpu"));
}

WholeTest(doctor, kvm_device_without_permission_names_the_way)
{
	char path[128];

	host_file("/dev/kvm", "");
	snprintf(path, sizeof(path), "%s/dev/kvm", root);
	cr_assert_eq(chmod(path, 0), 0);
	if (access("/proc/1/mem", W_OK) == 0 || geteuid() == 0) {
		/* Root may open everything: be somebody else. */
		cr_assert_eq(chmod(root, 0755), 0);
		cr_assert_eq(seteuid(65534), 0);
	}
	finds("kvm-device", CHECK_MISSING, "no permission", "adduser $USER kvm", NONE);
	cr_assert(seteuid(getuid()) == 0);
}

WholeTest(doctor, kvm_api_of_something_else)
{
	host_file("/dev/kvm", "");
	finds("kvm-device", CHECK_OK, "opens", NONE);
	finds("kvm-api", CHECK_MISSING, "KVM_GET_API_VERSION", NONE);
}

WholeTest(doctor, kvm_stands_for_device_and_api)
{
	finds("kvm", CHECK_MISSING, "no /dev/kvm", NONE);
	host_file("/dev/kvm", "");
	finds("kvm", CHECK_MISSING, "KVM_GET_API_VERSION", NONE);
}

WholeTest(doctor, kvm_nested)
{
	host_file("/sys/module/kvm_intel/parameters/nested", "Y\n");
	finds("kvm-nested", CHECK_OK, "kvm_intel lets guests", NONE);
	host_file("/sys/module/kvm_intel/parameters/nested", "0\n");
	finds("kvm-nested", CHECK_NOTE, "does not let", NONE);
}

WholeTest(doctor, kvm_nested_inside_a_vm)
{
	host_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: svm hypervisor\n\n");
	host_file("/sys/module/kvm_amd/parameters/nested", "1\n");
	finds("kvm-nested", CHECK_NOTE, "kvm_amd", "virtual machine itself", NONE);
}

#define PAGES_2M "/sys/kernel/mm/hugepages/hugepages-2048kB"

WholeTest(doctor, hugepages_free)
{
	host_file(PAGES_2M "/nr_hugepages", "512\n");
	host_file(PAGES_2M "/free_hugepages", "100\n");
	host_file("/proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
				  "h /mnt/1g hugetlbfs rw,pagesize=1024M 0 0\n");
	finds("hugepages-2M", CHECK_OK, "100 of 512", "/dev/hugepages", NONE);
}

WholeTest(doctor, hugepages_none_free)
{
	host_file(PAGES_2M "/nr_hugepages", "8\n");
	host_file(PAGES_2M "/free_hugepages", "0\n");
	finds("hugepages-2M", CHECK_MISSING, "0 of 8", "echo 520 | sudo tee " PAGES_2M, NONE);
}

WholeTest(doctor, hugepages_of_a_size_the_kernel_lacks)
{
	finds("hugepages-1G", CHECK_MISSING, "1G", NONE);
}

WholeTest(doctor, hugepages_mount_of_1g)
{
	host_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "2\n");
	host_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "2\n");
	host_file("/proc/mounts", "h /mnt/2m hugetlbfs rw,pagesize=2M 0 0\n"
				  "h /mnt/1g hugetlbfs rw,pagesize=1024M 0 0\n");
	finds("hugepages-1G", CHECK_OK, "/mnt/1g", NONE);
}

WholeTest(doctor, hugepages_limit_of_cgroup_2_above_ours)
{
	host_file(PAGES_2M "/nr_hugepages", "512\n");
	host_file(PAGES_2M "/free_hugepages", "512\n");
	host_file("/proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	host_file("/proc/self/cgroup", "0::/a/b\n");
	host_file("/sys/fs/cgroup/a/b/hugetlb.2MB.max", "max\n");
	host_file("/sys/fs/cgroup/a/hugetlb.2MB.max", "20971520\n");
	finds("hugepages-2M", CHECK_OK, "may have 10", NONE);
}

WholeTest(doctor, hugepages_limit_of_cgroup_1)
{
	host_file(PAGES_2M "/nr_hugepages", "512\n");
	host_file(PAGES_2M "/free_hugepages", "512\n");
	host_file("/proc/mounts", "cgroup /sys/fs/cgroup/hugetlb cgroup rw,hugetlb 0 0\n");
	host_file("/proc/self/cgroup", "9:memory:/m\n4:hugetlb:/c\n");
	host_file("/sys/fs/cgroup/hugetlb/c/hugetlb.2MB.limit_in_bytes", "0\n");
	host_file("/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "9223372036854771712\n");
	finds("hugepages-2M", CHECK_MISSING, "may have 0", "cgroup", NONE);
}

WholeTest(doctor, hugepages_of_cgroup_1_without_a_limit)
{
	struct check c;

	host_file(PAGES_2M "/nr_hugepages", "512\n");
	host_file(PAGES_2M "/free_hugepages", "512\n");
	host_file("/proc/mounts", "cgroup /sys/fs/cgroup/hugetlb cgroup rw,hugetlb 0 0\n");
	host_file("/proc/self/cgroup", "4:hugetlb:/\n");
	host_file("/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "9223372036854771712\n");
	c = probe("hugepages-2M");
	cr_expect_eq(c.status, CHECK_OK);
	cr_expect_null(strstr(c.found, "cgroup"), "%s", c.found);
}

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

WholeTest(doctor, shmem_never)
{
	host_file(SHMEM_ENABLED, "always within_size advise [never] deny force\n");
	finds("shmem_enabled", CHECK_NOTE, "never", "echo advise | sudo tee " SHMEM_ENABLED, NONE);
}

WholeTest(doctor, shmem_advise)
{
	host_file(SHMEM_ENABLED, "always within_size [advise] never deny force\n");
	finds("shmem_enabled", CHECK_OK, "advise", NONE);
}

#define LIMITS(files, locked)                                                                                  \
	"Limit                     Soft Limit           Hard Limit           Units\n"                          \
	"Max open files            " files "                 524288               files\n"                     \
	"Max locked memory         " locked "              unlimited            bytes\n"

WholeTest(doctor, limits_low)
{
	host_file("/proc/self/limits", LIMITS("256", "65536"));
	finds("nofile", CHECK_NOTE, "256", "ulimit -n", NONE);
	finds("memlock", CHECK_NOTE, "64 KiB", "ulimit -l", NONE);
}

WholeTest(doctor, limits_high)
{
	host_file("/proc/self/limits", LIMITS("65536", "unlimited"));
	finds("nofile", CHECK_OK, "65536", NONE);
	finds("memlock", CHECK_OK, "not limited", NONE);
}

WholeTest(doctor, cpus_without_quota)
{
	host_file("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8,10-11\n");
	finds("cpus", CHECK_OK, "7 usable", "0-3,8,10-11", NONE);
}

WholeTest(doctor, cpus_with_quota)
{
	host_file("/proc/self/status", "Cpus_allowed_list:\t0-7\n");
	host_file("/proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	host_file("/proc/self/cgroup", "0::/\n");
	host_file("/sys/fs/cgroup/cpu.max", "150000 100000\n");
	finds("cpus", CHECK_NOTE, "8 usable", "1.50", NONE);
}

WholeTest(doctor, cpus_with_quota_of_cgroup_1)
{
	host_file("/proc/self/status", "Cpus_allowed_list:\t0-3\n");
	host_file("/proc/mounts", "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n");
	host_file("/proc/self/cgroup", "3:cpu,cpuacct:/box\n");
	host_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
	finds("cpus", CHECK_OK, "4 usable", NONE);
	host_file("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "200000\n");
	finds("cpus", CHECK_NOTE, "2.00", NONE);
}

WholeTest(doctor, io_uring_switched_off)
{
	host_file("/proc/sys/kernel/io_uring_disabled", "2\n");
	finds("io_uring", CHECK_MISSING, "io_uring_disabled is 2", "sysctl kernel.io_uring_disabled=0", NONE);
}

WholeTest(doctor, devices_there)
{
	host_file("/dev/net/tun", "");
	host_file("/dev/vhost-net", "");
	host_file("/dev/vduse/control", "");
	finds("tun", CHECK_OK, "/dev/net/tun", NONE);
	finds("vhost-net", CHECK_OK, "/dev/vhost-net", NONE);
	finds("vduse", CHECK_OK, "/dev/vduse/control", NONE);
}

WholeTest(doctor, devices_missing)
{
	finds("tun", CHECK_MISSING, "modprobe tun", NONE);
	finds("vhost-net", CHECK_MISSING, "modprobe vhost_net", NONE);
	finds("vhost-vsock", CHECK_MISSING, "modprobe vhost_vsock", NONE);
	finds("vhost-scsi", CHECK_MISSING, "modprobe vhost_scsi", NONE);
	finds("vhost-vdpa", CHECK_MISSING, "modprobe vhost_vdpa", NONE);
	finds("vduse", CHECK_MISSING, "modprobe vduse", NONE);
}

WholeTest(doctor, vdpa_devices_are_listed)
{
	host_file("/dev/vhost-vdpa-0", "");
	host_file("/dev/vhost-vdpa-3", "");
	finds("vhost-vdpa", CHECK_OK, "/dev/vhost-vdpa-0", "/dev/vhost-vdpa-3", NONE);
}

WholeTest(doctor, more_vdpa_devices_than_a_line_holds)
{
	char name[64];

	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "/dev/vhost-vdpa-%d", i);
		host_file(name, "");
	}
	finds("vhost-vdpa", CHECK_OK, "/dev/vhost-vdpa-", NONE);
}

static char report[16384];

static int report_of(const struct doctor_config *cfg)
{
	FILE *out = fmemopen(report, sizeof(report), "w");
	int r;

	cr_assert(out);
	r = doctor_report(out, root, cfg);
	fclose(out);
	return r;
}

WholeTest(doctor, report_has_a_line_for_every_check)
{
	size_t lines = 0;

	cr_expect_eq(report_of(&(struct doctor_config){0}), 1);
	for (const char *s = report; *s; s++)
		lines += *s == '\n';
	cr_expect_eq(lines, ndoctor_checks);
	for (size_t i = 0; i < ndoctor_checks; i++)
		cr_expect(strstr(report, doctor_checks[i].name));
}

WholeTest(doctor, report_line_has_its_parts)
{
	report_of(&(struct doctor_config){0});
	cr_expect(strstr(report, "missing  tun            no /dev/net/tun; needed for tap network cards"
				 "  -> sudo modprobe tun\n"),
		  "%s", report);
}

WholeTest(doctor, report_as_json)
{
	json_error_t error;
	json_t *array;

	cr_expect_eq(report_of(&(struct doctor_config){.json = true}), 1);
	array = json_loads(report, 0, &error);
	cr_assert(array, "%s: %s", error.text, report);
	cr_expect_eq(json_array_size(array), ndoctor_checks);
	for (size_t i = 0; i < ndoctor_checks; i++) {
		json_t *object = json_array_get(array, i);

		cr_expect_str_eq(json_string_value(json_object_get(object, "name")), doctor_checks[i].name);
		cr_expect(json_is_string(json_object_get(object, "status")));
		cr_expect(json_is_string(json_object_get(object, "found")));
		cr_expect(json_object_get(object, "mend"));
	}
	json_decref(array);
}

WholeTest(doctor, one_check_that_is_ok_is_silent)
{
	host_file("/dev/net/tun", "");
	cr_expect_eq(report_of(&(struct doctor_config){.check = "tun"}), 0);
	cr_expect_str_empty(report);
}

WholeTest(doctor, one_check_that_is_not_ok_prints_its_line)
{
	cr_expect_eq(report_of(&(struct doctor_config){.check = "tun"}), 1);
	cr_expect(strstr(report, "missing  tun"));
	cr_expect_eq(strchr(report, '\n'), report + strlen(report) - 1);
}

WholeTest(doctor, one_check_as_json)
{
	json_t *array;

	report_of(&(struct doctor_config){.check = "tun", .json = true});
	array = json_loads(report, 0, NULL);
	cr_expect_eq(json_array_size(array), 1);
	json_decref(array);
}

WholeTest(doctor, report_that_cannot_be_written)
{
	FILE *full = fopen("/dev/full", "w");

	if (!full)
		cr_skip_test("no /dev/full");
	cr_expect_eq(doctor_report(full, root, &(struct doctor_config){0}), 125);
	fclose(full);
}
