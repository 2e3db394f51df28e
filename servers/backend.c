/* #syscalls[server]: rt_sigprocmask rt_sigaction */
#include "servers/backend.h"

#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/backend_kind.h"

#define STATUS_FAILED 125

static const char help[] = "Usage: ringlet backend net|blk ...\n"
			   "Serves virtio devices of VMs by vhost-user or VDUSE.\n"
			   "  net   joins two cards, or one card to a tap\n"
			   "  blk   gives a file, a block device or memory as a disk\n"
			   "More on one of them: ringlet backend net --help\n";

static int run(const struct backend_kind *kind, int argc, char *const argv[])
{
	struct err e = {0};
	sigset_t set;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	rc = kind->run(argc, argv, &set, &e);
	if (rc > 0)
		fputs(kind->help, stdout);
	if (rc < 0)
		log_error("%s", e.text);
	return rc < 0 ? STATUS_FAILED : 0;
}

int backend_main(int argc, char *const argv[])
{
	static const struct backend_kind *const kinds[] = {&backend_net, &backend_blk};
	const char *name = argc ? argv[0] : "";

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(name, kinds[i]->name))
			return run(kinds[i], argc - 1, argv + 1);
	if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
		fputs(help, stdout);
		return 0;
	}
	log_error("backend: %s%s%s; expected net or blk\nRun: ringlet backend --help", *name ? "\"" : "nothing",
		  name, *name ? "\"" : " was said");
	return STATUS_FAILED;
}
