/* What `ringlet backend` refuses before it makes anything, and with which words. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "servers/backend_kind.h"

#define WORDS 4

struct refusal {
	const char *words[WORDS];
	const char *says;
};

static void refused(const struct backend_kind *kind, const struct refusal *r)
{
	char *argv[WORDS + 1] = {0};
	struct err e = {0};
	int argc = 0;

	while (argc < WORDS && r->words[argc]) {
		argv[argc] = strdup(r->words[argc]);
		argc++;
	}
	cr_assert_lt(kind->run(argc, argv, NULL, &e), 0, "%s", r->says);
	cr_assert(strstr(e.text, r->says), "\"%s\" is not in \"%s\"", r->says, e.text);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
}

/* One a process: options are kept from one to the next. */
#define Refuses(suite, name, backend, says_, ...)                                                              \
	Test(suite, name)                                                                                      \
	{                                                                                                      \
		refused(backend, &(struct refusal){.words = {__VA_ARGS__}, .says = says_});                    \
	}

TestSuite(server_backend, .timeout = 60);

Refuses(server_backend, a_card_without_an_end, &backend_net, "what is the other end of vn0?", "vduse=vn0");
Refuses(server_backend, a_card_with_two_names, &backend_net, "and not both", "vduse=vn0,path=/tmp/x,echo");
Refuses(server_backend, a_card_with_none, &backend_net, "path=SOCKET or vduse=NAME", "tap=tap0");
Refuses(server_backend, a_card_joined_with_itself, &backend_net, "both sockets are vn0", "vduse=vn0",
	"vduse=vn0");
Refuses(server_backend, a_card_of_two_pairs, &backend_net, "Leave out queues=2", "vduse=vn0,queues=2,echo");
Refuses(server_backend, a_second_card_of_two_pairs, &backend_net, "Leave out queues=2", "/tmp/x,queues=2",
	"vduse=vn0");
Refuses(server_backend, a_card_that_listens, &backend_net, "server= is of a socket",
	"vduse=vn0,server=off,echo");
Refuses(server_backend, a_card_of_no_name, &backend_net, "cannot be the name", "vduse=,echo");
Refuses(server_backend, a_card_of_a_name_that_is_taken, &backend_net, "not \"control\"", "vduse=control,echo");
Refuses(server_backend, a_disk_without_a_file, &backend_blk, "what is the disk behind vb0?", "vduse=vb0");
Refuses(server_backend, a_disk_with_two_names, &backend_blk, "and not both", "vduse=vb0,path=/tmp/x", "memory");
Refuses(server_backend, a_disk_with_none, &backend_blk, "path=SOCKET or vduse=NAME", "queues=2", "memory");
Refuses(server_backend, a_disk_that_listens, &backend_blk, "server= is of a socket", "vduse=vb0,server=on",
	"memory");
Refuses(server_backend, a_disk_of_a_path_as_name, &backend_blk, "cannot be the name", "vduse=/dev/vduse/vb0",
	"memory");
