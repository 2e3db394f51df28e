#include "vmm/modules_wanted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/log.h"

#define MAX_WISHES 32

struct wish {
	const char *module; /* NULL: never one */
	const char *option; /* of the kernel's configuration */
	const char *why;    /* what was asked for and does not work without; NULL: nice to have */
};

struct wishes {
	const struct run_config *cfg;
	unsigned n;
	struct wish wish[MAX_WISHES];
};

static void wish(struct wishes *w, const char *module, const char *option, const char *why)
{
	if (w->n < MAX_WISHES)
		w->wish[w->n++] = (struct wish){module, option, why};
}

/* Whose initrd it is may have drivers in it. */
static const char *needed(const struct wishes *w, const char *why)
{
	return w->cfg->initrd ? NULL : why;
}

struct transports {
	bool pci, mmio;
};

static void note(struct transports *t, bool on, const struct virtio_config *c)
{
	t->pci |= on && c->transport == TRANSPORT_PCI;
	t->mmio |= on && c->transport == TRANSPORT_MMIO;
}

static struct transports transports_of(const struct devices_config *dev)
{
	struct transports t = {0};

	for (unsigned i = 0; i < dev->nnet; i++)
		note(&t, true, &dev->net[i].virtio);
	for (unsigned i = 0; i < dev->ndisk; i++)
		note(&t, true, &dev->disk[i].virtio);
	for (unsigned i = 0; i < dev->ngeneric; i++)
		note(&t, true, &dev->generic[i].virtio);
	note(&t, dev->rng.on, &dev->rng.virtio);
	note(&t, dev->balloon.on, &dev->balloon.virtio);
	note(&t, dev->console.on, &dev->console.virtio);
	return t;
}

static const char *option_of(const char *fstype)
{
	static const char *const options[][2] = {{"ext4", "EXT4_FS"},
						 {"xfs", "XFS_FS"},
						 {"btrfs", "BTRFS_FS"},
						 {"squashfs", "SQUASHFS"},
						 {"erofs", "EROFS_FS"}};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(options[i][0], fstype))
			return options[i][1];
	return "BLOCK";
}

static void wish_root(struct wishes *w, const struct root_source *root, const char *why)
{
	const struct guest_config *guest = &w->cfg->guest;
	const bool mmio = w->cfg->dev.transport == TRANSPORT_MMIO;

	if (root->kind == ROOT_NONE && !guest->nshare)
		return;
	wish(w, mmio ? "virtio_mmio" : "virtio_pci", mmio ? "VIRTIO_MMIO" : "VIRTIO_PCI", needed(w, why));
	if (root->kind == ROOT_DIR || guest->nshare)
		wish(w, "virtiofs", "VIRTIO_FS", needed(w, why));
	if (root->kind == ROOT_IMAGE) {
		wish(w, "virtio_blk", "VIRTIO_BLK", needed(w, why));
		wish(w, root->fstype, option_of(root->fstype), needed(w, why));
	}
	if (root->kind != ROOT_NONE && !guest->root.writable)
		wish(w, "overlay", "OVERLAY_FS", needed(w, why));
}

static void wish_devices(struct wishes *w)
{
	const struct devices_config *dev = &w->cfg->dev;
	const struct transports t = transports_of(dev);
	bool has[GENERIC_VHOST_USER + 1] = {false};

	if (t.pci)
		wish(w, "virtio_pci", "VIRTIO_PCI", NULL);
	if (t.mmio)
		wish(w, "virtio_mmio", "VIRTIO_MMIO", NULL);
	if (dev->nnet)
		wish(w, "virtio_net", "VIRTIO_NET", NULL);
	if (dev->ndisk)
		wish(w, "virtio_blk", "VIRTIO_BLK", NULL);
	if (dev->console.on)
		wish(w, "virtio_console", "VIRTIO_CONSOLE", NULL);
	if (dev->rng.on)
		wish(w, "virtio_rng", "HW_RANDOM_VIRTIO", NULL);
	if (dev->balloon.on)
		wish(w, "virtio_balloon", "VIRTIO_BALLOON", NULL);
	if (w->cfg->argv || w->cfg->guest.root.source) { /* what our init talks over */
		wish(w, dev->transport == TRANSPORT_MMIO ? "virtio_mmio" : "virtio_pci",
		     dev->transport == TRANSPORT_MMIO ? "VIRTIO_MMIO" : "VIRTIO_PCI", NULL);
		wish(w, "virtio_console", "VIRTIO_CONSOLE", NULL);
	}
	for (unsigned i = 0; i < dev->ngeneric; i++)
		has[dev->generic[i].kind] = true;
	if (has[GENERIC_VSOCK])
		wish(w, "vmw_vsock_virtio_transport", "VIRTIO_VSOCKETS", NULL);
	if (has[GENERIC_SCSI]) {
		wish(w, "virtio_scsi", "SCSI_VIRTIO", NULL);
		wish(w, "sd_mod", "BLK_DEV_SD", NULL);
	}
	if (has[GENERIC_FS])
		wish(w, "virtiofs", "VIRTIO_FS", NULL);
}

/* 'y': there; 'm': it would be a module, which is not there; 'n': this kernel has none; '?': nobody knows. */
static char state_of(struct modules *m, struct kernel_tree *kernel, const struct wish *w, struct err *e)
{
	const char option = kernel_tree_option(kernel, w->option);
	int rc = w->module && m->dir[0] ? modules_want(m, w->module, e) : -ENOENT;

	if (!rc)
		return 'y';
	if (rc != -ENOENT)
		return 'e';
	if (option != '?')
		return option;
	return w->module && m->dir[0] && m->knows_builtin ? 'n' : '?';
}

static int refuse_unbuilt(const struct modules *m, const struct kernel_tree *kernel, const char *why,
			  const char *options, struct err *e)
{
	const char *release = kernel->release[0] ? kernel->release : "this kernel";

	if (kernel->dir[0])
		return err_set(
			e, -ENOTSUP,
			"%s does not work with kernel %s: it was built without%s (says %s)\n"
			"Build it with: cd %s && scripts/config%s && make olddefconfig && make -j$(nproc)",
			why, release, options, kernel->config, kernel->dir, options);
	return err_set(e, -ENOTSUP,
		       "%s does not work with kernel %s: it was built without%s (says %s)\nTake another "
		       "kernel with -k, or build one with these",
		       why, release, options, kernel->config[0] ? kernel->config : m->dir);
}

static int refuse_missing(const struct modules *m, const struct kernel_tree *kernel, const char *why,
			  const char *modules, struct err *e)
{
	const char *release = kernel->release[0] ? kernel->release : "(its version is not known)";

	if (kernel->dir[0])
		return err_set(
			e, -ENOENT,
			"%s needs modules of kernel %s that are not there:%s; %s has none built\n"
			"Build them: make -C %s modules; or into the kernel: scripts/config -e OPTION && make",
			why, release, modules, kernel->dir, kernel->dir);
	return err_set(e, -ENOENT,
		       "%s needs modules of kernel %s that are not there:%s%s%s\n"
		       "Say where they are: --modules DIR; or install them: apt install linux-image-%s; or "
		       "build the kernel "
		       "with CONFIG_VIRTIO_PCI=y CONFIG_FUSE_FS=y CONFIG_VIRTIO_FS=y CONFIG_OVERLAY_FS=y",
		       why, release, modules,
		       m->dir[0]      ? "; there is only "
		       : m->looked[0] ? "; looked in "
				      : "",
		       m->dir[0] ? m->dir : m->looked, release);
}

static void add_word(char *words, size_t size, const char *before, const char *word, const char *behind)
{
	size_t used = strlen(words);

	snprintf(words + used, size - used, "%s%s%s", before, word, behind);
}

int modules_choose(struct modules *m, struct kernel_tree *kernel, const struct run_config *cfg,
		   const struct root_source *root, struct err *e)
{
	const char *why = root->kind != ROOT_NONE ? "--root" : "--share";
	struct wishes w = {.cfg = cfg};
	char unbuilt[512] = "", missing[512] = "";

	wish_root(&w, root, why);
	wish_devices(&w);
	wish(&w, "pvpanic_mmio", "PVPANIC_MMIO", NULL);
	wish(&w, "button", "ACPI_BUTTON", NULL);
	wish(&w, "evdev", "INPUT_EVDEV", NULL);
	for (unsigned i = 0; i < w.n; i++) {
		struct err own = {0};
		char state = state_of(m, kernel, &w.wish[i], &own);

		if (state == 'e' && w.wish[i].why) {
			*e = own;
			return own.code;
		}
		if (state == 'e')
			log_warn("%s", own.text);
		if (!w.wish[i].why)
			continue;
		if (state == 'n')
			add_word(unbuilt, sizeof(unbuilt), kernel->dir[0] ? " -e " : " CONFIG_",
				 w.wish[i].option, kernel->dir[0] ? "" : "=y");
		else if (state == 'm')
			add_word(missing, sizeof(missing), " ", w.wish[i].module, "");
	}
	if (unbuilt[0])
		return refuse_unbuilt(m, kernel, why, unbuilt, e);
	return missing[0] ? refuse_missing(m, kernel, why, missing, e) : 0;
}

int modules_pack(const struct modules *m, struct cpio *c, struct err *e)
{
	CLEANUP_FREE char *order = NULL;
	size_t size = 1 + m->norder * 128, used = 0, bytes = 0;

	if (!m->norder)
		return 0;
	order = calloc(1, size);
	if (!order)
		return err_set(e, -ENOMEM, "out of memory");
	cpio_dir(c, "ringlet/modules", 0755);
	for (size_t i = 0; i < m->norder; i++) {
		char name[72], path[96];
		size_t len;
		CLEANUP_FREE uint8_t *data = modules_load(m, i, name, sizeof(name), &len, e);

		if (!data)
			return e->code;
		snprintf(path, sizeof(path), "ringlet/modules/%s", name);
		cpio_file(c, path, 0644, data, len);
		used += (size_t)snprintf(order + used, size - used, "/%s\n", path);
		bytes += len;
	}
	cpio_file(c, "ringlet/modules/order", 0644, order, used);
	log_info("modules from %s: %zu, %zu KiB unpacked", m->dir, m->norder, bytes >> 10);
	return 0;
}
