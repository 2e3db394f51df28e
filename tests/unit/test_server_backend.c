/* What `ringlet backend` refuses before it makes anything, and with which words. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "servers/backend_blk.h"
#include "servers/backend_net.h"

#define REFUSED 125
#define WORDS   4

struct refusal {
	const char *words[WORDS];
	const char *says;
};

static void refused(int (*backend)(int argc, char *const argv[]), const struct refusal *r)
{
	char said[4096] = "", *argv[WORDS + 1] = {0};
	FILE *err;
	size_t n;
	int argc = 0;

	while (argc < WORDS && r->words[argc]) {
		argv[argc] = strdup(r->words[argc]);
		argc++;
	}
	cr_redirect_stderr();
	cr_assert_eq(backend(argc, argv), REFUSED, "%s", r->says);
	fflush(stderr);
	err = cr_get_redirected_stderr();
	n = fread(said, 1, sizeof(said) - 1, err);
	said[n] = '\0';
	cr_assert(strstr(said, r->says), "\"%s\" is not in \"%s\"", r->says, said);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
}

/* One a process: standard error is redirected once. */
#define Refuses(suite, name, backend, says_, ...)                                                              \
	Test(suite, name)                                                                                      \
	{                                                                                                      \
		refused(backend, &(struct refusal){.words = {__VA_ARGS__}, .says = says_});                    \
	}

TestSuite(server_backend, .timeout = 60);

Refuses(server_backend, a_card_without_an_end, server_net_main, "what is the other end of vn0?", "vduse=vn0");
Refuses(server_backend, a_card_with_two_names, server_net_main, "and not both", "vduse=vn0,path=/tmp/x,echo");
Refuses(server_backend, a_card_with_none, server_net_main, "path=SOCKET or vduse=NAME", "tap=tap0");
Refuses(server_backend, a_card_joined_with_itself, server_net_main, "both sockets are vn0", "vduse=vn0",
	"vduse=vn0");
Refuses(server_backend, a_card_of_two_pairs, server_net_main, "Leave out queues=2", "vduse=vn0,queues=2,echo");
Refuses(server_backend, a_second_card_of_two_pairs, server_net_main, "Leave out queues=2", "/tmp/x,queues=2",
	"vduse=vn0");
Refuses(server_backend, a_card_that_listens, server_net_main, "server= is of a socket",
	"vduse=vn0,server=off,echo");
Refuses(server_backend, a_card_of_no_name, server_net_main, "cannot be the name", "vduse=,echo");
Refuses(server_backend, a_card_of_a_name_that_is_taken, server_net_main, "not \"control\"",
	"vduse=control,echo");
Refuses(server_backend, a_disk_without_a_file, server_blk_main, "what is the disk behind vb0?", "vduse=vb0");
Refuses(server_backend, a_disk_with_two_names, server_blk_main, "and not both", "vduse=vb0,path=/tmp/x",
	"memory");
Refuses(server_backend, a_disk_with_none, server_blk_main, "path=SOCKET or vduse=NAME", "queues=2", "memory");
Refuses(server_backend, a_disk_that_listens, server_blk_main, "server= is of a socket", "vduse=vb0,server=on",
	"memory");
Refuses(server_backend, a_disk_of_a_path_as_name, server_blk_main, "cannot be the name", "vduse=/dev/vduse/vb0",
	"memory");
