/* What a comparison has on the host, and that it is gone with it.  Namespaces have no way back, so all that
 * enters them is done in children; where a check fails there, the child says so and ends with 1. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare/host.h"
#include "compare/process.h"
#include "lib/clock.h"
#include "tests/unit/open_fds.h"

#define NOBODY 65534
#define HDR    10 /* struct virtio_net_hdr, as a tap has it when new */

TestSuite(compare_host, .timeout = 100);

static void __attribute__((format(printf, 3, 4), noreturn))
failed(int line, const char *what, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: %s: ", __FILE__, line, what);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}

#define CHECK(condition, ...)                                                                                  \
	do {                                                                                                   \
		if (!(condition))                                                                              \
			failed(__LINE__, #condition, " " __VA_ARGS__);                                         \
	} while (0)

static void in_child(void (*fn)(void))
{
	const pid_t pid = fork();
	int status;

	cr_assert_geq(pid, 0);
	if (!pid) {
		fn();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && !WEXITSTATUS(status), "%#x", (unsigned)status);
}

static void need_root(void)
{
	if (geteuid())
		cr_skip_test("takes root");
}

static struct host enter(void)
{
	struct err e = {0};
	struct host h;

	CHECK(!host_new(&h, &e), "%s", e.text);
	return h;
}

/* --- a tap and what is seen on it --- */

static int open_tap(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = HOST_TAP};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	CHECK(fd >= 0);
	CHECK(!ioctl(fd, TUNSETIFF, &ifr), "%s", strerror(errno));
	return fd;
}

static int tap_of_kind(struct host *h, enum host_tap kind)
{
	struct err e = {0};

	CHECK(!host_tap_new(h, kind, &e), "%s", e.text);
	return open_tap();
}

/* Of a frame within ms; 0: none came. */
static ssize_t receive(int fd, unsigned char *frame, size_t size, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1 ? read(fd, frame, size) : 0;
}

static const unsigned char who_has_host[HDR + 42] = {
	[HDR] = 0xff,
	0xff,
	0xff,
	0xff,
	0xff,
	0xff,
	0x52,
	0x54,
	0,
	0x12,
	0x34,
	0x56,
	8,
	6,
	0,
	1,
	8,
	0,
	6,
	4,
	0,
	1,
	0x52,
	0x54,
	0,
	0x12,
	0x34,
	0x56,
	10,
	0,
	2,
	15,
	0,
	0,
	0,
	0,
	0,
	0,
	10,
	0,
	2,
	2,
};

static void send_frame(int fd)
{
	CHECK(write(fd, who_has_host, sizeof(who_has_host)) == sizeof(who_has_host), "%s", strerror(errno));
}

static void check_address(void)
{
	struct host h = enter();
	int fd = tap_of_kind(&h, HOST_TAP_ADDRESS);
	unsigned char frame[2048];
	const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
	bool answered = false;
	struct sockaddr_in lo = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	while (!answered && clock_ns(CLOCK_MONOTONIC) - begin < 5000000000u) {
		send_frame(fd); /* again: it has no carrier yet when it is opened */
		answered = receive(fd, frame, sizeof(frame), 200) >= HDR + 42 && frame[HDR + 12] == 8 &&
			   frame[HDR + 13] == 6 && frame[HDR + 21] == 2;
	}
	CHECK(answered, "nobody there is " HOST_ADDRESS);
	lo.sin_port = htons(9);
	CHECK(!connect(s, (struct sockaddr *)&lo, sizeof(lo)), "loopback is down");
	host_free(&h);
}

Test(compare_host, tap_with_an_address)
{
	need_root();
	in_child(check_address);
}

static void check_quiet(int fd)
{
	unsigned char frame[2048];
	ssize_t n = receive(fd, frame, sizeof(frame), 2500);

	CHECK(n <= 0, "%zd bytes, type %02x%02x", n, frame[HDR + 12], frame[HDR + 13]);
}

static void check_sink(void)
{
	struct host h = enter();
	int fd = tap_of_kind(&h, HOST_TAP_SINK);

	check_quiet(fd);
	for (int i = 0; i < 100; i++)
		send_frame(fd);
	check_quiet(fd);
	host_free(&h);
}

Test(compare_host, a_sink_says_nothing)
{
	need_root();
	in_child(check_sink);
}

static void check_back(void)
{
	struct host h = enter();
	int fd = tap_of_kind(&h, HOST_TAP_BACK);
	unsigned char frame[2048];

	check_quiet(fd);
	for (int i = 0; i < 100; i++) {
		ssize_t n;

		send_frame(fd);
		n = receive(fd, frame, sizeof(frame), 2000);
		CHECK(n == sizeof(who_has_host), "%zd", n);
		CHECK(!memcmp(frame + HDR, who_has_host + HDR, 42));
	}
	check_quiet(fd);
	host_free(&h);
}

Test(compare_host, frames_come_back)
{
	need_root();
	in_child(check_back);
}

static void check_anew(void)
{
	struct host h = enter();
	struct err e = {0};
	unsigned char frame[2048];
	unsigned fds;
	int fd;

	close(tap_of_kind(&h, HOST_TAP_BACK));
	fd = tap_of_kind(&h, HOST_TAP_SINK);
	send_frame(fd);
	CHECK(receive(fd, frame, sizeof(frame), 500) <= 0, "it is the one before");
	close(fd);
	fds = open_fds();
	for (int i = 0; i < 10; i++)
		close(tap_of_kind(&h, (enum host_tap)(i % 3)));
	CHECK(open_fds() == fds);
	host_tap_del(&h);
	CHECK(!if_nametoindex(HOST_TAP));
	host_tap_del(&h);
	setenv("PATH", "/nonexistent", 1);
	CHECK(!host_tap_new(&h, HOST_TAP_SINK, &e), "%s", e.text);
	host_free(&h);
	host_free(&h);
}

Test(compare_host, taps_are_made_anew)
{
	need_root();
	in_child(check_anew);
}

static void check_no_tun(void)
{
	struct host h = enter();
	struct err e = {0};

	CHECK(!mount("none", "/dev/net", "tmpfs", 0, NULL), "%s", strerror(errno));
	CHECK(host_tap_new(&h, HOST_TAP_SINK, &e) == -ENOENT);
	CHECK(strstr(e.text, "modprobe tun"), "%s", e.text);
}

Test(compare_host, no_tun_is_told)
{
	need_root();
	in_child(check_no_tun);
}

static void check_no_tools(void)
{
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"};
	struct host h = enter();
	struct err e = {0};

	setenv("PATH", "/nonexistent", 1);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
		if (!access(dirs[i], F_OK))
			CHECK(!mount("none", dirs[i], "tmpfs", 0, NULL), "%s", strerror(errno));
	CHECK(host_tap_new(&h, HOST_TAP_SINK, &e) == -ENOENT);
	CHECK(strstr(e.text, "by ip, ") && strstr(e.text, "iproute2"), "%s", e.text);
}

Test(compare_host, no_tools_are_told)
{
	need_root();
	in_child(check_no_tools);
}

/* --- files --- */

static void check_files(void)
{
	static unsigned char a[1 << 20], b[1 << 20];
	unsigned seen[256] = {0};
	struct host h = enter();
	struct err e = {0};
	char path[128], small[8];
	struct stat st;
	int fd;

	CHECK(!host_file_new(&h, "disk", (3 << 20) + 512, path, sizeof(path), &e), "%s", e.text);
	CHECK(!strncmp(path, h.dir, strlen(h.dir)) && !strcmp(path + strlen(h.dir), "/disk"), "%s", path);
	CHECK(!stat(path, &st) && st.st_size == (3 << 20) + 512 && st.st_blocks * 512 >= 3 << 20);
	fd = open(path, O_RDONLY);
	CHECK(pread(fd, a, sizeof(a), 0) == sizeof(a) && pread(fd, b, sizeof(b), 1 << 20) == sizeof(b));
	CHECK(memcmp(a, b, sizeof(a)));
	for (size_t i = 0; i < sizeof(a); i++)
		seen[a[i]]++;
	for (int i = 0; i < 256; i++)
		CHECK(seen[i] > 3500 && seen[i] < 4700, "%d: %u", i, seen[i]); /* 4096, and ten deviations */
	close(fd);
	CHECK(!host_file_new(&h, "disk", 512, path, sizeof(path), &e), "%s", e.text);
	CHECK(!stat(path, &st) && st.st_size == 512);
	CHECK(host_file_new(&h, "too-big", UINT64_C(1) << 46, path, sizeof(path), &e) == -ENOSPC, "%s", e.text);
	CHECK(strstr(e.text, "67108864 MiB, but ") && strstr(e.text, h.dir), "%s", e.text);
	CHECK(access(path, F_OK));
	CHECK(host_file_new(&h, "long-name", 512, small, sizeof(small), &e) == -ENAMETOOLONG);
	host_free(&h);
}

Test(compare_host, files_are_random)
{
	in_child(check_files);
}

/* --- inside and outside --- */

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	CHECK(d, "%s", dir);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void check_dir(void)
{
	char path[128], dir[64];
	struct host h = enter();
	struct stat before, st;

	CHECK(h.own_net && h.root);
	CHECK(!access("/tmp", F_OK) && strncmp(h.dir, "/tmp", 4) && strncmp(h.dir, "/dev/shm", 8), "%s", h.dir);
	CHECK(entries(h.dir) == 1); /* .outside */
	CHECK(!host_file_new(&h, "f", 4096, path, sizeof(path), NULL));
	CHECK(!stat(h.dir, &before));
	strcpy(dir, h.dir);
	host_free(&h);
	CHECK(access(path, F_OK));
	CHECK(!stat(dir, &st) && st.st_dev != before.st_dev);
	CHECK(!entries(dir), "that was not an empty directory");
}

Test(compare_host, the_directory_hides_nothing)
{
	need_root();
	in_child(check_dir);
}

static void check_outside(void)
{
	struct host h = enter();
	struct err e = {0};
	char *const show[] = {"ip", "link", "show", HOST_TAP, NULL};
	struct stat inside, now;
	unsigned fds;

	CHECK(!host_tap_new(&h, HOST_TAP_SINK, &e), "%s", e.text);
	CHECK(!stat("/proc/self/ns/net", &inside));
	fds = open_fds();
	CHECK(!process_run(&e, show), "%s", e.text);
	/* By what is started itself. */
	CHECK(PROCESS_RUN(&e, "sh", "-c", "nsenter --net=$" HOST_OUTSIDE " ip link show " HOST_TAP) == -EIO);
	CHECK(strstr(e.text, "does not exist"), "%s", e.text);
	CHECK(!PROCESS_RUN(&e, "sh", "-c", "nsenter --net=$" HOST_OUTSIDE " ip link show lo"), "%s", e.text);
	CHECK(!stat("/proc/self/ns/net", &now) && now.st_ino == inside.st_ino);
	CHECK(open_fds() == fds);
	host_free(&h);
}

Test(compare_host, tools_can_be_run_outside)
{
	need_root();
	in_child(check_outside);
}

/* --- when it is killed --- */

/* What the process under test has made, for those outside. */
struct made {
	char dir[64], file[128], mark[32];
	pid_t program;
	unsigned major, minor;
	ino_t net;
	bool ok;
};

static void make_all(int tell)
{
	struct made m = {0};
	struct host h = enter();
	struct process *p;
	struct err e = {0};
	struct stat st;
	char script[512];
	const char *line;
	char *argv[] = {"sh", "-c", script, NULL};

	CHECK(!host_tap_new(&h, HOST_TAP_BACK, &e), "%s", e.text);
	CHECK(!host_file_new(&h, "f", 1 << 20, m.file, sizeof(m.file), &e), "%s", e.text);
	snprintf(m.mark, sizeof(m.mark), "8998.%07d", (int)getpid());
	snprintf(script, sizeof(script),
		 "trap '' TERM HUP INT; exec 3<%s; setsid sleep %s & (setsid setsid sleep %s &)\necho ready; "
		 "exec sleep %s",
		 m.file, m.mark, m.mark, m.mark);
	CHECK(!process_start(&p, argv, -1, &e), "%s", e.text);
	CHECK(process_line(p, 10000, &line) == 1);
	m.program = process_pid(p);
	strcpy(m.dir, h.dir);
	CHECK(!stat(h.dir, &st));
	m.major = major(st.st_dev);
	m.minor = minor(st.st_dev);
	CHECK(!stat("/proc/self/ns/net", &st));
	m.net = st.st_ino;
	m.ok = true;
	open_tap(); /* as a VMM has it */
	CHECK(write(tell, &m, sizeof(m)) == sizeof(m));
	for (;;)
		pause();
}

/* Processes in this state, by what their /proc/PID has; -1: every one. */
enum what { MARK, MOUNT, NET };

static bool has(const struct made *m, enum what what, const char *pid)
{
	static char text[1 << 20];
	char path[300], mount[128];
	struct stat st;
	size_t len = 0;
	ssize_t n;
	int fd;

	if (what == NET) {
		snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
		return !stat(path, &st) && st.st_ino == m->net;
	}
	snprintf(path, sizeof(path), "/proc/%s/%s", pid, what == MARK ? "cmdline" : "mountinfo");
	fd = open(path, O_RDONLY);
	while (fd >= 0 && len < sizeof(text) && (n = read(fd, text + len, sizeof(text) - len)) > 0)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	snprintf(mount, sizeof(mount), " %u:%u / %s ", m->major, m->minor, m->dir);
	return what == MARK ? !!memmem(text, len, m->mark, strlen(m->mark))
			    : !!memmem(text, len, mount, strlen(mount));
}

static unsigned count(const struct made *m, enum what what)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(d)))
		n += isdigit((unsigned char)entry->d_name[0]) && has(m, what, entry->d_name);
	closedir(d);
	return n;
}

static unsigned comes_to(const struct made *m, enum what what, unsigned wanted)
{
	unsigned n = count(m, what);

	for (int i = 0; i < 500 && n != wanted; i++) {
		usleep(10000);
		n = count(m, what);
	}
	return n;
}

/* As on hosts where mounts are seen by all: in a namespace of the test's own. */
static void share_mounts(void)
{
	cr_assert_eq(unshare(CLONE_NEWNS), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0); /* from what is outside of it */
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
}

static void killed_by(int signal)
{
	unsigned links = 0, links_after = 0;
	struct if_nameindex *names;
	struct made m;
	int fds[2], status, program;
	pid_t parent;

	need_root();
	share_mounts();
	for (names = if_nameindex(); names[links].if_index; links++)
		;
	cr_assert_eq(pipe(fds), 0);
	parent = fork();
	if (!parent)
		make_all(fds[1]);
	close(fds[1]);
	cr_assert_eq(read(fds[0], &m, sizeof(m)), sizeof(m));
	cr_assert(m.ok);
	program = pidfd_open(m.program, 0);
	cr_assert_geq(program, 0);

	/* It is there ... */
	cr_expect_eq(comes_to(&m, MARK, 3), 3);
	cr_expect_eq(comes_to(&m, NET, 5), 5); /* those three, it, and the first of the PID namespace */
	cr_expect_eq(comes_to(&m, MOUNT, 5), 5);
	/* ... and not to be seen from here, */
	cr_expect_eq(if_nametoindex(HOST_TAP), 0);
	cr_expect_neq(access(m.file, F_OK), 0);
	cr_expect_eq(entries(m.dir), 0);
	/* and then it is nowhere. */
	kill(parent, signal);
	cr_assert_eq(waitpid(parent, &status, 0), parent);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == signal);
	cr_expect_eq(poll(&(struct pollfd){.fd = program, .events = POLLIN}, 1, 5000), 1);
	cr_expect_eq(comes_to(&m, MARK, 0), 0);
	cr_expect_eq(comes_to(&m, NET, 0), 0);
	cr_expect_eq(comes_to(&m, MOUNT, 0), 0);
	cr_expect_eq(if_nametoindex(HOST_TAP), 0);
	cr_expect_neq(access(m.file, F_OK), 0);
	cr_expect_eq(entries(m.dir), 0);
	if_freenameindex(names);
	for (names = if_nameindex(); names[links_after].if_index; links_after++)
		;
	cr_expect_eq(links_after, links);
	if_freenameindex(names);
	close(program);
	close(fds[0]);
}

Test(compare_host, nothing_is_left_by_one_that_is_killed)
{
	killed_by(SIGKILL);
}

Test(compare_host, nothing_is_left_by_one_that_is_interrupted_before_it_cares)
{
	killed_by(SIGINT);
}

/* --- users --- */

static void become_nobody(void)
{
	CHECK(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) && !setresuid(NOBODY, NOBODY, NOBODY));
}

/* With everything that a user needs, or with less where the kernel refuses user namespaces. */
static void check_user(void)
{
	struct host h;
	struct err e = {0};
	struct process *p;
	char path[128];
	const char *line;
	int rc;

	/* /dev/net/tun may be opened by all, as it is on most hosts. */
	CHECK(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount("none", "/dev/net", "tmpfs", 0, "mode=0755"));
	CHECK(!mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) && !chmod("/dev/net/tun", 0666));
	become_nobody();
	h = enter();
	CHECK(!h.root);
	CHECK(!host_file_new(&h, "f", 4096, path, sizeof(path), &e), "%s", e.text);
	rc = host_tap_new(&h, HOST_TAP_BACK, &e);
	if (!h.own_net) {
		CHECK(rc == h.refused && strstr(e.text, "run it as root"), "%s", e.text);
		host_free(&h);
		CHECK(access(path, F_OK));
		return;
	}
	CHECK(!rc, "%s", e.text);
	CHECK(h.refused == 0 && strncmp(h.dir, "/dev/shm", 8) && strncmp(h.dir, "/tmp", 4), "%s", h.dir);
	check_quiet(open_tap());
	CHECK(!process_start(&p, (char *[]){"sh", "-c", "cat /proc/$$/comm; id -u", NULL}, -1, &e), "%s",
	      e.text);
	CHECK(process_line(p, 10000, &line) == 1 && !strcmp(line, "sh"), "%s", line);
	CHECK(process_line(p, 10000, &line) == 1 && !strcmp(line, "0"), "%s", line);
	process_stop(p, 1000);
	host_free(&h);
}

Test(compare_host, a_user_has_a_namespace_of_his_own)
{
	need_root();
	in_child(check_user);
}

static void check_user_without_tun(void)
{
	struct host h;
	struct err e = {0};

	CHECK(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount("none", "/dev/net", "tmpfs", 0, "mode=0755"));
	CHECK(!mknod("/dev/net/tun", S_IFCHR | 0600, makedev(10, 200)));
	become_nobody();
	h = enter();
	CHECK(host_tap_new(&h, HOST_TAP_SINK, &e) < 0);
	CHECK(strstr(e.text, h.own_net ? "chmod 0666 /dev/net/tun" : "run it as root"), "%s", e.text);
	host_free(&h);
}

Test(compare_host, a_user_is_told_of_tun)
{
	need_root();
	in_child(check_user_without_tun);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) > 0, "%s: %s", path, strerror(errno));
	close(fd);
}

/* Where no namespaces are to be had there is still a directory. */
static void check_refused(void)
{
	char path[128], dir[64];
	struct err e = {0};
	struct host h;
	struct stat st;

	CHECK(!unshare(CLONE_NEWUSER));
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", "0 0 1");
	put("/proc/self/gid_map", "0 0 1");
	put("/proc/sys/user/max_net_namespaces", "0"); /* of this user namespace */
	h = enter();
	CHECK(!h.own_net && !h.root && h.refused == -ENOSPC, "%d", h.refused);
	CHECK(!strncmp(h.dir, "/dev/shm/ringlet-compare-", 25), "%s", h.dir);
	CHECK(!stat(h.dir, &st) && (st.st_mode & 0777) == 0700);
	CHECK(!host_file_new(&h, "f", 4096, path, sizeof(path), &e), "%s", e.text);
	CHECK(host_tap_new(&h, HOST_TAP_SINK, &e) == -ENOSPC);
	CHECK(strstr(e.text, "a network namespace of its own") && strstr(e.text, "CAP_SYS_ADMIN"), "%s",
	      e.text);
	strcpy(dir, h.dir);
	host_free(&h);
	CHECK(access(dir, F_OK), "%s is left", dir);
}

Test(compare_host, refused_namespaces_are_told_where_they_are_needed)
{
	need_root();
	in_child(check_refused);
}

/* --- with threads, descriptors --- */

static void check_descriptors(void)
{
	const unsigned before = open_fds();
	struct host h = enter();
	const unsigned after = open_fds();

	CHECK(after <= before + 2, "%u", after - before); /* the namespace outside, the first process */
	host_free(&h);
	CHECK(open_fds() <= before + 1);
}

Test(compare_host, descriptors_are_few)
{
	in_child(check_descriptors);
}

static void *nothing(void *arg)
{
	return arg;
}

static void check_threads(void)
{
	struct host h = enter();
	struct process *p;
	pthread_t t;

	CHECK(!process_start(&p, (char *[]){"true", NULL}, -1, NULL));
	CHECK(!process_wait(p, 10000));
	CHECK(!pthread_create(&t, NULL, nothing, NULL), "a second thread is refused");
	pthread_join(t, NULL);
	process_stop(p, 0);
	host_free(&h);
	CHECK(!PROCESS_RUN(NULL, "true"));
}

Test(compare_host, there_may_be_threads_afterwards)
{
	in_child(check_threads);
}
