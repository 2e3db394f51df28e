/* Descriptors that "ringlet ctl" opens for a VM: errands are told, done, and what they brought is handed over.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "lib/log.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"
#include "tests/unit/who_has_gateway.h"
#include "vmm/control.h"
#include "vmm/errand.h"

static char dir[64], socket_path[128], file_path[128];
static struct evloop *loop;
static pthread_t thread;
static struct control *control;
static struct errands wanted;
static unsigned fds_before;
static _Atomic unsigned got, asked;
static char brought[64];
static bool take_all, name_them;
static const char *about;

static int on_request(void *opaque, int argc, char *const argv[], struct errand_fds *fds, char *text,
		      size_t size)
{
	int fd;

	(void)opaque;
	(void)argc;
	got = fds->n;
	while (take_all && (fd = errand_take(fds)) >= 0) {
		cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		if (read(fd, brought, sizeof(brought) - 1) < 0)
			brought[0] = '\0';
		close(fd);
	}
	snprintf(text, size, "%s done", argv[0]);
	return 0;
}

static void on_errands(void *opaque, int argc, char *const argv[], struct errands *out)
{
	(void)opaque;
	(void)argc;
	asked++;
	if (!strcmp(argv[0], "datapath"))
		*out = wanted;
}

static void *run(void *arg)
{
	(void)arg;
	evloop_run(loop);
	return NULL;
}

static void setup(void)
{
	struct control_config c = {.request = on_request, .errands = on_errands};
	struct err e = {0};
	FILE *f;

	log_set_level(LOG_ERROR);
	strcpy(dir, "/tmp/test_errand.XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(socket_path, sizeof(socket_path), "%s/control", dir);
	snprintf(file_path, sizeof(file_path), "%s/file", dir);
	f = fopen(file_path, "w");
	fputs("what is in it", f);
	fclose(f);
	fds_before = open_fds();
	loop = evloop_new();
	c.path = socket_path;
	cr_assert_eq(control_open(&control, loop, &c, &e), 0, "%s", e.text);
	pthread_create(&thread, NULL, run, NULL);
	take_all = name_them = true;
	about = "tap";
}

static void teardown(void)
{
	char command[128];

	evloop_quit(loop, 0);
	pthread_join(thread, NULL);
	control_close(control);
	evloop_free(loop);
	cr_expect_eq(open_fds(), fds_before);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_expect_eq(system(command), 0);
}

/* The user-mode network is this program again. */
__attribute__((constructor)) static void be_the_helper(int argc, char *argv[])
{
	if (slirp_helper_wanted(argc, argv))
		exit(slirp_helper_main(argc, argv));
}

TestSuite(errand, .init = setup, .fini = teardown_once, .timeout = 60);

static void want(enum errand_kind kind, const char *path, unsigned count)
{
	struct errand *r = &wanted.errand[wanted.n++];

	*r = (struct errand){.kind = kind, .count = count, .write = true};
	snprintf(r->path, sizeof(r->path), "%s", path);
}

static int client(const char *word)
{
	char words[512], *argv[] = {(char *)word, "net0", words, NULL};

	snprintf(words, sizeof(words), "%s", about);
	for (unsigned i = 0; i < wanted.n && name_them; i++)
		snprintf(words + strlen(words), sizeof(words) - strlen(words), ",path=%s",
			 wanted.errand[i].path);
	return control_client(socket_path, 3, argv);
}

WholeTest(errand, a_request_without_errands_brings_nothing)
{
	want(ERRAND_FILE, file_path, 1);
	cr_expect_eq(client("stats"), 0);
	cr_expect_eq(got, 0);
	cr_expect_eq(asked, 1);
}

WholeTest(errand, files_are_opened_as_often_as_asked)
{
	want(ERRAND_FILE, file_path, 3);
	cr_expect_eq(client("datapath"), 0);
	cr_expect_eq(got, 3);
	cr_expect_str_eq(brought, "what is in it");
}

WholeTest(errand, several_kinds_come_in_order)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/peer", dir);
	cr_assert_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(listener, 1), 0);
	want(ERRAND_SOCKET, addr.sun_path, 1);
	want(ERRAND_FILE, file_path, 1);
	take_all = false;
	cr_expect_eq(client("datapath"), 0);
	cr_expect_eq(got, 2, "what nobody takes is closed");
	close(listener);
}

/* Somebody has taken the VM over, and root asks it something. */
WholeTest(errand, what_the_command_does_not_name_is_not_opened)
{
	want(ERRAND_FILE, file_path, 1);
	name_them = false;
	cr_expect_eq(client("datapath"), 125);
	cr_expect_eq(got, 0);
	cr_expect_eq(asked, 1);
}

WholeTest(errand, the_kernels_vhost_and_taps_are_opened_for_commands_about_taps_only)
{
	static const enum errand_kind kinds[] = {ERRAND_FILE, ERRAND_TAP};

	name_them = false;
	about = "vhost-user,path=/run/net.sock";
	for (unsigned i = 0; i < 2; i++) {
		wanted.n = 0;
		want(kinds[i], i ? "" : "/dev/vhost-net", 1);
		cr_expect_eq(client("datapath"), 125);
	}
	cr_expect_eq(got, 0);
	cr_expect_eq(asked, 2, "each was refused after the first answer");
}

WholeTest(errand, what_cannot_be_opened_ends_the_command_here)
{
	char missing[160];

	snprintf(missing, sizeof(missing), "%s/missing", dir);
	want(ERRAND_FILE, file_path, 1);
	want(ERRAND_FILE, missing, 1);
	cr_expect_eq(client("datapath"), 1);
	cr_expect_eq(asked, 1, "the VM is not asked again");
}

WholeTest(errand, nobody_listens)
{
	struct errand_fds fds;
	struct err e = {0};

	want(ERRAND_SOCKET, "/nowhere/peer", 1);
	cr_expect_eq(errands_run(&wanted, &fds, &e), -ENOENT);
	cr_expect(strstr(e.text, "wait="));
	cr_expect_eq(fds.n, 0);
}

/* --- what other clients send --- */

static void raw(const char *line, unsigned n, char *reply, size_t size)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int null = open("/dev/null", O_RDONLY), fd = socket(AF_UNIX, SOCK_STREAM, 0);
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * ERRAND_FDS_MAX * sizeof(int))];
	} c = {0};
	struct iovec iov = {(char *)line, strlen(line)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t len = 0;
	ssize_t k;

	strcpy(addr.sun_path, socket_path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (n) {
		m.msg_control = c.buf;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)) + i * sizeof(int), &null, sizeof(null));
	}
	cr_assert_gt(sendmsg(fd, &m, 0), 0);
	while ((k = recv(fd, reply + len, size - 1 - len, 0)) > 0)
		len += (size_t)k;
	reply[len] = '\0';
	close(fd);
	close(null);
}

WholeTest(errand, one_that_opens_nothing_is_sent_on_none)
{
	char reply[512];

	want(ERRAND_FILE, file_path, 1);
	raw("{\"args\":[\"datapath\"]}\n", 0, reply, sizeof(reply));
	cr_expect(strstr(reply, "datapath done"), "%s", reply);
	cr_expect_eq(asked, 0);
}

WholeTest(errand, errands_are_told_in_words)
{
	char reply[1024];

	want(ERRAND_TAP, "tap7", 2);
	wanted.errand[0].mtu = 9000;
	raw("{\"args\":[\"datapath\"],\"opens\":true}\n", 0, reply, sizeof(reply));
	cr_expect(strstr(reply, "\"what\":\"tap\""), "%s", reply);
	cr_expect(strstr(reply, "\"path\":\"tap7\""), "%s", reply);
	cr_expect(strstr(reply, "\"count\":2"), "%s", reply);
	cr_expect(strstr(reply, "\"mtu\":9000"), "%s", reply);
	cr_expect_eq(got, 0);
}

WholeTest(errand, another_number_of_descriptors_is_refused)
{
	char reply[512];

	raw("{\"args\":[\"datapath\"],\"fds\":2}\n", 1, reply, sizeof(reply));
	cr_expect(strstr(reply, "\"ok\":false"), "%s", reply);
	raw("{\"args\":[\"datapath\"]}\n", 1, reply, sizeof(reply));
	cr_expect(strstr(reply, "\"ok\":false"), "%s", reply);
	raw("{\"args\":[\"datapath\"],\"fds\":-1}\n", 0, reply, sizeof(reply));
	cr_expect(strstr(reply, "\"ok\":false"), "%s", reply);
}

WholeTest(errand, too_many_descriptors_are_refused_and_closed)
{
	char reply[512];

	raw("{\"args\":[\"datapath\"],\"fds\":33}\n", ERRAND_FDS_MAX + 1, reply, sizeof(reply));
	cr_expect(strstr(reply, "more descriptors"), "%s", reply);
}

WholeTest(errand, descriptors_of_a_request_that_never_ends_are_closed)
{
	char reply[512];

	raw("{\"args\":", 3, reply, 1); /* hangs up before its line is whole */
	raw("{\"args\":[\"stats\"]}\n", 0, reply, sizeof(reply));
	cr_expect(strstr(reply, "stats done"));
}

/* --- a user-mode network --- */

static int run_user(const char *rules, struct errand_fds *fds, struct err *e)
{
	struct errands one = {.n = 1, .errand[0] = {.kind = ERRAND_USER, .count = 1, .mtu = 1400}};

	snprintf(one.errand[0].path, sizeof(one.errand[0].path), "%s", rules);
	return errands_run(&one, fds, e);
}

WholeTest(errand, a_user_network_is_started_and_ends_with_its_socket)
{
	struct errand_fds fds;
	struct err e = {0};
	unsigned char answer[2048];
	struct pollfd p = {.events = POLLIN};

	cr_assert_eq(run_user("", &fds, &e), 0, "%s", e.text);
	cr_assert_eq(fds.n, 1);
	p.fd = fds.fd[0];
	cr_assert_eq(send(p.fd, who_has_gateway, sizeof(who_has_gateway), MSG_NOSIGNAL),
		     sizeof(who_has_gateway));
	cr_assert_eq(poll(&p, 1, 10000), 1);
	cr_expect_geq(recv(p.fd, answer, sizeof(answer), MSG_DONTWAIT), 42);
	errand_close(&fds);
	for (unsigned i = 0; i < 500 && waitpid(-1, NULL, WNOHANG) == 0;
	     i++) /* unless it is not ours to reap */
		usleep(10000);
	cr_expect(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "the helper goes on");
}

WholeTest(errand, a_user_network_that_cannot_be)
{
	struct errand_fds fds;
	struct err e = {0};

	cr_expect_lt(run_user("tcp:no:such-22", &fds, &e), 0);
	cr_expect(*e.text, "no sentence");
	cr_expect_eq(fds.n, 0);
}
