/* The vhost-user wire: what goes over a socket in one piece comes out in one piece, however it travels. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/vhost_user_inflight.h"
#include "backends/vhost_user_msg.h"
#include "backends/vhost_user_socket.h"
#include "lib/clock.h"

static int sv[2];
static struct vhost_user_reader in;

static void setup(void)
{
	in = (struct vhost_user_reader){0};
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
}

static void teardown(void)
{
	vhost_user_reader_clear(&in);
	close(sv[0]);
	close(sv[1]);
}

TestSuite(vhost_user_msg, .init = setup, .fini = teardown, .timeout = 30);

static uint64_t in_ms(unsigned ms)
{
	return clock_ns(CLOCK_MONOTONIC) + ms * UINT64_C(1000000);
}

static const struct vhost_user_msg num = {.request = VHOST_USER_SET_VRING_NUM,
					  .flags = VHOST_USER_VERSION,
					  .size = 8,
					  .state = {3, 256}};

Test(vhost_user_msg, a_message_is_its_header_and_its_payload)
{
	uint32_t wire[8];

	cr_assert_eq(vhost_user_send(sv[0], &num, NULL, 0, in_ms(100)), 0);
	cr_assert_eq(read(sv[1], wire, sizeof(wire)), 20);
	cr_expect_eq(wire[0], 8);
	cr_expect_eq(wire[1], 1);
	cr_expect_eq(wire[2], 8);
	cr_expect_eq(wire[3], 3);
	cr_expect_eq(wire[4], 256);
}

Test(vhost_user_msg, layouts_are_those_of_the_specification)
{
	cr_expect_eq(sizeof(struct vhost_user_mem_region), 32);
	cr_expect_eq(sizeof(struct vhost_user_mem_reg), 40);
	cr_expect_eq(offsetof(struct vhost_user_memory, region), 8);
	cr_expect_eq(offsetof(struct vhost_user_config_space, region), VHOST_USER_CONFIG_HDR);
	cr_expect_eq(sizeof(struct vhost_vring_addr), 40);
	cr_expect_eq(sizeof(struct vhost_vring_state), 8);
}

Test(vhost_user_msg, two_messages_are_read_one_at_a_time)
{
	struct vhost_user_msg empty = {.request = VHOST_USER_SET_OWNER, .flags = VHOST_USER_VERSION};

	vhost_user_send(sv[0], &empty, NULL, 0, in_ms(100));
	vhost_user_send(sv[0], &num, NULL, 0, in_ms(100));
	cr_assert_eq(vhost_user_read(sv[1], &in), 1);
	cr_expect_eq(in.msg.request, VHOST_USER_SET_OWNER);
	vhost_user_reader_clear(&in);
	cr_assert_eq(vhost_user_read(sv[1], &in), 1);
	cr_expect_eq(in.msg.state.num, 256);
	vhost_user_reader_clear(&in);
	cr_expect_eq(vhost_user_read(sv[1], &in), 0);
}

Test(vhost_user_msg, descriptors_come_in_order_and_close_on_exec)
{
	int fds[2] = {open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY)};
	char c = 1;

	cr_assert_eq(vhost_user_send(sv[0], &num, fds, 2, in_ms(100)), 0);
	cr_assert_eq(vhost_user_read(sv[1], &in), 1);
	cr_assert_eq(in.nfds, 2);
	cr_expect_eq(read(in.fd[1], &c, 1), 1);
	cr_expect(fcntl(in.fd[0], F_GETFD) & FD_CLOEXEC);
	close(fds[0]);
	close(fds[1]);
}

Test(vhost_user_msg, an_end_in_the_midst_of_a_message_is_an_end)
{
	cr_assert_eq(write(sv[0], &num, 7), 7);
	shutdown(sv[0], SHUT_WR);
	cr_expect_eq(vhost_user_read(sv[1], &in), -ECONNRESET);
}

Test(vhost_user_msg, a_payload_of_the_largest_size_fits_and_a_larger_does_not)
{
	struct vhost_user_msg m = {.request = 1, .flags = VHOST_USER_VERSION, .size = VHOST_USER_MAX_PAYLOAD};

	cr_assert_eq(vhost_user_send(sv[0], &m, NULL, 0, in_ms(100)), 0);
	cr_expect_eq(vhost_user_read(sv[1], &in), 1);
	vhost_user_reader_clear(&in);
	m.size++;
	cr_assert_eq(write(sv[0], &m, VHOST_USER_HDR_LEN), VHOST_USER_HDR_LEN);
	cr_expect_eq(vhost_user_read(sv[1], &in), -EPROTO);
}

Test(vhost_user_msg, sending_to_who_reads_nothing_ends_at_the_deadline)
{
	const uint64_t before = clock_ns(CLOCK_MONOTONIC);
	int rc = 0;

	while (!rc)
		rc = vhost_user_send(sv[0], &num, NULL, 0, in_ms(20));
	cr_expect_eq(rc, -ETIMEDOUT);
	cr_expect_lt(clock_ns(CLOCK_MONOTONIC) - before, 5000000000u);
}

Test(vhost_user_msg, sending_to_who_has_gone_is_no_signal)
{
	close(sv[1]);
	sv[1] = -1;
	cr_expect_eq(vhost_user_send(sv[0], &num, NULL, 0, in_ms(20)), -EPIPE);
}

Test(vhost_user_msg, a_line_says_what_a_message_does)
{
	char line[160];

	cr_expect_str_eq(vhost_user_msg_text(&num, 0, line, sizeof(line)), "SET_VRING_NUM queue=3 num=0x100");
	cr_expect_str_eq(vhost_user_msg_text(&(struct vhost_user_msg){.request = VHOST_USER_SET_VRING_KICK,
								      .flags = VHOST_USER_NEED_REPLY,
								      .size = 8,
								      .u64 = 2},
					     1, line, sizeof(line)),
			 "SET_VRING_KICK need_reply 0x2 fds=1");
	cr_expect_str_eq(vhost_user_msg_text(&(struct vhost_user_msg){.request = 77}, 0, line, sizeof(line)),
			 "?");
	cr_expect_eq(strlen(vhost_user_msg_text(&num, 9, line, 8)), 7, "a short buffer is kept to");
}

/* --- the in-flight buffer --- */

static int inflight(uint64_t offset, uint64_t size, off_t file)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_GET_INFLIGHT_FD,
		.flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
		.size = sizeof(m.inflight),
		.inflight = {.mmap_size = size, .mmap_offset = offset, .num_queues = 1, .queue_size = 64},
	};
	struct vhost_user_inflight f = {.fd = -1};
	struct vhost_user_conn c;
	int fd = memfd_create("inflight", MFD_CLOEXEC), rc;

	cr_assert_eq(ftruncate(fd, file), 0);
	vhost_user_conn_init(&c, 100);
	c.fd = dup(sv[0]);
	c.broken = 0;
	vhost_user_conn_begin(&c);
	cr_assert_eq(vhost_user_send(sv[1], &m, &fd, 1, in_ms(100)), 0);
	rc = vhost_user_inflight_get(&f, &c, 1, 64);
	cr_expect_eq(f.fd >= 0, !rc);
	vhost_user_inflight_drop(&f);
	vhost_user_conn_close(&c);
	close(fd);
	return rc;
}

Test(vhost_user_msg, a_buffer_that_lies_in_its_file_is_taken)
{
	cr_expect_eq(inflight(0, 4096, 4096), 0);
	cr_expect_eq(inflight(4096, 4096, 8192), 0);
}

Test(vhost_user_msg, a_buffer_that_does_not_is_refused)
{
	cr_expect_eq(inflight(0, 4097, 4096), -EPROTO);
	cr_expect_eq(inflight(1, 4096, 4096), -EPROTO);
	cr_expect_eq(inflight(UINT64_MAX - 100, 4096, 4096), -EPROTO);
	cr_expect_eq(inflight(0, UINT64_MAX, 4096), -EPROTO);
	cr_expect_eq(inflight(0, 0, 4096), -EPROTO);
}

/* --- the socket --- */

Test(vhost_user_msg, who_listens_is_seen_without_connecting)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/vu-msg-%d.sock", getpid());
	cr_expect_not(vhost_user_somebody_listens(path));
	fd = vhost_user_listen(path, NULL);
	cr_assert_geq(fd, 0);
	cr_expect(vhost_user_somebody_listens(path));
	path[strlen(path) - 1] = '\0';
	cr_expect_not(vhost_user_somebody_listens(path), "nor is a name that begins alike");
	path[strlen(path)] = 'k';
	cr_expect_eq(vhost_user_accept(fd), -EAGAIN);
	close(fd);
	unlink(path);
}
