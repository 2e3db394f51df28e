#include "vmm/control_path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

int control_base(char *buf, size_t size)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0)
		n = snprintf(buf, size, "/run/ringlet");
	else if (run && *run == '/')
		n = snprintf(buf, size, "%s/ringlet", run);
	else
		n = snprintf(buf, size, "/tmp/ringlet-%u", (unsigned)geteuid());
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int control_socket_path(char *buf, size_t size, const char *name)
{
	char base[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int rc = control_base(base, sizeof(base));
	int n;

	if (rc)
		return rc;
	n = snprintf(buf, size, "%s/%s/control", base, name);
	return n < 0 || (size_t)n >= size || (size_t)n >= sizeof(base) ? -ENAMETOOLONG : 0;
}
