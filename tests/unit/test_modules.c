/* Which modules are loaded, in which order, from which directory. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/module_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/modules.h"

static struct kernel_tree kernel;
static struct modules m;
static struct err e;

static void setup(void)
{
	rig_make();
	kernel = (struct kernel_tree){.release = "6.1-test"};
	snprintf(kernel.image, sizeof(kernel.image), "%s/vmlinuz", rig_dir);
	rig_file("vmlinuz", "kernel");
}

static void teardown(void)
{
	modules_close(&m);
	rig_remove();
}

TestSuite(modules, .init = setup, .fini = teardown_once, .timeout = 30);

#define BESIDE "lib/modules/6.1-test/"

static void open_beside(void)
{
	cr_assert_eq(modules_open(&m, &kernel, NULL, &e), 0, "%s", e.text);
}

/* The order as "a b c". */
static const char *order(void)
{
	static char text[512];

	text[0] = '\0';
	for (size_t i = 0; i < m.norder; i++) {
		char name[72];
		size_t len;
		uint8_t *data = modules_load(&m, i, name, sizeof(name), &len, &e);

		cr_assert(data, "%s", e.text);
		free(data);
		name[strlen(name) - 3] = '\0';
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", name);
	}
	return text;
}

static void module(const char *path)
{
	char name[128];

	snprintf(name, sizeof(name), BESIDE "%s", path);
	rig_file(name, "\177ELF module");
}

/* depmod lists what is to be loaded first last. */
WholeTest(modules, what_they_need_comes_first_and_once)
{
	rig_file(BESIDE "modules.dep", "k/top.ko: k/mid-dle.ko k/base.ko\nk/mid-dle.ko: k/base.ko\nk/base.ko:\n"
				       "k/other.ko: k/base.ko\nk/alone.ko:\n");
	for (unsigned i = 0; i < 5; i++)
		module((const char *[]){"k/top.ko", "k/mid-dle.ko", "k/base.ko", "k/other.ko",
					"k/alone.ko"}[i]);
	open_beside();
	cr_expect_eq(modules_want(&m, "top", &e), 0);
	cr_expect_eq(modules_want(&m, "mid_dle", &e), 0);
	cr_expect_eq(modules_want(&m, "other", &e), 0);
	cr_expect_eq(modules_want(&m, "top", &e), 0);
	cr_expect_str_eq(order(), "base mid_dle top other");
}

WholeTest(modules, a_circle_ends)
{
	rig_file(BESIDE "modules.dep", "a.ko: b.ko\nb.ko: c.ko\nc.ko: a.ko\n");
	module("a.ko");
	module("b.ko");
	module("c.ko");
	open_beside();
	cr_expect_eq(modules_want(&m, "a", &e), 0);
	cr_expect_str_eq(order(), "c b a");
}

WholeTest(modules, what_is_built_in_is_not_loaded)
{
	rig_file(BESIDE "modules.dep", "top.ko: virtio.ko\nvirtio.ko:\n");
	rig_file(BESIDE "modules.builtin", "kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko\n");
	module("top.ko");
	open_beside();
	cr_expect(m.knows_builtin);
	cr_expect_eq(modules_want(&m, "ext4", &e), 0);
	cr_expect_eq(modules_want(&m, "top", &e), 0);
	cr_expect_str_eq(order(), "top");
}

WholeTest(modules, soft_dependencies_by_name_and_by_alias)
{
	rig_file(BESIDE "modules.dep", "fs.ko:\ncrc_fast.ko:\nlater.ko:\nx-hash.ko:\n");
	rig_file(BESIDE "modules.softdep", "# header\nsoftdep fs pre: crypto-crc x-hash nobody post: later\n");
	rig_file(BESIDE "modules.alias", "# header\nalias crypto-crc crc_fast\nalias crypto-crc32 wrong\n");
	module("fs.ko");
	module("crc_fast.ko");
	module("later.ko");
	module("x-hash.ko");
	open_beside();
	cr_expect_eq(modules_want(&m, "fs", &e), 0, "%s", e.text);
	cr_expect_str_eq(order(), "crc_fast x_hash fs later");
}

WholeTest(modules, one_that_does_not_exist)
{
	rig_file(BESIDE "modules.dep", "a.ko: gone.ko\n");
	module("a.ko");
	open_beside();
	cr_expect_eq(modules_want(&m, "nothing", &e), -ENOENT);
	cr_expect_eq(modules_want(&m, "a", &e), -EBADMSG);
	cr_expect(strstr(e.text, "a needs gone.ko") && strstr(e.text, "depmod"), "%s", e.text);
}

static void expect_content(size_t i, const char *content)
{
	char name[72];
	size_t len = 0;
	uint8_t *data = modules_load(&m, i, name, sizeof(name), &len, &e);

	cr_assert(data, "%s", e.text);
	cr_expect_eq(len, strlen(content));
	cr_expect_eq(memcmp(data, content, len), 0);
	free(data);
}

WholeTest(modules, packed_ones_are_unpacked)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	char big[100001];

	memset(big, 'x', sizeof(big) - 1); /* far smaller when packed */
	memcpy(big, "\177ELF", 4);
	big[sizeof(big) - 1] = '\0';
	for (unsigned i = 0; i < 4; i++) {
		char file[64];

		snprintf(file, sizeof(file), BESIDE "%s.ko", names[i]);
		rig_file(file, big);
	}
	rig_run("cd " BESIDE " && xz --check=crc32 b.ko && gzip c.ko && zstd -q --rm d.ko");
	rig_file(BESIDE "modules.dep", "a.ko:\nb.ko.xz:\nc.ko.gz:\nd.ko.zst:\n");
	open_beside();
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(modules_want(&m, names[i], &e), 0);
	cr_assert_eq(m.norder, 4);
	for (unsigned i = 0; i < 4; i++)
		expect_content(i, big);
}

static void expect_broken(size_t i, const char *says)
{
	char name[72];
	size_t len;

	e = (struct err){0};
	cr_expect_null(modules_load(&m, i, name, sizeof(name), &len, &e));
	cr_expect(strstr(e.text, says), "%s", e.text);
}

WholeTest(modules, broken_files_are_said)
{
	rig_file(BESIDE "modules.dep", "text.ko:\ngone.ko:\nbad.ko.xz:\nempty.ko:\n");
	module("bad.ko");
	rig_run("cd " BESIDE
		" && xz bad.ko && printf xxxxxxxx | dd of=bad.ko.xz bs=1 seek=30 conv=notrunc status=none");
	rig_file(BESIDE "text.ko", "no module at all");
	rig_file(BESIDE "empty.ko", "");
	open_beside();
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(modules_want(&m, (const char *[]){"text", "gone", "bad", "empty"}[i], &e), 0);
	expect_broken(0, "is no module");
	expect_broken(1, "No such file");
	expect_broken(2, "broken");
	expect_broken(3, "is no module");
}

WholeTest(modules, no_directory_is_no_error_unless_it_was_named)
{
	open_beside();
	cr_expect_eq(m.dir[0], '\0');
	cr_expect(strstr(m.looked, "lib/modules/6.1-test"), "%s", m.looked);
	cr_expect_eq(modules_want(&m, "a", &e), -ENOENT);
	modules_close(&m);
	cr_expect_eq(modules_open(&m, &kernel, rig_dir, &e), -ENOENT);
	cr_expect(strstr(e.text, "6.1-test") && strstr(e.text, "--modules"), "%s", e.text);
}

WholeTest(modules, a_named_directory_in_its_three_forms)
{
	static const char *const forms[] = {"own", "above", "short"};

	rig_file("own/modules.dep", "a.ko:\n");
	rig_file("above/lib/modules/6.1-test/modules.dep", "a.ko:\n");
	rig_file("short/6.1-test/modules.dep", "a.ko:\n");
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(modules_open(&m, &kernel, rig_path(forms[i]), &e), 0, "%s: %s", forms[i], e.text);
		cr_expect_eq(modules_want(&m, "a", &e), 0);
		modules_close(&m);
	}
	kernel.release[0] = '\0';
	cr_expect_eq(modules_open(&m, &kernel, rig_path("own"), &e), 0);
	modules_close(&m);
	cr_expect_eq(modules_open(&m, &kernel, rig_path("above"), &e), -ENOENT);
	cr_expect(strstr(e.text, "does not say its version"), "%s", e.text);
}

/* As make leaves them: no modules.dep, and each file says what it needs. */
WholeTest(modules, of_a_build_tree)
{
	static const char fuse[] = "\177ELF....\0license=GPL\0depends=\0name=fuse";
	static const char virtiofs[] = "\177ELF....\0license=GPL\0depends=fuse,virtio-ring\0name=virtiofs";

	rig_file("modules.order", "fs/fuse/fuse.o\nfs/fuse/virtiofs.o\n");
	rig_file("modules.builtin", "kernel/drivers/virtio/virtio_ring.ko\n");
	rig_bytes("fs/fuse/fuse.ko", fuse, sizeof(fuse));
	rig_bytes("fs/fuse/virtiofs.ko", virtiofs, sizeof(virtiofs));
	strcpy(kernel.dir, rig_dir);
	open_beside();
	cr_expect(m.tree);
	cr_expect_eq(modules_want(&m, "virtiofs", &e), 0, "%s", e.text);
	cr_expect_str_eq(order(), "fuse virtiofs");
}

WholeTest(modules, of_an_older_build_tree)
{
	rig_file("modules.order", "kernel/fs/fuse/fuse.ko\n");
	rig_file("fs/fuse/fuse.ko", "\177ELF");
	strcpy(kernel.dir, rig_dir);
	open_beside();
	cr_expect_eq(modules_want(&m, "fuse", &e), 0, "%s", e.text);
	cr_expect_str_eq(order(), "fuse");
}

WholeTest(modules, lists_of_rubbish)
{
	rig_file(BESIDE "modules.dep", "\n:\n::\n/: /\n.ko: .ko\na\n   \na.ko:    \nb.ko: a.ko  \n");
	rig_file(BESIDE "modules.softdep", "softdep\nsoftdep b\nsoftdep b :\nsoftdep b pre:\n");
	module("a.ko");
	module("b.ko");
	open_beside();
	cr_expect_eq(modules_want(&m, "", &e), -ENOENT);
	cr_expect_eq(modules_want(&m, "b", &e), 0, "%s", e.text);
	cr_expect_geq(m.norder, 1);
}
