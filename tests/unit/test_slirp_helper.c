/* The process that runs libslirp: what it holds, when it ends, what it survives. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "backends/slirp_process.h"
#include "tests/unit/who_has_gateway.h"

/* The helper is this program again. */
__attribute__((constructor)) static void be_the_helper(int argc, char *argv[])
{
	if (slirp_helper_wanted(argc, argv))
		exit(slirp_helper_main(argc, argv));
}

TestSuite(slirp_helper, .timeout = 60);

static struct slirp_process start(void)
{
	struct user_net_config cfg;
	struct slirp_process p;
	struct err e = {0};

	user_net_config_init(&cfg);
	cr_assert_eq(slirp_process_start(&p, &cfg, &e), 0, "%s", e.text);
	return p;
}

static void no_children_left(void)
{
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_expect_eq(errno, ECHILD);
}

/* Within 10 s. */
static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 10000) == 1;
}

/* Sends an ARP request and waits for its answer among whatever else comes. */
static bool answers(const struct slirp_process *p)
{
	unsigned char frame[2048];

	if (send(p->fd, who_has_gateway, sizeof(who_has_gateway), MSG_NOSIGNAL) < 0)
		return false;
	while (readable(p->fd)) {
		ssize_t n = recv(p->fd, frame, sizeof(frame), MSG_DONTWAIT);

		if (n <= 0)
			return false;
		if (n >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 2)
			return true;
	}
	return false;
}

static void read_proc(pid_t pid, const char *what, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	size_t len = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s", path);
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	close(fd);
}

Test(slirp_helper, answers_the_guest)
{
	struct slirp_process p = start();

	cr_expect(answers(&p));
	slirp_process_end(&p, 0, NULL);
	no_children_left();
}

Test(slirp_helper, ends_by_itself_when_the_socket_closes)
{
	struct slirp_process p = start();
	char how[SLIRP_PROCESS_HOW];

	slirp_process_end(&p, 10000, how);
	cr_expect_str_eq(how, "ended with status 0");
	cr_expect_eq(p.fd, -1);
	cr_expect_eq(p.pid, 0);
	no_children_left();
}

Test(slirp_helper, is_killed_when_it_does_not_end)
{
	struct slirp_process p = start();
	char how[SLIRP_PROCESS_HOW];

	kill(p.pid, SIGSTOP);
	slirp_process_end(&p, 5, how);
	cr_expect(strstr(how, "signal 9"), "%s", how);
	no_children_left();
}

/* What waits for room in the socket must still see its end. */
Test(slirp_helper, ends_while_the_port_takes_nothing)
{
	struct slirp_process p = start();
	char how[SLIRP_PROCESS_HOW];
	unsigned idle = 0;

	while (idle < 10) { /* until it reads no more because nobody reads its answers */
		if (send(p.fd, who_has_gateway, sizeof(who_has_gateway), MSG_DONTWAIT) < 0) {
			idle++;
			usleep(2000);
		} else {
			idle = 0;
		}
	}
	slirp_process_end(&p, 10000, how);
	cr_expect_str_eq(how, "ended with status 0");
}

/* Its parent is killed: the helper, now an orphan, comes to us and is reaped here. */
Test(slirp_helper, ends_when_its_parent_is_killed)
{
	struct slirp_process p;
	int fds[2], hold[2], status;
	pid_t parent;

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, hold), 0);
	parent = fork();
	if (!parent) {
		p = start();
		if (write(fds[1], &p, sizeof(p)) != sizeof(p))
			_exit(1);
		pause();
	}
	cr_assert_eq(read(fds[0], &p, sizeof(p)), sizeof(p));
	cr_assert_eq(kill(p.pid, 0), 0);
	kill(parent, SIGKILL);
	cr_assert_eq(waitpid(parent, &status, 0), parent);
	cr_assert_eq(waitpid(p.pid, &status, 0), p.pid);
	no_children_left();
}

/* The socket is not what tells it: somebody else holds the other end open. */
Test(slirp_helper, ends_with_its_parent_whoever_holds_the_socket)
{
	struct slirp_process p;
	int fds[2], status;
	pid_t parent, holder;

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	cr_assert_eq(pipe(fds), 0);
	parent = fork();
	if (!parent) {
		p = start();
		holder = fork();
		if (!holder)
			pause();
		if (write(fds[1], &p, sizeof(p)) != sizeof(p) ||
		    write(fds[1], &holder, sizeof(holder)) != sizeof(holder))
			_exit(1);
		pause();
	}
	cr_assert_eq(read(fds[0], &p, sizeof(p)), sizeof(p));
	cr_assert_eq(read(fds[0], &holder, sizeof(holder)), sizeof(holder));
	kill(parent, SIGKILL);
	cr_assert_eq(waitpid(parent, &status, 0), parent);
	cr_assert_eq(waitpid(p.pid, &status, 0), p.pid);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	kill(holder, SIGKILL);
	cr_assert_eq(waitpid(holder, &status, 0), holder);
}

/* --- what it holds --- */

Test(slirp_helper, has_none_of_the_parents_memory)
{
	int memfd = memfd_create("guest-ram", 0); /* even one that exec would pass on */
	size_t size = 1 << 20;
	struct slirp_process p;
	char *maps = malloc(size);
	void *ram;

	cr_assert_eq(ftruncate(memfd, 1 << 21), 0);
	ram = mmap(NULL, 1 << 21, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	cr_assert_neq(ram, MAP_FAILED);
	read_proc(getpid(), "maps", maps, size);
	cr_assert(strstr(maps, "guest-ram"), "the test itself must see it");
	p = start();
	read_proc(p.pid, "maps", maps, size);
	cr_expect_not(strstr(maps, "memfd:"), "%s", maps);
	cr_expect(strstr(maps, "libslirp"));
	slirp_process_end(&p, 0, NULL);
	free(maps);
	munmap(ram, 1 << 21);
	close(memfd);
}

Test(slirp_helper, has_its_socket_and_no_other_descriptor)
{
	int extra[20];
	struct slirp_process p;
	char path[300], link[256];
	struct dirent *d;
	DIR *dir;

	for (int i = 0; i < 20; i++)
		extra[i] = dup(STDERR_FILENO); /* not close-on-exec */
	p = start();
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)p.pid);
	dir = opendir(path);
	cr_assert(dir);
	while ((d = readdir(dir))) {
		int fd = atoi(d->d_name);
		ssize_t n;

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)p.pid, d->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = '\0';
		if (fd == STDIN_FILENO || fd == STDOUT_FILENO)
			cr_expect_str_eq(link, "/dev/null");
		else if (fd != STDERR_FILENO)
			cr_expect(fd == SLIRP_HELPER_FD && !strncmp(link, "socket:", 7), "%d %s", fd, link);
	}
	closedir(dir);
	slirp_process_end(&p, 0, NULL);
	for (int i = 0; i < 20; i++)
		close(extra[i]);
}

Test(slirp_helper, has_no_privileges)
{
	struct slirp_process p = start();
	char text[8192];

	read_proc(p.pid, "status", text, sizeof(text));
	cr_expect(strstr(text, "Name:\t" SLIRP_HELPER_NAME "\n"));
	cr_expect(strstr(text, "CapPrm:\t0000000000000000"));
	cr_expect(strstr(text, "CapEff:\t0000000000000000"));
	cr_expect(strstr(text, "CapInh:\t0000000000000000"));
	cr_expect(strstr(text, "CapAmb:\t0000000000000000"));
	cr_expect(strstr(text, "NoNewPrivs:\t1"));
	if (!geteuid()) {
		cr_expect(strstr(text, "Uid:\t65534\t65534\t65534\t65534"));
		cr_expect(strstr(text, "Gid:\t65534\t65534\t65534\t65534"));
	}
	read_proc(p.pid, "limits", text, sizeof(text));
	cr_expect(strstr(text, "Max core file size        0                    0 "), "%s", text);
	cr_expect_neq(getsid(p.pid), getsid(0), "the terminal's signals would reach it");
	slirp_process_end(&p, 0, NULL);
}

Test(slirp_helper, has_the_default_signals)
{
	struct slirp_process p;
	unsigned long long ignored;
	char text[8192];
	sigset_t all;

	signal(SIGUSR1, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	p = start();
	read_proc(p.pid, "status", text, sizeof(text));
	cr_expect(strstr(text, "SigBlk:\t0000000000000000"), "%s", text);
	cr_assert(strstr(text, "SigIgn:"));
	ignored = strtoull(strstr(text, "SigIgn:") + 7, NULL, 16) & INT32_MAX; /* the rest is the C library's */
	cr_expect_eq(ignored, 1u << (SIGPIPE - 1), "%#llx", ignored);
	slirp_process_end(&p, 0, NULL);
}

/* --- start --- */

static int listen_somewhere(int type, uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, len), 0);
	if (type == SOCK_STREAM)
		cr_assert_eq(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	*port = ntohs(a.sin_port);
	return fd;
}

static void check_port_in_use(int type, const char *protocol)
{
	struct user_net_config cfg;
	struct slirp_process p;
	struct err e = {0};
	char text[64];
	uint16_t port;
	int fd = listen_somewhere(type, &port);

	user_net_config_init(&cfg);
	snprintf(text, sizeof(text), "%s:127.0.0.1:%u-:22", protocol, port);
	cr_assert_eq(user_net_parse_hostfwd(text, &cfg.fwd[cfg.nfwd++], &e), 0, "%s", e.text);
	cr_expect_eq(slirp_process_start(&p, &cfg, &e), -EADDRINUSE);
	cr_expect_eq(e.code, -EADDRINUSE);
	snprintf(text, sizeof(text), "port 127.0.0.1:%u of the host: Address already in use", port);
	cr_expect(strstr(e.text, text), "%s", e.text);
	slirp_process_end(&p, 1000, NULL);
	no_children_left();
	close(fd);
}

Test(slirp_helper, tcp_port_in_use_is_told)
{
	check_port_in_use(SOCK_STREAM, "tcp");
}

Test(slirp_helper, udp_port_in_use_is_told)
{
	check_port_in_use(SOCK_DGRAM, "udp");
}

Test(slirp_helper, refuses_to_be_started_by_hand)
{
	char name[] = SLIRP_HELPER_NAME, *argv[] = {name, NULL};
	posix_spawn_file_actions_t files;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&files, SLIRP_HELPER_FD, "/dev/null", O_RDWR, 0);
	cr_assert_eq(posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%#x", status);
	posix_spawn_file_actions_destroy(&files);
}

/* --- what it survives --- */

static unsigned rnd_state = 12345;
static unsigned rnd(void)
{
	rnd_state = rnd_state * 1664525 + 1013904223;
	return rnd_state >> 8;
}

static void drain(int fd)
{
	unsigned char frame[2048];

	while (recv(fd, frame, sizeof(frame), MSG_DONTWAIT) > 0)
		;
}

static void throw_at(const struct slirp_process *p, const unsigned char *frame, size_t len)
{
	while (send(p->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
		drain(p->fd);
}

/* Every kind of frame it looks into, with every length that matters, filled with whatever. */
Test(slirp_helper, survives_frames_of_any_length)
{
	static const unsigned short types[] = {0x0800, 0x86dd, 0x0806, 0x88f8, 0x8100, 0};
	static unsigned char frame[65535];
	struct slirp_process p = start();

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (unsigned char)rnd();
	for (size_t t = 0; t < sizeof(types) / sizeof(*types); t++) {
		frame[12] = (unsigned char)(types[t] >> 8);
		frame[13] = (unsigned char)types[t];
		frame[14] = types[t] == 0x86dd ? 0x60 : 0x45;
		for (size_t len = 1; len <= sizeof(frame); len = len < 200 ? len + 1 : len * 9 / 8)
			throw_at(&p, frame, len);
		throw_at(&p, frame, sizeof(frame));
	}
	cr_expect(answers(&p));
	slirp_process_end(&p, 0, NULL);
}

/* IP headers that pass their own check and lie about everything after it. */
Test(slirp_helper, survives_headers_that_lie)
{
	struct slirp_process p = start();
	unsigned char f[1514];

	for (int i = 0; i < 2000; i++) {
		size_t len = 34 + rnd() % (sizeof(f) - 34);
		unsigned sum = 0;

		for (size_t k = 0; k < sizeof(f); k++)
			f[k] = (unsigned char)rnd();
		memcpy(f, who_has_gateway, 12);
		f[12] = 8;
		f[13] = 0;
		f[14] = rnd() % 4 ? 0x45 : (unsigned char)(0x40 | (rnd() & 15));
		f[16] = rnd() % 4 ? (unsigned char)((len - 14) >> 8) : (unsigned char)rnd();
		f[17] = (unsigned char)(len - 14);
		if (rnd() % 2)
			f[20] = f[21] = 0;
		f[23] = (unsigned char[]){1, 6, 17, 2}[rnd() % 4];
		f[26] = 10, f[27] = 0, f[28] = 2, f[29] = 15;
		f[30] = 10, f[31] = 0, f[32] = 2, f[33] = (unsigned char)(2 + rnd() % 2);
		f[24] = f[25] = 0;
		for (unsigned k = 0; k < (f[14] & 15u) * 4 && k + 14 < sizeof(f); k += 2)
			sum += (unsigned)(f[14 + k] << 8 | f[15 + k]);
		sum = (sum >> 16) + (sum & 0xffff);
		sum += sum >> 16;
		f[24] = (unsigned char)(~sum >> 8);
		f[25] = (unsigned char)~sum;
		throw_at(&p, f, len);
	}
	cr_expect(answers(&p));
	slirp_process_end(&p, 0, NULL);
}
