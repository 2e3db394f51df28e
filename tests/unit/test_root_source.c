/* What --root and --share name: directories, images with and without partitions. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/module_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/root_source.h"

static struct run_config cfg;
static struct root_source r;
static struct err e;
static uint8_t image[1 << 20];

static void setup(void)
{
	rig_make();
	cfg = (struct run_config){.mem.share = true};
	memset(image, 0, sizeof(image));
}

static void teardown(void)
{
	rig_remove();
}

TestSuite(root_source, .init = setup, .fini = teardown_once, .timeout = 30);

static int look(const char *path)
{
	e = (struct err){0};
	cfg.guest.root.source = path;
	return root_source_look(&r, &cfg, &e);
}

static int look_at_image(void)
{
	rig_bytes("image", image, sizeof(image));
	return look(rig_path("image"));
}

static void put32(size_t at, uint32_t value)
{
	memcpy(image + at, &value, 4);
}

static void put64(size_t at, uint64_t value)
{
	memcpy(image + at, &value, 8);
}

static void mbr(unsigned number, uint8_t type, uint32_t start, uint32_t size)
{
	const size_t at = 446 + 16 * (number - 1);

	image[510] = 0x55;
	image[511] = 0xaa;
	image[at + 4] = type;
	put32(at + 8, start);
	put32(at + 12, size);
}

static void gpt(unsigned number, uint64_t first, uint64_t last)
{
	const size_t at = 1024 + 128 * (number - 1);

	mbr(1, 0xee, 1, 2000);
	memcpy(image + 512, "EFI PART", 8);
	put64(512 + 72, 2);
	put32(512 + 80, 128);
	put32(512 + 84, 128);
	memset(image + at, 0x42, 16);
	put64(at + 32, first);
	put64(at + 40, last);
}

static void ext4(uint32_t sector)
{
	memcpy(image + sector * 512 + 0x438, "\x53\xef", 2);
}

WholeTest(root_source, nothing_and_a_directory)
{
	cr_expect_eq(look(NULL), 0);
	cr_expect_eq(r.kind, ROOT_NONE);
	cr_expect_eq(look(rig_dir), 0);
	cr_expect_eq(r.kind, ROOT_DIR);
	cr_expect_eq(look("/dev/null"), -EINVAL);
	cr_expect_eq(look(rig_path("none")), -ENOENT);
}

WholeTest(root_source, a_whole_disk)
{
	static const struct {
		size_t at;
		const char *magic, *type;
	} all[] = {{0x438, "\x53\xef", "ext4"},
		   {0, "XFSB", "xfs"},
		   {0x10040, "_BHRfS_M", "btrfs"},
		   {0, "hsqs", "squashfs"},
		   {1024, "\xe2\xe1\xf5\xe0", "erofs"}};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		memset(image, 0, sizeof(image));
		memcpy(image + all[i].at, all[i].magic, strlen(all[i].magic));
		cr_expect_eq(look_at_image(), 0, "%s", e.text);
		cr_expect_str_eq(r.fstype, all[i].type);
		cr_expect_eq(r.partition, 0);
	}
}

WholeTest(root_source, the_largest_partition_with_a_file_system)
{
	mbr(1, 0x83, 100, 50);
	mbr(2, 0x83, 200, 300);
	mbr(4, 0x83, 600, 1000); /* nothing known in it */
	ext4(100);
	ext4(200);
	cr_expect_eq(look_at_image(), 0, "%s", e.text);
	cr_expect_eq(r.partition, 2);
	cr_expect_str_eq(r.fstype, "ext4");
}

WholeTest(root_source, a_gpt)
{
	gpt(1, 100, 110);
	gpt(15, 200, 900);
	ext4(200);
	cr_expect_eq(look_at_image(), 0, "%s", e.text);
	cr_expect_eq(r.partition, 15);
}

WholeTest(root_source, tables_that_lie)
{
	gpt(1, UINT64_MAX - 5, UINT64_MAX);
	gpt(2, 900, 100);
	gpt(3, UINT64_MAX / 512, UINT64_MAX / 512 + 10);
	cr_expect_eq(look_at_image(), -EINVAL);
	put64(512 + 72, UINT64_MAX);
	cr_expect_eq(look_at_image(), -EINVAL);
	put64(512 + 72, 2);
	put32(512 + 84, 1);
	cr_expect_eq(look_at_image(), -EINVAL);
	memset(image, 0, sizeof(image));
	mbr(1, 0x83, UINT32_MAX, UINT32_MAX);
	cr_expect_eq(look_at_image(), -EINVAL);
	cr_expect(strstr(e.text, "1 partition,"), "%s", e.text);
}

WholeTest(root_source, what_it_is_not)
{
	cr_expect_eq(look_at_image(), -EINVAL);
	cr_expect(strstr(e.text, "mkfs.ext4 -d"), "%s", e.text);
	memcpy(image, "QFI\xfb", 4);
	cr_expect_eq(look_at_image(), -EINVAL);
	cr_expect(strstr(e.text, "qemu-img convert"), "%s", e.text);
	rig_file("image", "");
	cr_expect_eq(look(rig_path("image")), -EINVAL);
}

WholeTest(root_source, shares)
{
	cfg.guest.nshare = 1;
	cfg.guest.share[0] = (struct share_config){.source = rig_dir, .path = "/mnt"};
	cr_expect_eq(look(NULL), 0, "%s", e.text);
	cfg.mem.share = false;
	cr_expect_eq(look(NULL), -EINVAL);
	cr_expect(strstr(e.text, "share=off"), "%s", e.text);
	cfg.mem.share = true;
	cfg.guest.share[0].path = "//";
	cr_expect_eq(look(NULL), -EINVAL);
	cfg.guest.share[0] = (struct share_config){.source = "/etc/passwd", .path = "/mnt"};
	cr_expect_eq(look(NULL), -ENOTDIR);
}
