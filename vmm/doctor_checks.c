#include "vmm/doctor_checks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/kvm/api.h"
#include "vmm/kvm/speed.h"

/* What has to be done before /dev/kvm is there at all. */
static void mend_missing_kvm(const char *root, struct check *c)
{
	if (doctor_has_cpu_flag(root, "vmx"))
		check_mend(c, "sudo modprobe kvm_intel");
	else if (doctor_has_cpu_flag(root, "svm"))
		check_mend(c, "sudo modprobe kvm_amd");
}

static const char *missing_kvm_reason(const char *root)
{
	if (doctor_has_cpu_flag(root, "vmx") || doctor_has_cpu_flag(root, "svm"))
		return "the module is not loaded";
	if (doctor_has_cpu_flag(root, "hypervisor"))
		return "this is a virtual machine whose CPU shows neither vmx nor svm; its host "
		       "must allow nested virtualisation";
	return "the CPU shows neither vmx nor svm; the firmware may have them switched off";
}

static void mend_permission(const char *path, struct check *c)
{
	struct stat st;
	const struct group *group;

	if (stat(path, &st) < 0)
		return;
	group = getgrgid(st.st_gid);
	/* A group that may not open it, or root's own, is no way in. */
	if ((st.st_mode & 060) != 060 || !st.st_gid || !group)
		check_mend(c, "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm && "
			      "sudo adduser $USER kvm  # and log in again");
	else
		check_mend(c, "sudo adduser $USER %s  # and log in again", group->gr_name);
	if (group)
		check_set(c, CHECK_MISSING, "no permission to open /dev/kvm (group %s, mode %03o)",
			  group->gr_name, (unsigned)(st.st_mode & 0777));
}

void check_kvm_device(const char *root, struct check *c)
{
	int r = doctor_try_device(root, "/dev/kvm");
	char path[4096];

	switch (r) {
	case 0:
		check_set(c, CHECK_OK, "/dev/kvm opens");
		break;
	case -EACCES:
		check_set(c, CHECK_MISSING, "no permission to open /dev/kvm");
		snprintf(path, sizeof(path), "%s/dev/kvm", root);
		mend_permission(path, c);
		break;
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		check_set(c, CHECK_MISSING, "no /dev/kvm: %s", missing_kvm_reason(root));
		mend_missing_kvm(root, c);
		break;
	default:
		check_set(c, CHECK_MISSING, "/dev/kvm does not open: %s%s", strerror(-r),
			  r == -EPERM ? " (a container's device rules?)" : "");
		break;
	}
}

void check_kvm_api(const char *root, struct check *c)
{
	CLEANUP_FD int fd = -1;
	struct kvm_api api;
	char path[4096];
	int rc;

	check_kvm_device(root, c);
	if (c->status != CHECK_OK) {
		check_set(c, CHECK_MISSING, "not asked: /dev/kvm does not open");
		c->mend[0] = '\0';
		return;
	}
	snprintf(path, sizeof(path), "%s/dev/kvm", root);
	fd = open(path, O_RDWR | O_CLOEXEC);
	rc = fd < 0 ? -errno : kvm_api_probe(fd, &api);
	if (rc)
		check_set(c, CHECK_MISSING, "%s does not answer KVM_GET_API_VERSION: %s", path, strerror(-rc));
	else if (api.version != api.expected)
		check_set(c, CHECK_MISSING, "KVM speaks API version %d, not %d", api.version, api.expected);
	else if (api.missing[0])
		check_set(c, CHECK_MISSING, "this KVM lacks: %s", api.missing);
	else
		check_set(c, CHECK_OK, "version %d with all that is needed", api.version);
}

/* "2.4 M" */
static void format_rate(double rate, char *buf, size_t len)
{
	if (rate < 1e6)
		snprintf(buf, len, "%.2f M", rate / 1e6);
	else if (rate < 100e6)
		snprintf(buf, len, "%.1f M", rate / 1e6);
	else
		snprintf(buf, len, "%.0f M", rate / 1e6);
}

/* Stands for all of KVM: whoever asks only this must hear why a guest cannot run. */
void check_kvm(const char *root, struct check *c)
{
	struct kvm_speed speed;
	char rate[32];
	struct err e;

	check_kvm_device(root, c);
	if (c->status == CHECK_OK)
		check_kvm_api(root, c);
	if (c->status != CHECK_OK)
		return;
	if (kvm_speed_measure(&speed, &e) < 0) {
		check_set(c, CHECK_MISSING, "KVM opens here but runs no guest: %s", e.text);
		return;
	}
	format_rate(speed.per_second, rate, sizeof(rate));
	if (speed.per_second < KVM_SPEED_MIN)
		check_set(c, CHECK_SLOW,
			  "KVM opens here but emulates guest ring 0 at %s "
			  "instructions/s; a guest kernel cannot run at speed",
			  rate);
	else
		check_set(c, CHECK_OK, "guest ring 0 runs at %s instructions/s", rate);
}

void check_kvm_nested(const char *root, struct check *c)
{
	static const char *const modules[] = {"kvm_intel", "kvm_amd"};
	bool in_vm = doctor_has_cpu_flag(root, "hypervisor");
	char path[128], value[8];

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/nested", modules[i]);
		if (doctor_read(root, path, value, sizeof(value)) <= 0)
			continue;
		if (*value == 'Y' || *value == 'y' || *value == '1')
			check_set(c, in_vm ? CHECK_NOTE : CHECK_OK, "%s lets guests use KVM%s", modules[i],
				  in_vm ? "; this host is a virtual machine itself: "
					  "leaving a guest costs several times more"
					: "");
		else
			check_set(c, CHECK_NOTE, "%s does not let guests use KVM themselves", modules[i]);
		return;
	}
	check_set(c, CHECK_NOTE, "%sneither kvm_intel nor kvm_amd is loaded%s",
		  in_vm ? "this host is a virtual machine; " : "",
		  doctor_exists(root, "/sys/module/kvm_pvm")
			  ? ", but kvm_pvm, which needs no hardware for virtual machines"
			  : "");
}

/* A device file that one module makes. */
static void check_device(const char *root, struct check *c, const char *path, const char *module,
			 const char *what_for)
{
	int r = doctor_try_device(root, path);

	if (r == 0) {
		check_set(c, CHECK_OK, "%s opens", path);
	} else if (r == -ENOENT || r == -ENXIO || r == -ENODEV) {
		check_set(c, CHECK_MISSING, "no %s; %s", path, what_for);
		check_mend(c, "sudo modprobe %s", module);
	} else {
		check_set(c, CHECK_MISSING, "%s does not open: %s", path, strerror(-r));
		if (r == -EACCES)
			check_mend(c, "sudo setfacl -m u:$USER:rw %s", path);
	}
}

void check_tun(const char *root, struct check *c)
{
	check_device(root, c, "/dev/net/tun", "tun", "needed for tap network cards");
}

void check_vhost_net(const char *root, struct check *c)
{
	check_device(root, c, "/dev/vhost-net", "vhost_net", "tap network cards run without it, slower");
}

void check_vhost_vsock(const char *root, struct check *c)
{
	check_device(root, c, "/dev/vhost-vsock", "vhost_vsock", "needed for vsock");
}

void check_vhost_scsi(const char *root, struct check *c)
{
	check_device(root, c, "/dev/vhost-scsi", "vhost_scsi", "needed for SCSI through the kernel");
}

void check_vduse(const char *root, struct check *c)
{
	check_device(root, c, "/dev/vduse/control", "vduse", "needed for vDPA devices in user space");
}

/* Not opened: that resets the device, and keeps its owner out meanwhile. */
void check_vhost_vdpa(const char *root, struct check *c)
{
	char path[4096], usable[256] = "", refused[256] = "";
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/dev", root);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		char *list = refused;
		size_t len;

		if (strncmp(d->d_name, "vhost-vdpa-", 11) != 0)
			continue;
		if (faccessat(dirfd(dir), d->d_name, R_OK | W_OK, AT_EACCESS) == 0)
			list = usable;
		len = strlen(list);
		snprintf(list + len, sizeof(usable) - len, " /dev/%.32s", d->d_name);
	}
	if (dir)
		closedir(dir);
	if (usable[0]) {
		check_set(c, CHECK_OK, "there is%s", usable);
	} else if (refused[0]) {
		check_set(c, CHECK_MISSING, "no permission for%s", refused);
		check_mend(c, "sudo setfacl -m u:$USER:rw%s", refused);
	} else {
		check_set(c, CHECK_MISSING, "no /dev/vhost-vdpa-*; needed for vDPA devices");
		check_mend(c, "sudo modprobe vhost_vdpa && vdpa mgmtdev show");
	}
}
