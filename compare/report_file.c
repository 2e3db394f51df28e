#include "compare/report_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void forget(struct report_file *f)
{
	free(f->path);
	free(f->temporary);
	*f = (struct report_file){0};
}

int report_file_open(struct report_file *f, const char *path, struct err *e)
{
	int fd, r;

	*f = (struct report_file){.path = strdup(path)};
	if (!f->path || asprintf(&f->temporary, "%s.%d.part", path, (int)getpid()) < 0) {
		f->temporary = NULL;
		forget(f);
		return err_set(e, -ENOMEM, "%s: no memory", path);
	}
	/* Not through a link that somebody else put there. */
	unlink(f->temporary);
	fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd >= 0)
		f->out = fdopen(fd, "w");
	if (f->out)
		return 0;
	r = -errno;
	err_set(e, r, "%s cannot be written: %s; --out takes a directory that is there and may be written to",
		path, strerror(-r));
	if (fd >= 0) {
		close(fd);
		unlink(f->temporary);
	}
	forget(f);
	return r;
}

int report_file_close(struct report_file *f, struct err *e)
{
	int r = 0;

	if (ferror(f->out))
		r = -EIO;
	if (fclose(f->out) < 0 && (!r || errno == ENOSPC))
		r = -errno;
	f->out = NULL;
	if (!r && rename(f->temporary, f->path) < 0)
		r = -errno;
	if (r) {
		err_set(e, r, "%s cannot be written: %s", f->path, strerror(-r));
		unlink(f->temporary);
	}
	forget(f);
	return r;
}

void report_file_drop(struct report_file *f)
{
	if (!f->out)
		return;
	fclose(f->out);
	unlink(f->temporary);
	forget(f);
}
