#include "servers/backend.h"

#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "servers/backend_blk.h"
#include "servers/backend_net.h"

#define STATUS_FAILED 125

static const char help[] = "Usage: ringlet backend net|blk ...\n"
			   "Serves virtio devices of VMs by vhost-user.\n"
			   "  net   joins two cards, or one card to a tap\n"
			   "  blk   gives a file, a block device or memory as a disk\n"
			   "More on one of them: ringlet backend net --help\n";

int backend_main(int argc, char *const argv[])
{
	const char *kind = argc ? argv[0] : "";

	if (!strcmp(kind, "net"))
		return server_net_main(argc - 1, argv + 1);
	if (!strcmp(kind, "blk"))
		return server_blk_main(argc - 1, argv + 1);
	if (!strcmp(kind, "-h") || !strcmp(kind, "--help")) {
		fputs(help, stdout);
		return 0;
	}
	log_error("backend: %s%s%s; expected net or blk\nRun: ringlet backend --help", *kind ? "\"" : "nothing",
		  kind, *kind ? "\"" : " was said");
	return STATUS_FAILED;
}
