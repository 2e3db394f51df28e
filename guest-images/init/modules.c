// SPDX-License-Identifier: MIT
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OUR_LIST    "/ringlet/modules/order" /* what this run needs: vmm/modules_wanted.c */
#define MODULE_LIST "/lib/modules/ringlet.order"
#define VIRTIO_LIST "/lib/modules/ringlet.virtio" /* loaded where there is a virtio device */

/* The lists overlap, and the kernel reads a whole file before it says that it knows it. */
static bool is_loaded(const char *path)
{
	const char *name = strrchr(path, '/');
	char dir[128] = "/sys/module/";
	size_t at = strlen(dir);

	for (name = name ? name + 1 : path; *name && *name != '.' && at < sizeof(dir) - 1; name++)
		dir[at++] = *name == '-' ? '_' : *name;
	dir[at] = '\0';
	return access(dir, F_OK) == 0;
}

static void load_module(const char *path)
{
	int fd;

	if (is_loaded(path))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	/* EEXIST: built in or loaded already. ENODEV: this machine has no such device. */
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV)
		complain("cannot load %s: %s", path, strerror(errno));
	close(fd);
}

static void load_modules(const char *list_path)
{
	size_t len;
	char *list = read_whole(list_path, &len);
	char *save = NULL;

	if (!list)
		return;
	for (char *path = strtok_r(list, "\n", &save); path; path = strtok_r(NULL, "\n", &save))
		load_module(path);
}

/* By PCI's vendor, or by the name that ACPI has for virtio-mmio. */
static bool has_virtio(void)
{
	struct dirent *entry;
	bool found = access("/sys/bus/acpi/devices/LNRO0005:00", F_OK) == 0;
	DIR *dir = opendir("/sys/bus/pci/devices");

	while (!found && dir && (entry = readdir(dir))) {
		char path[320], vendor[8] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = read(fd, vendor, sizeof(vendor) - 1) > 0 && strncmp(vendor, "0x1af4", 6) == 0;
		close(fd);
	}
	if (dir)
		closedir(dir);
	return found;
}

void modules_load(void)
{
	load_modules(OUR_LIST);
	load_modules(MODULE_LIST);
	if (has_virtio())
		load_modules(VIRTIO_LIST);
}
