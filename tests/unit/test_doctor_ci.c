/* "doctor --ci", in front of hosts made of files. */
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
	unsetenv("GITHUB_ACTIONS");
	unsetenv("GITLAB_CI");
	strcpy(root, "/tmp/ringlet-doctor-XXXXXX");
	cr_assert(mkdtemp(root));
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	cr_expect_eq(system(command), 0);
}

TestSuite(doctor_ci, .init = make_root, .fini = teardown_once);

static const char *host_path(const char *path)
{
	static char full[512];

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(full, 0755);
		*s = '/';
	}
	return full;
}

static void host_file(const char *path, const char *text)
{
	FILE *f = fopen(host_path(path), "w");

	cr_assert(f, "%s: %s", path, strerror(errno));
	fputs(text, f);
	fclose(f);
}

static void host_program(const char *path)
{
	host_file(path, "#!/bin/true\n");
	cr_assert_eq(chmod(host_path(path), 0755), 0);
}

/* What is printed; *status: the exit status. */
static const char *report(bool json, int *status)
{
	static char *text;
	size_t size;
	FILE *f;

	free(text);
	f = open_memstream(&text, &size);
	*status = doctor_report(f, root, &(struct doctor_config){.ci = true, .json = json});
	fclose(f);
	return text;
}

static void says(const char *text, const char *part)
{
	cr_expect(strstr(text, part), "\"%s\" is not in:\n%s", part, text);
}

static void says_not(const char *text, const char *part)
{
	cr_expect_not(strstr(text, part), "\"%s\" is in:\n%s", part, text);
}

typedef void probe(const char *root, struct check *c);

static void finds(probe *p, enum check_status status, ...)
{
	struct check c = {.status = CHECK_OK};
	char text[1024];
	const char *word;
	va_list ap;

	p(root, &c);
	snprintf(text, sizeof(text), "%s -> %s", c.found, c.mend);
	cr_expect_eq(c.status, status, "status %d: %s", (int)c.status, text);
	va_start(ap, status);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(text, word), "\"%s\" is not in: %s", word, text);
	va_end(ap);
}

#define NONE (const char *)NULL

WholeTest(doctor_ci, without_kvm_it_fails_and_says_how_to_get_it)
{
	int status;
	const char *text = report(false, &status);

	cr_expect_eq(status, 1);
	says(text, "no /dev/kvm");
	says(text, "runs-on: ubuntu-24.04");
	says(text, "options: --device /dev/kvm");
	says(text, "echo 'KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\", OPTIONS+=\"static_node=kvm\"' |\n");
	says(text, "sudo tee /etc/udev/rules.d/99-kvm4all.rules\n");
	says(text, "devices = [\"/dev/kvm\"]");
	says(text, "never emulates");
	says(text, "\nNot usable for");
}

WholeTest(doctor_ci, each_service_has_its_own_lines)
{
	int status;
	const char *text;

	setenv("GITHUB_ACTIONS", "true", 1);
	text = report(false, &status);
	says(text, "99-kvm4all.rules");
	says_not(text, "config.toml");
	unsetenv("GITHUB_ACTIONS");
	setenv("GITLAB_CI", "true", 1);
	text = report(false, &status);
	says_not(text, "99-kvm4all.rules");
	says(text, "config.toml");
}

/* A device that is no KVM: it opens, and nothing more. */
WholeTest(doctor_ci, a_device_that_is_none)
{
	int status;
	const char *text;

	host_file("/dev/kvm", "");
	text = report(false, &status);
	cr_expect_eq(status, 1);
	says(text, "does not answer KVM_GET_API_VERSION");
	says(text, "99-kvm4all.rules");
	says_not(text, "this runner has no /dev/kvm");
}

/* Only what every run needs decides. */
WholeTest(doctor_ci, the_rest_are_notes)
{
	int status;
	const char *text;

	host_file("/proc/meminfo", "MemAvailable: 4194304 kB\n");
	text = report(false, &status);
	says(text, "ok       memory");
	says(text, "note     vhost-net");
	says(text, "note     hugepages-2M");
	says(text, "note     virtiofsd");
	says(text, "missing  kvm-device");
}

WholeTest(doctor_ci, as_json)
{
	int status;
	json_error_t e;
	json_t *o = json_loads(report(true, &status), 0, &e);

	cr_assert(o, "%s", e.text);
	cr_expect_eq(status, 1);
	cr_expect(json_is_false(json_object_get(o, "usable")));
	cr_expect_str_eq(json_string_value(json_object_get(o, "service")), "none");
	cr_expect_eq(json_array_size(json_object_get(o, "checks")), ndoctor_ci_checks);
	cr_expect_gt(json_array_size(json_object_get(o, "mend")), 10);
	json_decref(o);
}

WholeTest(doctor_ci, names_are_unique)
{
	for (size_t i = 0; i < ndoctor_ci_checks; i++)
		for (size_t k = 0; k < i; k++)
			cr_expect_neq(strcmp(doctor_ci_checks[i].name, doctor_ci_checks[k].name), 0);
}

WholeTest(doctor_ci, not_with_one_check)
{
	FILE *f = fopen("/dev/null", "w");

	cr_expect_eq(doctor_report(f, root, &(struct doctor_config){.ci = true, .check = "kvm"}), 125);
	fclose(f);
}

WholeTest(doctor_ci, slow_kvm_cannot_be_mended)
{
	unsigned state = 0;
	const char *line = doctor_ci_mend(CI_KVM_SLOW, &state);
	char text[1024] = "";

	for (; line; line = doctor_ci_mend(CI_KVM_SLOW, &state))
		strcat(text, line);
	says(text, "nothing here can mend that");
	says_not(text, "udev");
}

WholeTest(doctor_ci, memory)
{
	finds(check_memory, CHECK_NOTE, "cannot be read", NONE);
	host_file("/proc/meminfo", "MemTotal: 1 kB\nMemAvailable: 500000 kB\n");
	finds(check_memory, CHECK_MISSING, "488 MiB", "too little", "-m 128M", NONE);
	host_file("/proc/meminfo", "MemAvailable: 4194304 kB\n");
	finds(check_memory, CHECK_OK, "4096 MiB are free", NONE);
	host_file("/proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	host_file("/proc/self/cgroup", "0::/job\n");
	host_file("/sys/fs/cgroup/job/memory.max", "268435456\n");
	finds(check_memory, CHECK_MISSING, "cgroup may have 256 MiB", NONE);
	host_file("/sys/fs/cgroup/job/memory.max", "2147483648\n");
	finds(check_memory, CHECK_OK, "cgroup may have 2048 MiB", NONE);
}

WholeTest(doctor_ci, virtiofsd)
{
	const bool is_root = !geteuid();

	finds(check_virtiofsd, CHECK_MISSING, "--root DIR", "install virtiofsd", NONE);
	host_program("/usr/lib/qemu/virtiofsd");
	if (is_root)
		finds(check_virtiofsd, CHECK_OK, "/usr/lib/qemu/virtiofsd", "in C", NONE);
	else
		finds(check_virtiofsd, CHECK_NOTE, "in C", "for root only", NONE);
	host_program("/usr/libexec/virtiofsd");
	if (is_root) {
		finds(check_virtiofsd, CHECK_OK, "/usr/libexec/virtiofsd", "Rust", NONE);
		return;
	}
	finds(check_virtiofsd, CHECK_NOTE, "newuidmap", "uidmap", NONE);
	host_program("/usr/bin/newuidmap");
	finds(check_virtiofsd, CHECK_OK, "needs no root", NONE);
}

WholeTest(doctor_ci, user_namespaces)
{
	finds(check_user_namespaces, CHECK_NOTE, "this kernel has none", NONE);
	host_file("/proc/self/ns/user", "");
	finds(check_user_namespaces, CHECK_OK, NONE);
	host_file("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
	finds(check_user_namespaces, CHECK_NOTE, "AppArmor", "sysctl", NONE);
	host_file("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
	finds(check_user_namespaces, CHECK_NOTE, "unprivileged_userns_clone is 0", NONE);
	host_file("/proc/sys/user/max_user_namespaces", "0\n");
	finds(check_user_namespaces, CHECK_NOTE, "max_user_namespaces is 0", NONE);
}

WholeTest(doctor_ci, clock)
{
	static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

	finds(check_clock, CHECK_NOTE, "cannot be read", NONE);
	host_file(path, "tsc\n");
	finds(check_clock, CHECK_OK, "tsc", NONE);
	host_file(path, "hpet\n");
	finds(check_clock, CHECK_NOTE, "hpet", NONE);
}
