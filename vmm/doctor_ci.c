/* "ringlet doctor --ci": what a job of a CI service needs, and the lines that mend it there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/doctor.h"
#include "vmm/doctor_checks.h"
#include "vmm/kvm/exits.h"

#define MIB          (UINT64_C(1) << 20)
#define LEAST_MEMORY (640 * MIB) /* the default guest of 512M, and what runs it */
#define SLOW_EXIT_NS 20000.0     /* bare metal: about 1,000; nested: some 10,000 */

const struct check_def doctor_ci_checks[] = {
	{"kvm-device", true, check_kvm_device},
	{"kvm", true, check_kvm},
	{"kvm-exits", false, check_exits},
	{"kvm-nested", false, check_kvm_nested},
	{"cpus", false, check_cpus},
	{"memory", true, check_memory},
	{"hugepages-2M", false, check_hugepages_2m},
	{"virtiofsd", false, check_virtiofsd},
	{"user-ns", false, check_user_namespaces},
	{"clock", false, check_clock},
	{"nofile", false, check_nofile},
	{"tun", false, check_tun},
	{"vhost-net", false, check_vhost_net},
	{"vhost-vsock", false, check_vhost_vsock},
};
const size_t ndoctor_ci_checks = ARRAY_SIZE(doctor_ci_checks);

void check_exits(const char *root, struct check *c)
{
	struct err e = {0};
	double ns;

	check_kvm_device(root, c);
	if (c->status != CHECK_OK) {
		check_set(c, CHECK_NOTE, "not measured: /dev/kvm does not open");
		c->mend[0] = '\0';
	} else if (kvm_exits_measure(&ns, &e)) {
		check_set(c, CHECK_NOTE, "not measured: %s", e.text);
	} else {
		check_set(c, ns < SLOW_EXIT_NS ? CHECK_OK : CHECK_NOTE,
			  "leaving a guest and coming back takes %.1f us%s", ns / 1000,
			  ns < SLOW_EXIT_NS ? "" : ", which is slow: devices will be, too");
	}
}

void check_memory(const char *root, struct check *c)
{
	char text[4096], *line;
	uint64_t kib, bytes, limit;

	doctor_read(root, "/proc/meminfo", text, sizeof(text));
	line = strstr(text, "MemAvailable:");
	if (!line || sscanf(line, "MemAvailable: %" SCNu64, &kib) != 1) {
		check_set(c, CHECK_NOTE, "how much is free cannot be read");
		return;
	}
	bytes = kib << 10;
	if (doctor_cgroup_limit(root, "memory.max", "memory", "memory.limit_in_bytes", &limit) &&
	    limit < bytes) {
		check_set(c, limit < LEAST_MEMORY ? CHECK_MISSING : CHECK_OK,
			  "our cgroup may have %" PRIu64 " MiB%s", limit / MIB,
			  limit < LEAST_MEMORY ? ", too little for a guest of 512M" : "");
		if (limit < LEAST_MEMORY)
			check_mend(c, "give the job 1 GiB, or run guests with -m 128M");
	} else if (bytes < LEAST_MEMORY) {
		check_set(c, CHECK_MISSING, "%" PRIu64 " MiB are free, too little for a guest of 512M",
			  bytes / MIB);
		check_mend(c, "give the job 1 GiB, or run guests with -m 128M");
	} else {
		check_set(c, CHECK_OK, "%" PRIu64 " MiB are free", bytes / MIB);
	}
}

/* --- --root DIR --- */

static bool is_program(const char *root, const char *path)
{
	char full[4096];
	struct stat st;

	snprintf(full, sizeof(full), "%s%s", root, path);
	return !stat(full, &st) && S_ISREG(st.st_mode) && !access(full, X_OK);
}

static bool find_program(const char *root, const char *name, char *path, size_t size)
{
	static const char dirs[] =
		"/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/usr/libexec:/usr/lib:/usr/lib/qemu";
	const char *in_path = *root ? NULL : getenv("PATH");
	const char *const lists[] = {in_path, dirs};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (const char *dir = lists[i]; dir && *dir;) {
			const size_t len = strcspn(dir, ":");

			snprintf(path, size, "%.*s/%s", (int)len, dir, name);
			if (len && is_program(root, path))
				return true;
			dir += len + (dir[len] == ':');
		}
	}
	return false;
}

void check_virtiofsd(const char *root, struct check *c)
{
	const char *named = *root ? NULL : getenv("RINGLET_VIRTIOFSD");
	char path[4096], helper[4096];
	bool in_c;

	if (named && *named)
		snprintf(path, sizeof(path), "%s", named);
	if (named && *named ? !is_program(root, path) : !find_program(root, "virtiofsd", path, sizeof(path))) {
		check_set(c, CHECK_MISSING, "there is none: --root DIR and --share do not work; the rest does");
		check_mend(c, "sudo apt-get install virtiofsd || sudo apt-get install qemu-system-common");
		return;
	}
	/* QEMU 7.2 and before brought one of their own, in C. */
	in_c = strstr(path, "/qemu/") != NULL;
	if (in_c && geteuid()) {
		check_set(c, CHECK_NOTE, "%s is the one in C: it serves directories for root only", path);
		check_mend(c,
			   "run ringlet with sudo, or install the package virtiofsd (Debian 13, Ubuntu 24.04)");
	} else if (in_c || !geteuid()) {
		check_set(c, CHECK_OK, "%s, the one in %s, run as root", path, in_c ? "C" : "Rust");
	} else if (!find_program(root, "newuidmap", helper, sizeof(helper))) {
		check_set(c, CHECK_NOTE, "%s needs no root; without newuidmap every file is yours in the guest",
			  path);
		check_mend(c, "sudo apt-get install uidmap");
	} else {
		check_set(c, CHECK_OK, "%s, the one in Rust, needs no root; newuidmap is there", path);
	}
}

void check_user_namespaces(const char *root, struct check *c)
{
	uint64_t n;

	if (doctor_read_u64(root, "/proc/sys/user/max_user_namespaces", &n) && !n) {
		check_set(c, CHECK_NOTE, "user.max_user_namespaces is 0: nobody gets one");
		check_mend(c, "sudo sysctl user.max_user_namespaces=10000");
	} else if (doctor_read_u64(root, "/proc/sys/kernel/unprivileged_userns_clone", &n) && !n) {
		check_set(c, CHECK_NOTE, "kernel.unprivileged_userns_clone is 0: only root gets one");
		check_mend(c, "sudo sysctl kernel.unprivileged_userns_clone=1");
	} else if (doctor_read_u64(root, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", &n) && n) {
		check_set(c, CHECK_NOTE,
			  "AppArmor keeps programs it does not know from using one (Ubuntu 24.04): virtiofsd "
			  "may fail for others than root");
		check_mend(c, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0");
	} else if (!doctor_exists(root, "/proc/self/ns/user")) {
		check_set(c, CHECK_NOTE, "this kernel has none");
	} else {
		check_set(c, CHECK_OK, "anybody may have one");
	}
}

void check_clock(const char *root, struct check *c)
{
	static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char name[64];

	if (doctor_read(root, path, name, sizeof(name)) <= 0)
		check_set(c, CHECK_NOTE, "which one the kernel uses cannot be read");
	else if (!strcmp(name, "tsc") || !strcmp(name, "kvm-clock") || strstr(name, "hyperv"))
		check_set(c, CHECK_OK, "%s", name);
	else
		check_set(c, CHECK_NOTE, "%s: slow to read, and guests may lose theirs", name);
}

/* --- what mends it where --- */

static const char *const github[] = {
	"GitHub Actions: a step before those that run guests:",
	"",
	"    - name: Allow KVM",
	"      run: |",
	"        echo 'KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\", OPTIONS+=\"static_node=kvm\"' |",
	"          sudo tee /etc/udev/rules.d/99-kvm4all.rules",
	"        sudo udevadm control --reload-rules",
	"        sudo udevadm trigger --name-match=kvm",
	"",
	NULL,
};

static const char *const github_absent[] = {
	"GitHub Actions: this runner has no /dev/kvm.  Hosted ones of Linux on x86-64 do (runs-on: "
	"ubuntu-24.04),",
	"those of macOS, Windows and arm64 do not; in a container job it has to be handed in:",
	"",
	"    container:",
	"      image: debian:12",
	"      options: --device /dev/kvm",
	"",
	NULL,
};

static const char *const gitlab[] = {
	"GitLab CI: the runner's config.toml, on a host that has /dev/kvm; then restart gitlab-runner:",
	"",
	"    [runners.docker]",
	"      privileged = true",
	"      devices = [\"/dev/kvm\"]",
	"",
	NULL,
};

static const char *const elsewhere[] = {
	"Elsewhere: docker run --device /dev/kvm ..., podman run --device /dev/kvm --group-add keep-groups "
	"...,",
	"or a virtual machine whose host allows nested virtualisation (/sys/module/kvm_*/parameters/nested is "
	"Y).",
	"",
	NULL,
};

static const char *const slow[] = {
	"KVM opens here and a guest's kernel is emulated all the same: the machine under this one gives it no",
	"hardware virtualisation.  A Linux kernel takes minutes there, or is not seen to boot.  Take a runner "
	"that",
	"has it; nothing here can mend that.",
	NULL,
};

static const char *const nothing_else[] = {
	"Without KVM nothing is run: \"ringlet run\" ends with status 125, and never emulates.",
	NULL,
};

const char *doctor_ci_service(void)
{
	const char *names[][2] = {{"GITHUB_ACTIONS", "github"}, {"GITLAB_CI", "gitlab"}};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i][0]);

		if (value && *value)
			return names[i][1];
	}
	return "none";
}

const char *doctor_ci_mend(enum doctor_ci_kvm kvm, unsigned *state)
{
	const char *service = doctor_ci_service();
	const bool for_github = strcmp(service, "gitlab") != 0, for_gitlab = strcmp(service, "github") != 0;
	const char *const *const lists[] = {
		kvm == CI_KVM_SLOW ? slow : NULL,
		kvm == CI_KVM_ABSENT && for_github ? github_absent : NULL,
		kvm != CI_KVM_SLOW && for_github ? github : NULL,
		kvm != CI_KVM_SLOW && for_gitlab ? gitlab : NULL,
		kvm != CI_KVM_SLOW && for_github && for_gitlab ? elsewhere : NULL,
		kvm != CI_KVM_SLOW ? nothing_else : NULL,
	};
	unsigned at = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (const char *const *line = lists[i]; line && *line; line++) {
			if (!at--) {
				++*state;
				return *line;
			}
		}
	}
	return NULL;
}
