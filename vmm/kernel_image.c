/* What is this file that was given as a kernel?  Most of it is there for the person who gave the
 * wrong one. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "vmm/boot.h"
#include "vmm/boot_x86.h"

#define EXPECTED "expected an x86-64 Linux bzImage (vmlinuz) or a 64-bit ELF kernel (vmlinux)"

/* Enough for the magic of an ISO image, the one that lies deepest. */
#define HEAD_SIZE 0x8800u

/* First version with xloadflags, so the first that can say it has a 64-bit entry point. */
#define PROTOCOL_MIN 0x020cu

struct foreign {
	uint32_t offset;
	uint32_t len;
	const char *magic;
	const char *what;
	const char *hint;
};

#define HINT_UNPACK(cat) "Unpack it first: " cat " FILE > kernel (if it is an initrd, give it with -i)"
#define HINT_DISK        "Kernels lie inside of it: give the bzImage itself with -k"
#define HINT_ARCH        "Take a kernel built for x86-64 (ARCH=x86_64)"
#define HINT_INITRD      "Did you mean -i FILE?"

/* Looked at in this order, so the more particular comes first: an arm64 Image may begin with "MZ". */
static const struct foreign foreign_files[] = {
	{0x38, 4, "ARM\x64", "an arm64 Image", HINT_ARCH},
	{0x38, 4, "RSC\x05", "a riscv Image", HINT_ARCH},
	{0x30, 5, "RISCV", "a riscv Image", HINT_ARCH},
	{4, 4, "zimg", "an EFI zboot image (a compressed kernel of another architecture)", HINT_ARCH},
	{0, 2, "\x1f\x8b", "gzip data", HINT_UNPACK("zcat")},
	{0, 6, "\xfd\x37zXZ\0", "xz data", HINT_UNPACK("xzcat")},
	{0, 4, "\x28\xb5\x2f\xfd", "zstd data", HINT_UNPACK("zstdcat")},
	{0, 3, "BZh", "bzip2 data", HINT_UNPACK("bzcat")},
	{0, 4, "\x02\x21\x4c\x18", "lz4 data", HINT_UNPACK("lz4cat")},
	{0, 4, "\x04\x22\x4d\x18", "lz4 data", HINT_UNPACK("lz4cat")},
	{0, 9, "\x89LZO\0\r\n\x1a\n", "lzop data", HINT_UNPACK("lzop -dc")},
	{0, 3, "\x5d\0\0", "lzma data", HINT_UNPACK("xzcat")},
	{0, 5, "07070", "a cpio archive, as an initrd is", HINT_INITRD},
	{0, 2, "\xc7\x71", "a cpio archive, as an initrd is", HINT_INITRD},
	{0, 4, "QFI\xfb", "a qcow2 disk image", HINT_DISK},
	{0, 4, "KDMV", "a VMDK disk image", HINT_DISK},
	{0, 4, "hsqs", "a squashfs image", HINT_DISK},
	{0x8001, 5, "CD001", "an ISO 9660 image", HINT_DISK},
	{0x200, 8, "EFI PART", "a disk image with a GPT", HINT_DISK},
	{0x438, 2, "\x53\xef", "an ext2/3/4 file system", HINT_DISK},
	{0, 4, "\x27\x05\x19\x56", "a U-Boot uImage", HINT_ARCH},
	{0, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT image", HINT_ARCH},
	{0, 8, "ANDROID!", "an Android boot image", HINT_ARCH},
	{0, 8, "!<arch>\n", "an archive (a .deb or a .a file)",
	 "Unpack a kernel package with dpkg -x FILE DIR; the kernel is DIR/boot/vmlinuz-*"},
	{0, 4, "\xed\xab\xee\xdb", "an RPM package", "Unpack it first: rpm2cpio FILE | cpio -id"},
	{0x101, 5, "ustar", "a tar archive", "Unpack it first: tar xf FILE"},
	{0, 4, "PK\3\4", "a zip archive", "Unpack it first: unzip FILE"},
	{0, 2, "#!", "a script", ""},
	{0, 14, "<!DOCTYPE html", "an HTML page", "Perhaps a download went wrong"},
	{0, 5, "<html", "an HTML page", "Perhaps a download went wrong"},
	{0, 27, "version https://git-lfs.gith", "a Git LFS pointer", "Fetch it: git lfs pull"},
};

int64_t kernel_file_read(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

uint64_t bzimage_setup_size(const struct setup_header *hdr)
{
	/* 0 means 4, from the days before the field (boot.rst, "setup_sects") */
	uint64_t sectors = hdr->setup_sects ? hdr->setup_sects : 4;

	return (1 + sectors) * SETUP_SECTOR;
}

static int refuse(const char *path, struct err *e, const char *what, const char *hint)
{
	return err_set(e, -ENOEXEC, "kernel %s is %s; %s%s%s", path, what, EXPECTED, *hint ? ". " : "", hint);
}

static int refuse_open(const char *path, int code, struct err *e)
{
	struct stat st;

	switch (code) {
	case -ENOENT:
		if (!*path)
			return err_set(e, code, "the name of the kernel is empty; %s", EXPECTED);
		if (!lstat(path, &st) && S_ISLNK(st.st_mode))
			return err_set(e, code, "kernel %s is a symbolic link to a file that does not exist",
				       path);
		return err_set(e, code, "kernel %s: no such file; %s, such as /boot/vmlinuz-*", path, EXPECTED);
	case -EACCES:
	case -EPERM:
		return err_set(e, code,
			       "kernel %s: permission denied. Some systems let only root read kernels: "
			       "copy it, or sudo chmod a+r %s",
			       path, path);
	case -ENXIO:
		if (!stat(path, &st) && S_ISSOCK(st.st_mode))
			return refuse(path, e, "a socket", "");
		break;
	default:
		break;
	}
	return err_set(e, code, "kernel %s cannot be opened: %s", path, strerror(-code));
}

static int refuse_directory(const char *path, struct err *e)
{
	static const char *const inside[] = {"arch/x86/boot/bzImage", "vmlinux", "bzImage", "vmlinuz"};

	for (unsigned i = 0; i < ARRAY_SIZE(inside); i++) {
		CLEANUP_FREE char *name = NULL;
		struct stat st;

		if (asprintf(&name, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", inside[i]) < 0) {
			name = NULL;
			return -ENOMEM;
		}
		if (!stat(name, &st) && S_ISREG(st.st_mode))
			return err_set(e, -EISDIR, "kernel %s is a directory; did you mean %s?", path, name);
	}
	return err_set(e, -EISDIR, "kernel %s is a directory; %s", path, EXPECTED);
}

/* Anything that is no regular file: it could block, or have no end. */
static int check_file_type(const char *path, const struct stat *st, struct err *e)
{
	if (S_ISDIR(st->st_mode))
		return refuse_directory(path, e);
	if (S_ISFIFO(st->st_mode))
		return refuse(path, e, "a FIFO or pipe, not a regular file", "Save it to a file first");
	if (S_ISCHR(st->st_mode))
		return refuse(path, e, "a character device", "");
	if (S_ISBLK(st->st_mode))
		return refuse(path, e, "a block device", HINT_DISK);
	if (!S_ISREG(st->st_mode))
		return refuse(path, e, "not a regular file", "");
	if (!st->st_size)
		return refuse(path, e, "empty (0 bytes)", "Perhaps a copy or a build went wrong");
	return 0;
}

/* An EFI program that is no bzImage; head is as long as len says. */
static int refuse_mz(const char *path, const uint8_t *head, size_t len, struct err *e)
{
	uint32_t pe = 0;
	uint16_t machine = 0;

	if (len >= 0x40)
		memcpy(&pe, head + 0x3c, sizeof(pe));
	if (len < 8 || pe > len - 8 || memcmp(head + pe, "PE\0\0", 4))
		return refuse(path, e, "a DOS program (\"MZ\" without a PE or a Linux setup header)", "");
	memcpy(&machine, head + pe + 4, sizeof(machine));
	if (memmem(head, len, ".linux\0", 7))
		return refuse(path, e, "a unified kernel image (an EFI program with the kernel inside)",
			      "Take the kernel out: objcopy -O binary -j .linux FILE kernel");
	if (machine == 0x8664)
		return refuse(path, e, "an EFI program without a Linux setup header",
			      "There is no firmware here to run it");
	return refuse(path, e, "an EFI program for another machine", HINT_ARCH);
}

static int refuse_unknown(const char *path, const uint8_t *head, size_t len, struct err *e)
{
	char what[128];
	bool text = true;
	bool zero = true;

	for (size_t i = 0; i < len; i++) {
		zero = zero && !head[i];
		text = text && ((head[i] >= 0x20 && head[i] < 0x7f) || (head[i] >= '\t' && head[i] <= '\r'));
	}
	if (zero)
		return refuse(path, e, "nothing but zero bytes at its beginning",
			      "Perhaps a copy or a download went wrong");
	if (text)
		return refuse(path, e, "a text file", "");
	if (len > SETUP_SECTOR - 1 && head[SETUP_SECTOR - 2] == 0x55 && head[SETUP_SECTOR - 1] == 0xaa)
		return refuse(path, e, "a boot sector or disk image (no Linux setup header behind 55 aa)",
			      HINT_DISK);
	if (len >= 4)
		snprintf(what, sizeof(what), "no kernel known here (it begins with %02x %02x %02x %02x)",
			 head[0], head[1], head[2], head[3]);
	else
		snprintf(what, sizeof(what), "no kernel: it has only %zu bytes", len);
	return refuse(path, e, what, "");
}

static int refuse_foreign(const char *path, const uint8_t *head, size_t len, struct err *e)
{
	for (unsigned i = 0; i < ARRAY_SIZE(foreign_files); i++) {
		const struct foreign *f = &foreign_files[i];

		if (len >= f->offset + f->len && !memcmp(head + f->offset, f->magic, f->len))
			return refuse(path, e, f->what, f->hint);
	}
	if (len >= 2 && !memcmp(head, "MZ", 2))
		return refuse_mz(path, head, len, e);
	return refuse_unknown(path, head, len, e);
}

/* boot.rst, "kernel_version": 0x200 less than where in the setup code the text lies. */
static void read_version(struct kernel_image *img, const struct setup_header *hdr)
{
	uint64_t offset = (uint64_t)hdr->kernel_version + 0x200;
	int64_t n;

	img->version[0] = '\0';
	if (!hdr->kernel_version || offset >= bzimage_setup_size(hdr))
		return;
	n = kernel_file_read(img->fd, img->version, sizeof(img->version) - 1, offset);
	img->version[n > 0 ? n : 0] = '\0';
	for (char *p = img->version; *p; p++) {
		if (*p < 0x20 || *p > 0x7e) {
			*p = '\0';
			break;
		}
	}
}

static int inspect_bzimage(struct kernel_image *img, const uint8_t *head, size_t len, struct err *e)
{
	struct setup_header hdr = {0};
	uint64_t need, end;

	if (len < SETUP_HEADER_OFFSET + sizeof(hdr))
		return err_set(e, -ENOEXEC,
			       "kernel %s is a truncated bzImage: %zu bytes, and the header alone has %zu. "
			       "Copy or build it again",
			       img->path, len, SETUP_HEADER_OFFSET + sizeof(hdr));
	memcpy(&hdr, head + SETUP_HEADER_OFFSET, sizeof(hdr));
	if (hdr.version < PROTOCOL_MIN)
		return err_set(e, -ENOEXEC,
			       "kernel %s is a bzImage with boot protocol %u.%02u, before Linux 3.8; expected "
			       "2.12 or newer, with a 64-bit entry point",
			       img->path, hdr.version >> 8, hdr.version & 0xffu);
	if (!(hdr.loadflags & LOADED_HIGH))
		return refuse(img->path, e, "a zImage, which is loaded below 1 MiB", "Build a bzImage");
	if (!(hdr.xloadflags & XLF_KERNEL_64))
		return refuse(img->path, e, "a 32-bit bzImage (no XLF_KERNEL_64 in xloadflags)",
			      "Take a 64-bit kernel (CONFIG_64BIT=y)");

	/* syssize is rounded up to 16 bytes, and the file need not be */
	need = bzimage_setup_size(&hdr) + (hdr.syssize ? (uint64_t)hdr.syssize * 16 - 15 : 0);
	if (img->size < need)
		return err_set(e, -ENOEXEC,
			       "kernel %s is a truncated bzImage: its header promises %" PRIu64
			       " bytes, the file has %" PRIu64 ". Copy or build it again",
			       img->path, need, img->size);
	end = 0x202u + head[0x201];
	if (!hdr.syssize || end < SETUP_HEADER_OFFSET + offsetof(struct setup_header, handover_offset))
		return err_set(e, -ENOEXEC,
			       "kernel %s is a broken bzImage: syssize is %u, and the setup header ends at "
			       "0x%" PRIx64,
			       img->path, hdr.syssize, end);
	img->kind = KERNEL_BZIMAGE;
	read_version(img, &hdr);
	return 0;
}

static int inspect(struct kernel_image *img, struct err *e)
{
	CLEANUP_FREE uint8_t *head = malloc(HEAD_SIZE);
	int64_t n;
	size_t len;

	if (!head)
		return err_set(e, -ENOMEM, "kernel %s: out of memory", img->path);
	n = kernel_file_read(img->fd, head, HEAD_SIZE, 0);
	if (n < 0)
		return err_set(e, (int)n, "kernel %s cannot be read: %s", img->path, strerror((int)-n));
	len = (size_t)n;
	if (len >= 0x206 && head[0x1fe] == 0x55 && head[0x1ff] == 0xaa && !memcmp(head + 0x202, "HdrS", 4))
		return inspect_bzimage(img, head, len, e);
	if (len >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
		return elf_inspect(img, e);
	return refuse_foreign(img->path, head, len, e);
}

int kernel_image_open(struct kernel_image *img, const char *path, struct err *e)
{
	struct stat st;
	int ret;

	memset(img, 0, sizeof(*img));
	img->path = path;
	img->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (img->fd < 0)
		return refuse_open(path, -errno, e);
	if (fstat(img->fd, &st))
		ret = err_set(e, -errno, "kernel %s: fstat: %s", path, strerror(errno));
	else
		ret = check_file_type(path, &st, e);
	if (!ret) {
		img->size = (uint64_t)st.st_size;
		ret = inspect(img, e);
	}
	if (ret)
		kernel_image_close(img);
	return ret;
}

void kernel_image_close(struct kernel_image *img)
{
	if (img->fd >= 0)
		close(img->fd);
	img->fd = -1;
}
