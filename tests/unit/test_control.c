#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/teardown.h"
#include "vmm/control.h"

static char dir[64];
static struct evloop *loop;
static pthread_t thread;
static struct control *control;
static int requests;

static int on_request(void *opaque, int argc, char *const argv[], struct errand_fds *fds, char *text,
		      size_t size)
{
	(void)fds;
	cr_expect_eq(opaque, &requests);
	requests++;
	if (!strcmp(argv[0], "refuse")) {
		snprintf(text, size, "no \"%s\"", argc > 1 ? argv[1] : "");
		return -EINVAL;
	}
	snprintf(text, size, "%d words\nand \xc3\xa9", argc);
	return 0;
}

static void *run(void *arg)
{
	(void)arg;
	evloop_run(loop);
	return NULL;
}

static int open_at(const char *path, struct err *e)
{
	const struct control_config c = {.path = path, .request = on_request, .opaque = &requests};

	return control_open(&control, loop, &c, e);
}

static void path_in_dir(char *path, const char *name)
{
	sprintf(path, "%s/%s", dir, name);
}

static void start(void)
{
	struct err e = {0};
	char path[128];

	path_in_dir(path, "s");
	cr_assert_eq(open_at(path, &e), 0, "%s", e.text);
	pthread_create(&thread, NULL, run, NULL);
}

static void setup(void)
{
	strcpy(dir, "/tmp/test_control.XXXXXX");
	cr_assert(mkdtemp(dir));
	loop = evloop_new();
	requests = 0;
}

static void teardown(void)
{
	char command[128];

	if (thread) {
		evloop_quit(loop, 0);
		pthread_join(thread, NULL);
		thread = 0;
	}
	control_close(control);
	control = NULL;
	evloop_free(loop);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_expect_eq(system(command), 0);
}

static int dial(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	const struct timeval patience = {.tv_sec = 10};

	path_in_dir(addr.sun_path, "s");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%s", strerror(errno));
	return fd;
}

/* What one gets for these bytes. */
static void ask(const char *bytes, size_t len, char *reply, size_t size)
{
	int fd = dial();
	size_t got = 0;
	ssize_t n;

	cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
	while ((n = recv(fd, reply + got, size - 1 - got, 0)) > 0)
		got += (size_t)n;
	reply[got] = '\0';
	close(fd);
}

TestSuite(control, .init = setup, .fini = teardown_once);

WholeTest(control, answers_on_one_line)
{
	const char request[] = "{\"args\":[\"a\",\"b\"]}\n";
	char reply[512];

	start();
	ask(request, strlen(request), reply, sizeof(reply));
	cr_expect_str_eq(reply, "{\"ok\":true,\"text\":\"2 words\\nand \xc3\xa9\"}\n");
}

WholeTest(control, tells_why_it_refuses)
{
	const char request[] = "{\"args\":[\"refuse\",\"\\\"x\"]}\n";
	char reply[512];

	start();
	ask(request, strlen(request), reply, sizeof(reply));
	cr_expect_str_eq(reply, "{\"ok\":false,\"text\":\"no \\\"\\\"x\\\"\"}\n");
}

WholeTest(control, survives_nonsense)
{
	static const char *const nonsense[] = {
		"\n",
		"{\n",
		"{\"args\":[]}\n",
		"{\"args\":[1]}\n",
		"{\"args\":\"x\"}\n",
		"[[[[\n",
		"\xff\xfe\x01\n",
		"null\n",
		"{\"args\":[\"a\",null]}\n",
	};
	char reply[512];

	start();
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		ask(nonsense[i], strlen(nonsense[i]), reply, sizeof(reply));
		cr_expect(strstr(reply, "\"ok\":false"), "%s: %s", nonsense[i], reply);
	}
	cr_expect_eq(requests, 0);
}

WholeTest(control, bounds_the_length_of_a_request)
{
	static char much[4096];
	char reply[512];

	start();
	memset(much, ' ', sizeof(much));
	ask(much, sizeof(much), reply, sizeof(reply));
	cr_expect(strstr(reply, "\"ok\":false"), "%s", reply);
}

WholeTest(control, serves_others_while_some_say_nothing)
{
	const char request[] = "{\"args\":[\"a\"]}\n";
	char reply[512];
	int idle[5];

	start();
	for (int i = 0; i < 5; i++)
		idle[i] = dial();
	ask(request, strlen(request), reply, sizeof(reply));
	cr_expect(strstr(reply, "\"ok\":true"), "%s", reply);
	for (int i = 0; i < 5; i++)
		close(idle[i]);
}

WholeTest(control, is_for_its_owner_alone)
{
	struct stat st;
	char path[128];

	start();
	path_in_dir(path, "s");
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
}

WholeTest(control, one_socket_has_one_owner)
{
	struct control *first;
	struct err e = {0};
	char path[128];

	path_in_dir(path, "s");
	cr_assert_eq(open_at(path, &e), 0, "%s", e.text);
	first = control;
	cr_expect_eq(open_at(path, &e), -EADDRINUSE);
	cr_expect(strstr(e.text, "--name"), "%s", e.text);
	cr_expect_eq(access(path, F_OK), 0, "the first one's socket is gone");
	control_close(first);
	cr_expect_neq(access(path, F_OK), 0, "the socket was left behind");
}

WholeTest(control, replaces_a_socket_that_was_left_behind)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct err e = {0};

	path_in_dir(addr.sun_path, "s");
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	cr_expect_eq(open_at(addr.sun_path, &e), 0, "%s", e.text);
}

WholeTest(control, leaves_a_file_alone_that_is_no_socket)
{
	struct err e = {0};
	char path[128];

	path_in_dir(path, "s");
	fclose(fopen(path, "w"));
	cr_expect_eq(open_at(path, &e), -EEXIST);
	cr_expect_eq(access(path, F_OK), 0);
}

WholeTest(control, refuses_a_path_that_no_socket_has)
{
	struct err e = {0};
	char path[256];

	memset(path, 'x', sizeof(path));
	path[255] = '\0';
	cr_expect_eq(open_at(path, &e), -ENAMETOOLONG);
}

WholeTest(control, names_are_plain)
{
	cr_expect(control_name_ok("vm-1.a_B"));
	cr_expect_not(control_name_ok(""));
	cr_expect_not(control_name_ok("."));
	cr_expect_not(control_name_ok(".."));
	cr_expect_not(control_name_ok("a/b"));
	cr_expect_not(control_name_ok("a b"));
	cr_expect_not(
		control_name_ok("0123456789012345678901234567890123456789012345678901234567890123456789"));
}

WholeTest(control, ports_lie_beside_a_socket_whose_path_was_given)
{
	struct err e = {0};
	char path[256], expected[256];

	start();
	path_in_dir(expected, "s.port-agent");
	cr_expect_eq(control_port_path(control, "agent", path, sizeof(path), &e), 0);
	cr_expect_str_eq(path, expected);
	cr_expect_eq(control_port_path(control, "agent", path, strlen(expected), &e), -ENAMETOOLONG);
	cr_expect(strstr(e.text, "port=agent:PATH"), "%s", e.text);
}

WholeTest(control, ports_lie_in_the_directory_of_a_name)
{
	char name[32];
	const struct control_config c = {.name = name, .request = on_request, .opaque = &requests};
	struct err e = {0};
	char path[256], expected[256];

	snprintf(name, sizeof(name), "test-%d", (int)getpid());
	setenv("XDG_RUNTIME_DIR", dir, 1); /* root has one of its own */
	cr_assert_eq(control_open(&control, loop, &c, &e), 0, "%s", e.text);
	cr_expect_eq(control_port_path(control, "agent", path, sizeof(path), &e), 0);
	snprintf(expected, sizeof(expected), "/ringlet/%s/port-agent", name);
	cr_expect(strstr(path, expected), "%s", path);
}
