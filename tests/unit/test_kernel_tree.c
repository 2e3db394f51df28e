/* Which file of a directory is the kernel, and what is known of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/module_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/kernel_tree.h"

static struct kernel_tree t;
static struct err e;

static void setup(void)
{
	rig_make();
}

static void teardown(void)
{
	kernel_tree_free(&t);
	rig_remove();
}

TestSuite(kernel_tree, .init = setup, .fini = teardown_once, .timeout = 30);

static void tree(void)
{
	rig_file("include/config/kernel.release", "6.13.0-rc1+\n");
	rig_file(".config",
		 "# x\nCONFIG_X86=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_FUSE_FS=m\n# CONFIG_VIRTIO_FS is not set\n");
}

static void expect_image(const char *given, const char *image)
{
	kernel_tree_free(&t);
	cr_expect_eq(kernel_tree_find(&t, given, &e), 0, "%s", e.text);
	cr_expect_str_eq(t.image, rig_path(image));
}

WholeTest(kernel_tree, a_build_tree)
{
	tree();
	rig_file("arch/x86/boot/bzImage", "x");
	expect_image(rig_dir, "arch/x86/boot/bzImage");
	cr_expect_str_eq(t.release, "6.13.0-rc1+");
	cr_expect_str_eq(t.dir, rig_dir);
	rig_file("vmlinux", "x");
	expect_image(rig_path(""), "vmlinux"); /* needs no unpacking */
	rig_run("touch -d '3 hours ago' vmlinux");
	expect_image(rig_dir, "arch/x86/boot/bzImage");
}

WholeTest(kernel_tree, its_options)
{
	tree();
	rig_file("vmlinux", "x");
	expect_image(rig_dir, "vmlinux");
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO_PCI"), 'y');
	cr_expect_eq(kernel_tree_option(&t, "FUSE_FS"), 'm');
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO_FS"), 'n');
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO"), 'n');
}

WholeTest(kernel_tree, a_file_in_a_tree_is_of_the_tree)
{
	tree();
	rig_file("arch/x86/boot/bzImage", "x");
	expect_image(rig_path("arch/x86/boot/bzImage"), "arch/x86/boot/bzImage");
	cr_expect_str_eq(t.dir, rig_dir);
	cr_expect_str_eq(t.release, "6.13.0-rc1+");
}

WholeTest(kernel_tree, a_file_in_boot_has_a_configuration_beside_it)
{
	rig_file("vmlinuz-6.1-x", "x");
	rig_file("config-6.1-x", "CONFIG_X86=y\nCONFIG_VIRTIO_FS=m\n");
	expect_image(rig_path("vmlinuz-6.1-x"), "vmlinuz-6.1-x");
	cr_expect_str_eq(t.release, "6.1-x");
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO_FS"), 'm');
}

WholeTest(kernel_tree, a_kernel_with_its_configuration)
{
	rig_file("vmlinux", "x");
	rig_file("config", "CONFIG_X86=y\nCONFIG_VIRTIO_FS=y\n");
	expect_image(rig_dir, "vmlinux");
	cr_expect_eq(t.dir[0], '\0');
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO_FS"), 'y');
}

WholeTest(kernel_tree, nothing_beside_nothing_known)
{
	rig_file("bzImage", "x");
	expect_image(rig_path("bzImage"), "bzImage");
	cr_expect_eq(t.dir[0], '\0');
	cr_expect_eq(t.release[0], '\0');
	cr_expect_eq(kernel_tree_option(&t, "VIRTIO_FS"), '?');
	kernel_tree_set_release(&t, "6.1.0 (me@here) #1");
	cr_expect_str_eq(t.release, "6.1.0");
	kernel_tree_set_release(&t, "7.0");
	cr_expect_str_eq(t.release, "6.1.0");
}

/* It becomes part of a path. */
WholeTest(kernel_tree, a_release_is_no_path)
{
	kernel_tree_set_release(&t, "../../etc");
	cr_expect_eq(t.release[0], '\0');
}

WholeTest(kernel_tree, a_tree_that_is_not_built)
{
	cr_expect_eq(kernel_tree_find(&t, rig_dir, &e), -ENOENT);
	cr_expect(strstr(e.text, "no kernel's"), "%s", e.text);
	tree();
	cr_expect_eq(kernel_tree_find(&t, rig_dir, &e), -ENOENT);
	cr_expect(strstr(e.text, "make -C"), "%s", e.text);
	cr_expect_eq(kernel_tree_find(&t, "", &e), -ENOENT);
}
