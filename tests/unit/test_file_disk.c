/* What may be a disk, what is said of what may not, and what is learnt of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "lib/log.h"

static char dir[] = "/tmp/ringlet-disk-XXXXXX", path[64];
static struct disk *d;
static struct err e;

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
}

static void teardown(void)
{
	if (d)
		d->ops->destroy(d);
	if (unlink(path) && errno == EISDIR)
		rmdir(path);
	rmdir(dir);
}

TestSuite(file_disk, .init = setup, .fini = teardown, .timeout = 60);

static void make(off_t size)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, size), 0);
	close(fd);
}

static void put(off_t at, const void *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	cr_assert_eq(pwrite(fd, p, len, at), (ssize_t)len);
	close(fd);
}

static struct disk *open_with(struct file_disk_config c)
{
	c.path = path;
	d = file_disk_open(&c, &e);
	return d;
}

/* Refused, and each of the words is in the sentence. */
static void refused(struct file_disk_config c, int code, const char *what, const char *hint)
{
	cr_assert_null(open_with(c));
	cr_expect_eq(e.code, code, "%d", e.code);
	cr_expect(strstr(e.text, path), "%s", e.text);
	cr_expect(strstr(e.text, what), "%s", e.text);
	cr_expect(strstr(e.text, hint), "%s", e.text);
}

Test(file_disk, takes_a_file)
{
	make(1 << 20);
	cr_assert(open_with((struct file_disk_config){0}), "%s", e.text);
	cr_expect_eq(d->size, 1 << 20);
	cr_expect_eq(d->block_size, 512);
	cr_expect_eq(d->physical_block_size, 4096);
	cr_expect(d->write_zeroes);
	cr_expect_not(d->read_only);
	cr_expect_eq(d->discard_granularity, 4096);
}

Test(file_disk, probing_leaves_the_file_as_it_was)
{
	struct stat st;

	make((1 << 20) + 512);
	put(0, "abc", 3);
	cr_assert(open_with((struct file_disk_config){0}), "%s", e.text);
	cr_expect_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_size, (1 << 20) + 512);
}

Test(file_disk, a_read_only_disk_cannot_discard_or_write_zeroes)
{
	make(1 << 20);
	cr_assert(open_with((struct file_disk_config){.read_only = true}));
	cr_expect(d->read_only);
	cr_expect_not(d->write_zeroes);
	cr_expect_eq(d->discard_granularity, 0);
}

Test(file_disk, a_size_that_is_no_multiple_of_512_is_rounded_down)
{
	make(10000);
	cr_assert(open_with((struct file_disk_config){0}));
	cr_expect_eq(d->size, 9728);
}

Test(file_disk, a_missing_file_is_refused_with_the_command_that_makes_one)
{
	refused((struct file_disk_config){0}, -ENOENT, "no file", "truncate -s");
}

Test(file_disk, an_empty_file_is_refused)
{
	make(0);
	refused((struct file_disk_config){0}, -EINVAL, "empty", "truncate -s");
}

Test(file_disk, a_file_smaller_than_a_sector_is_refused)
{
	make(511);
	refused((struct file_disk_config){0}, -EINVAL, "511 bytes", "truncate -s");
}

Test(file_disk, a_directory_is_refused)
{
	mkdir(path, 0700);
	refused((struct file_disk_config){0}, -EINVAL, "a directory", "raw image");
}

Test(file_disk, a_pipe_is_refused_and_does_not_block)
{
	mkfifo(path, 0600);
	refused((struct file_disk_config){.read_only = true}, -EINVAL, "a named pipe", "raw image");
}

Test(file_disk, a_socket_is_refused_with_a_hint_at_vhost_user)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, path, sizeof(path));
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	refused((struct file_disk_config){0}, -EINVAL, "a socket", "vhost-user");
	close(fd);
}

Test(file_disk, a_character_device_is_refused)
{
	snprintf(path, sizeof(path), "/dev/zero");
	refused((struct file_disk_config){0}, -EINVAL, "character device", "raw image");
	path[0] = 0;
}

/* Root may open anything, so somebody else has to try. */
static void as_nobody(void)
{
	chmod(dir, 0755);
	if (geteuid() == 0 && seteuid(65534))
		cr_skip_test("cannot become nobody");
}

Test(file_disk, a_file_that_may_only_be_read_is_refused_with_a_hint_at_ro)
{
	make(1 << 20);
	chmod(path, 0444);
	as_nobody();
	cr_assert_null(open_with((struct file_disk_config){0}));
	cr_expect_eq(e.code, -EACCES);
	cr_expect(strstr(e.text, ",ro"), "%s", e.text);
	cr_expect_eq(seteuid(getuid()), 0);
}

Test(file_disk, a_file_that_may_not_be_read_is_refused_with_who_we_are)
{
	make(1 << 20);
	chmod(path, 0000);
	as_nobody();
	cr_assert_null(open_with((struct file_disk_config){.read_only = true}));
	cr_expect_eq(e.code, -EACCES);
	cr_expect(strstr(e.text, "65534") || getuid(), "%s", e.text);
	cr_expect_eq(seteuid(getuid()), 0);
}

Test(file_disk, image_formats_are_named_and_refused)
{
	static const struct {
		off_t at;
		const char *magic;
		size_t len;
		const char *name;
	} formats[] = {
		{0, "QFI\xfb\0\0\0\3", 8, "qcow2"},
		{0, "KDMV", 4, "VMDK"},
		{0, "# Disk DescriptorFile\n", 22, "VMDK"},
		{0, "vhdxfile", 8, "VHDX"},
		{0, "conectix", 8, "VHD"},
		{64, "\x7f\x10\xda\xbe", 4, "VDI"},
		{0, "LUKS\xba\xbe\0\2", 8, "LUKS"},
		{0, "QED\0", 4, "QED"},
	};

	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		make(0);
		make(1 << 20);
		put(formats[i].at, formats[i].magic, formats[i].len);
		refused((struct file_disk_config){0}, -EMEDIUMTYPE, formats[i].name, "qemu-storage-daemon");
		cr_expect(strstr(e.text, "vhost-user,path="));
	}
}

Test(file_disk, compressed_images_are_named_and_refused)
{
	make(1 << 20);
	put(0,
	    "\xfd"
	    "7zXZ\0",
	    6);
	refused((struct file_disk_config){0}, -EMEDIUMTYPE, "xz", "Unpack");
}

Test(file_disk, bytes_that_look_like_a_format_are_raw_when_said_so)
{
	make(1 << 20);
	put(0, "LUKS\xba\xbe", 6);
	cr_expect(open_with((struct file_disk_config){.raw = true}), "%s", e.text);
}

Test(file_disk, what_a_guest_writes_into_an_open_disk_matters_to_nobody)
{
	make(1 << 20);
	cr_assert(open_with((struct file_disk_config){0}));
	put(0, "QFI\xfb", 4);
	cr_expect_eq(d->ops->refresh(d), 0);
	cr_expect_eq(d->size, 1 << 20);
}

static unsigned resizes;

static void on_resize(void *opaque)
{
	(void)opaque;
	resizes++;
}

Test(file_disk, refresh_tells_of_a_new_size_once)
{
	make(1 << 20);
	cr_assert(open_with((struct file_disk_config){0}));
	d->resized = on_resize;
	cr_assert_eq(truncate(path, (2 << 20) + 5), 0);
	cr_expect_eq(d->ops->refresh(d), 0);
	cr_expect_eq(d->ops->refresh(d), 0);
	cr_expect_eq(d->size, 2 << 20);
	cr_expect_eq(resizes, 1);
}

Test(file_disk, direct_io_learns_the_alignment)
{
	struct file_disk *f;

	make(1 << 20);
	if (!open_with((struct file_disk_config){.direct = true}))
		cr_skip_test("%s", e.text);
	f = file_disk_of(d);
	cr_expect(f->direct);
	cr_expect_geq(f->len_align, 512);
	cr_expect_geq(d->block_size, f->len_align);
	cr_expect_geq(d->physical_block_size, d->block_size);
}

/* --- block devices: a loop device stands for all --- */

static int loop_fd = -1;

static bool loop_attach(uint32_t block_size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n = 0, file;
	struct loop_config c = {.block_size = block_size};
	char name[32];

	make(1 << 20);
	file = open(path, O_RDWR | O_CLOEXEC);
	c.fd = (uint32_t)file;
	while (loop_fd < 0 && n >= 0) {
		n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(name, sizeof(name), "/dev/loop%d", n);
		loop_fd = open(name, O_RDWR | O_CLOEXEC);
		if (loop_fd < 0)
			break;
		if (!ioctl(loop_fd, LOOP_CONFIGURE, &c))
			break;
		n = errno == EBUSY ? n : -1; /* somebody was faster */
		close(loop_fd);
		loop_fd = -1;
	}
	close(control);
	close(file);
	if (loop_fd < 0)
		return false;
	unlink(path);
	snprintf(path, sizeof(path), "%s", name);
	return true;
}

static void loop_detach(void)
{
	if (d)
		d->ops->destroy(d);
	d = NULL;
	ioctl(loop_fd, LOOP_CLR_FD, 0);
	close(loop_fd);
	path[0] = 0;
}

Test(file_disk, takes_a_block_device_with_its_blocks)
{
	if (!loop_attach(4096))
		cr_skip_test("no loop devices");
	cr_assert(open_with((struct file_disk_config){0}), "%s", e.text);
	cr_expect_eq(d->size, 1 << 20);
	cr_expect_eq(d->block_size, 4096);
	cr_expect_geq(d->physical_block_size, 4096);
	cr_expect_gt(d->discard_granularity, 0);
	loop_detach();
}

Test(file_disk, a_block_device_reads_writes_zeroes_and_discards)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct iovec v = {page, sizeof(page)};
	struct disk_req r = {.op = DISK_WRITE, .len = 4096, .iov = &v, .iovcnt = 1};
	struct file_disk *f;

	if (!loop_attach(512))
		cr_skip_test("no loop devices");
	cr_assert(open_with((struct file_disk_config){0}), "%s", e.text);
	f = file_disk_of(d);
	memset(page, 7, sizeof(page));
	cr_expect_eq(file_disk_do(f, &r, NULL), 0);
	for (unsigned op = DISK_FLUSH; op <= DISK_ZERO_UNMAP; op++) {
		r = (struct disk_req){.op = op, .offset = 4096, .len = op == DISK_FLUSH ? 0 : 8192};
		cr_expect_eq(file_disk_do(f, &r, NULL), 0, "%u", op);
	}
	memset(page, 0, sizeof(page));
	r = (struct disk_req){.op = DISK_READ, .len = 4096, .iov = &v, .iovcnt = 1};
	cr_expect_eq(file_disk_do(f, &r, NULL), 0);
	cr_expect_eq(page[4095], 7);
	r = (struct disk_req){.op = DISK_ZERO, .len = 512};
	cr_expect_eq(file_disk_do(f, &r, NULL), 0);
	v = (struct iovec){page, sizeof(page)};
	r = (struct disk_req){.op = DISK_READ, .len = 4096, .iov = &v, .iovcnt = 1};
	cr_expect_eq(file_disk_do(f, &r, NULL), 0);
	cr_expect_eq(page[511], 0);
	cr_expect_eq(page[512], 7);
	loop_detach();
}

Test(file_disk, a_block_device_that_the_host_has_claimed_is_refused)
{
	int claim;

	if (!loop_attach(512))
		cr_skip_test("no loop devices");
	claim = open(path, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does */
	cr_assert_geq(claim, 0);
	refused((struct file_disk_config){0}, -EBUSY, "host itself uses", "nmount");
	close(claim);
	loop_detach();
}
