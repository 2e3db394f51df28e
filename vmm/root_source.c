#include "vmm/root_source.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"

#define SECTOR      512u
#define MAX_PARTS   128u
#define GPT_ENTRY   128u
#define MBR_TABLE   446u
#define MBR_GPT     0xee
#define KNOWN_TYPES "ext2/3/4, xfs, btrfs, squashfs or erofs"

struct magic {
	const char *fstype;
	uint32_t offset, len;
	const char *bytes;
};

static const struct magic magics[] = {
	{"ext4", 0x438, 2, "\x53\xef"},         {"xfs", 0, 4, "XFSB"},
	{"btrfs", 0x10040, 8, "_BHRfS_M"},      {"squashfs", 0, 4, "hsqs"},
	{"erofs", 1024, 4, "\xe2\xe1\xf5\xe0"},
};

struct partition {
	unsigned number;
	uint64_t start, size; /* bytes */
};

static bool read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	return offset <= INT64_MAX && pread(fd, buf, len, (off_t)offset) == (ssize_t)len;
}

static const char *probe(int fd, uint64_t base)
{
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		uint8_t found[8];

		if (read_at(fd, found, magics[i].len, base + magics[i].offset) &&
		    !memcmp(found, magics[i].bytes, magics[i].len))
			return magics[i].fstype;
	}
	return NULL;
}

static unsigned read_gpt(int fd, struct partition *parts)
{
	uint8_t head[92], entry[GPT_ENTRY];
	uint64_t table, first, last;
	uint32_t count, size;
	unsigned n = 0;

	if (!read_at(fd, head, sizeof(head), SECTOR) || memcmp(head, "EFI PART", 8))
		return 0;
	memcpy(&table, head + 72, 8);
	memcpy(&count, head + 80, 4);
	memcpy(&size, head + 84, 4);
	table = le64toh(table);
	count = le32toh(count);
	size = le32toh(size);
	if (size < GPT_ENTRY || size > 4096 || table > INT64_MAX / SECTOR / 2)
		return 0;
	for (uint32_t i = 0; i < count && i < MAX_PARTS; i++) {
		static const uint8_t unused[16];

		if (!read_at(fd, entry, sizeof(entry), table * SECTOR + (uint64_t)i * size))
			break;
		memcpy(&first, entry + 32, 8);
		memcpy(&last, entry + 40, 8);
		first = le64toh(first);
		last = le64toh(last);
		if (!memcmp(entry, unused, 16) || last < first || last > INT64_MAX / SECTOR / 2)
			continue;
		parts[n++] = (struct partition){i + 1, first * SECTOR, (last - first + 1) * SECTOR};
	}
	return n;
}

/* Primary partitions: what lies in an extended one is no root that anybody makes today. */
static unsigned read_partitions(int fd, struct partition parts[MAX_PARTS])
{
	uint8_t mbr[SECTOR];
	unsigned n = 0;

	if (!read_at(fd, mbr, sizeof(mbr), 0) || mbr[510] != 0x55 || mbr[511] != 0xaa)
		return 0;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *entry = mbr + MBR_TABLE + 16 * i;
		uint32_t start, size;

		if (entry[4] == MBR_GPT)
			return read_gpt(fd, parts);
		memcpy(&start, entry + 8, 4);
		memcpy(&size, entry + 12, 4);
		start = le32toh(start);
		size = le32toh(size);
		if (entry[4] && size)
			parts[n++] =
				(struct partition){i + 1, (uint64_t)start * SECTOR, (uint64_t)size * SECTOR};
	}
	return n;
}

static int no_file_system(int fd, const char *path, unsigned nparts, struct err *e)
{
	uint8_t head[4] = {0};

	if (read_at(fd, head, 4, 0) && !memcmp(head, "QFI\xfb", 4))
		return err_set(e, -EINVAL,
			       "--root %s: a qcow2 image, but raw bytes are read here\n"
			       "Convert it: qemu-img convert -O raw %s %s.raw",
			       path, path, path);
	if (nparts)
		return err_set(e, -EINVAL,
			       "--root %s: a disk of %u partition%s, but in none is a file system known here "
			       "(" KNOWN_TYPES ")\nLook at it: fdisk -l %s",
			       path, nparts, nparts == 1 ? "" : "s", path);
	return err_set(e, -EINVAL,
		       "--root %s: neither a directory nor an image with a file system (" KNOWN_TYPES
		       ") or a partition table\nMake one of a directory: mkfs.ext4 -d DIR IMAGE 2G",
		       path);
}

/* The largest one with a file system; a boot partition is smaller. */
static int choose(struct root_source *r, int fd, const char *path, struct err *e)
{
	struct partition parts[MAX_PARTS];
	uint64_t largest = 0;
	unsigned n, with = 0;

	r->fstype = probe(fd, 0);
	if (r->fstype)
		return 0;
	n = read_partitions(fd, parts);
	for (unsigned i = 0; i < n; i++) {
		const char *type = probe(fd, parts[i].start);

		if (!type)
			continue;
		with++;
		if (parts[i].size <= largest)
			continue;
		largest = parts[i].size;
		r->fstype = type;
		r->partition = parts[i].number;
	}
	if (!with)
		return no_file_system(fd, path, n, e);
	if (with > 1)
		log_warn("--root %s: %u of its partitions have a file system; the largest is the root: number "
			 "%u, %s, "
			 "%" PRIu64 " MiB",
			 path, with, r->partition, r->fstype, largest >> 20);
	return 0;
}

static int look_at_image(struct root_source *r, const char *path, bool writable, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	r->kind = ROOT_IMAGE;
	if (fd < 0)
		return err_set(e, -errno, "--root %s: %s", path, strerror(errno));
	if (writable && access(path, W_OK))
		return err_set(e, -errno,
			       "--root %s,rw: it cannot be written: %s\nLeave out rw, and what the guest "
			       "writes stays in its memory",
			       path, strerror(errno));
	return choose(r, fd, path, e);
}

static int look_at_share(const struct share_config *share, struct err *e)
{
	struct stat st;

	if (stat(share->source, &st))
		return err_set(e, -errno, "--share %s: %s", share->source, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR,
			       "--share %s: not a directory\nShare the one it is in, or give it as a disk: "
			       "--disk %s,ro",
			       share->source, share->source);
	if (!share->path[strspn(share->path, "/")])
		return err_set(e, -EINVAL, "--share %s: the guest's / is its root's\nSay --root %s",
			       share->source, share->source);
	return 0;
}

int root_source_look(struct root_source *r, const struct run_config *cfg, struct err *e)
{
	const struct share_config *root = &cfg->guest.root;
	struct stat st;

	*r = (struct root_source){.kind = ROOT_NONE};
	for (unsigned i = 0; i < cfg->guest.nshare; i++)
		if (look_at_share(&cfg->guest.share[i], e))
			return e->code;
	if ((root->source || cfg->guest.nshare) && !cfg->mem.share)
		return err_set(e, -EINVAL,
			       "--mem share=off: a directory reaches the guest through its memory, which "
			       "another process "
			       "has to see\nLeave out share=off");
	if (!root->source)
		return 0;
	if (stat(root->source, &st))
		return err_set(e, -errno, "--root %s: %s", root->source, strerror(errno));
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return look_at_image(r, root->source, root->writable, e);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -EINVAL, "--root %s: neither a directory nor an image", root->source);
	r->kind = ROOT_DIR;
	return 0;
}
