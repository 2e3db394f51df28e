/* What a run's guest needs, and what is said where its kernel lacks it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/module_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/modules_wanted.h"

static struct kernel_tree kernel;
static struct modules m;
static struct err e;
static struct run_config cfg;
static struct root_source root;

#define BESIDE "lib/modules/6.1-test/"

static void setup(void)
{
	static char *argv[] = {(char *)(uintptr_t) "true", NULL};

	rig_make();
	kernel = (struct kernel_tree){.release = "6.1-test"};
	snprintf(kernel.image, sizeof(kernel.image), "%s/vmlinuz", rig_dir);
	rig_file("vmlinuz", "kernel");
	cfg = (struct run_config){.mem.share = true, .argv = argv, .argc = 1};
	cfg.guest.root.source = "/";
	root = (struct root_source){.kind = ROOT_DIR};
}

static void teardown(void)
{
	modules_close(&m);
	kernel_tree_free(&kernel);
	rig_remove();
}

TestSuite(modules_wanted, .init = setup, .fini = teardown_once, .timeout = 30);

static int choose(void)
{
	e = (struct err){0};
	cr_assert_eq(modules_open(&m, &kernel, NULL, &e), 0, "%s", e.text);
	return modules_choose(&m, &kernel, &cfg, &root, &e);
}

static void config(const char *text)
{
	rig_file("config", text);
	snprintf(kernel.config, sizeof(kernel.config), "%s", rig_path("config"));
}

static void whole_set(void)
{
	rig_file(BESIDE "modules.dep",
		 "virtio_pci.ko:\nvirtiofs.ko: fuse.ko\nfuse.ko:\noverlay.ko:\nvirtio_blk.ko:\next4.ko:\n"
		 "virtio_net.ko:\n");
	rig_file(BESIDE "modules.builtin", "kernel/none.ko\n");
}

WholeTest(modules_wanted, a_directory_takes_virtiofs_and_an_overlay)
{
	whole_set();
	cr_expect_eq(choose(), 0, "%s", e.text);
	cr_expect_eq(m.norder, 4); /* virtio_pci fuse virtiofs overlay */
}

WholeTest(modules_wanted, a_writable_one_takes_no_overlay)
{
	whole_set();
	cfg.guest.root.writable = true;
	cr_expect_eq(choose(), 0, "%s", e.text);
	cr_expect_eq(m.norder, 3);
}

WholeTest(modules_wanted, an_image_takes_its_file_system)
{
	whole_set();
	root = (struct root_source){.kind = ROOT_IMAGE, .fstype = "ext4"};
	cr_expect_eq(choose(), 0, "%s", e.text);
	cr_expect_eq(m.norder, 4); /* virtio_pci virtio_blk ext4 overlay */
	modules_close(&m);
	root.fstype = "xfs";
	cr_expect_eq(choose(), -ENOTSUP);
	cr_expect(strstr(e.text, "CONFIG_XFS_FS=y") && strstr(e.text, "6.1-test"), "%s", e.text);
}

WholeTest(modules_wanted, what_nobody_has_is_said_before_the_guest_starts)
{
	rig_file(BESIDE "modules.dep", "virtio_pci.ko:\n");
	rig_file(BESIDE "modules.builtin", "kernel/none.ko\n");
	cr_expect_eq(choose(), -ENOTSUP);
	cr_expect(strstr(e.text, "--root") && strstr(e.text, "CONFIG_VIRTIO_FS=y") &&
			  strstr(e.text, "CONFIG_OVERLAY_FS=y") && !strstr(e.text, "VIRTIO_PCI"),
		  "%s", e.text);
}

WholeTest(modules_wanted, modules_that_are_not_there)
{
	config("CONFIG_X86=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_FS=m\nCONFIG_OVERLAY_FS=m\n");
	cr_expect_eq(choose(), -ENOENT);
	cr_expect(strstr(e.text, "virtiofs overlay") && strstr(e.text, "--modules DIR") &&
			  strstr(e.text, "apt install linux-image-6.1-test") &&
			  strstr(e.text, "lib/modules/6.1-test"),
		  "%s", e.text);
}

WholeTest(modules_wanted, of_a_build_tree_its_options_are_named)
{
	config("CONFIG_X86=y\nCONFIG_VIRTIO_PCI=y\n# CONFIG_VIRTIO_FS is not set\nCONFIG_OVERLAY_FS=y\n");
	strcpy(kernel.dir, rig_dir);
	cr_expect_eq(choose(), -ENOTSUP);
	cr_expect(strstr(e.text, "scripts/config -e VIRTIO_FS &&"), "%s", e.text);
}

WholeTest(modules_wanted, where_nothing_is_known_the_guest_will_say)
{
	cr_expect_eq(choose(), 0, "%s", e.text);
	cr_expect_eq(m.norder, 0);
}

/* Whose initrd it is may bring what is missing. */
WholeTest(modules_wanted, with_an_initrd_nothing_is_refused)
{
	rig_file(BESIDE "modules.dep", "virtio_pci.ko:\n");
	rig_file(BESIDE "modules.builtin", "kernel/none.ko\n");
	cfg.initrd = "initrd";
	cr_expect_eq(choose(), 0, "%s", e.text);
	cr_expect_eq(m.norder, 1);
}

WholeTest(modules_wanted, an_archive_with_their_order)
{
	struct cpio c = {0};

	whole_set();
	for (unsigned i = 0; i < 7; i++) {
		char file[64];

		snprintf(file, sizeof(file), BESIDE "%s.ko",
			 (const char *[]){"virtio_pci", "virtiofs", "fuse", "overlay", "virtio_blk", "ext4",
					  "virtio_net"}[i]);
		rig_file(file, "\177ELF");
	}
	cr_assert_eq(choose(), 0, "%s", e.text);
	cpio_dir(&c, "ringlet", 0755);
	cr_assert_eq(modules_pack(&m, &c, &e), 0, "%s", e.text);
	cr_assert_eq(cpio_end(&c), 0);
	rig_bytes("archive", c.data, c.len);
	rig_run("mkdir out && cd out && cpio -idm --quiet <../archive && "
		"[ \"$(cat ringlet/modules/order)\" = \"$(printf '/ringlet/modules/%%s.ko\\n' virtio_pci fuse "
		"virtiofs overlay)\" ] "
		"&& cmp ringlet/modules/fuse.ko ../" BESIDE "fuse.ko");
	cpio_fini(&c);
}
