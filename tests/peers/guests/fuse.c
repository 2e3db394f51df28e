/* A file system of the host: INIT, then the file "hello" is looked up, opened and read; its checksum is
 * printed. */
#include <linux/fuse.h>
#include <linux/virtio_fs.h>

#include "guest.h"

#define ROOM (64u << 10)

static struct vdev fs;
static struct vq *vq;
static struct fuse_in_header *in;
static struct fuse_out_header *out;
static uint8_t *args, *answer;

/* The length of what is in `answer`; ends the guest where the request failed. */
static uint32_t request(uint32_t opcode, uint64_t node, uint32_t len, uint32_t room)
{
	static uint64_t unique;
	struct seg seg[] = {{(uint64_t)in, sizeof(*in), false},
			    {(uint64_t)args, len, false},
			    {(uint64_t)out, sizeof(*out), true},
			    {(uint64_t)answer, room, true}};
	uint32_t used;

	*in = (struct fuse_in_header){.len = (uint32_t)sizeof(*in) + len,
				      .opcode = opcode,
				      .unique = ++unique,
				      .nodeid = node,
				      .pid = 1};
	used = vq_do(vq, seg, room ? 4 : 3);
	CHECK_EQ(out->unique, unique);
	CHECK_EQ(out->len, used);
	if (out->error || used < sizeof(*out)) {
		FAIL("request %u: error %d, %u bytes", opcode, out->error, used);
		finish();
	}
	return used - (uint32_t)sizeof(*out);
}

static uint64_t put_text(const char *s)
{
	uint32_t n = 0;

	do
		args[n] = (uint8_t)s[n];
	while (s[n++]);
	return n;
}

static void read_hello(void)
{
	uint64_t node, file, got = 0;
	uint32_t crc = 0, n;

	request(FUSE_LOOKUP, FUSE_ROOT_ID, (uint32_t)put_text("hello"), sizeof(struct fuse_entry_out));
	node = ((struct fuse_entry_out *)answer)->nodeid;
	*(struct fuse_open_in *)args = (struct fuse_open_in){.flags = 0};
	request(FUSE_OPEN, node, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out));
	file = ((struct fuse_open_out *)answer)->fh;
	do {
		*(struct fuse_read_in *)args = (struct fuse_read_in){.fh = file, .offset = got, .size = ROOM};
		n = request(FUSE_READ, node, sizeof(struct fuse_read_in), ROOM);
		crc = crc32(crc, answer, n);
		got += n;
	} while (n);
	print("crc %08x bytes %lu\n", crc, got);
}

int main(void)
{
	char tag[37] = "";
	struct fuse_init_out *init;

	vdev_open(&fs, VIRTIO_ID_FS, 0);
	vdev_begin(&fs, 0);
	for (unsigned i = 0; i < 36; i++)
		tag[i] = (char)vdev_config(&fs, i, 1);
	print("tag %s queues %u features 0x%lx\n", tag, (unsigned)vdev_config(&fs, 36, 4), fs.features);
	CHECK(vdev_config(&fs, 36, 4) >= 1);
	vq_new(&fs, 0, 0);
	vq = vq_new(&fs, 1, 0);
	in = alloc(sizeof(*in), 64);
	out = alloc(sizeof(*out), 64);
	args = alloc(4096, 4096);
	answer = alloc(ROOM, 4096);
	vdev_driver_ok(&fs);
	*(struct fuse_init_in *)args =
		(struct fuse_init_in){.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 4096};
	request(FUSE_INIT, 0, sizeof(struct fuse_init_in), sizeof(struct fuse_init_out));
	init = (struct fuse_init_out *)answer;
	print("fuse %u.%u max_write %u\n", init->major, init->minor, init->max_write);
	CHECK_EQ(init->major, FUSE_KERNEL_VERSION);
	read_hello();
	return 0;
}
