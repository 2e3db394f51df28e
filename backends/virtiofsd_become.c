/* #syscalls[setup]: unshare mount open_tree mount_setattr move_mount fork setsid prctl execve */
/* What the child does between fork() and exec(): a mount namespace in which the directory is all there is to
 * serve. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/virtiofsd_parts.h"
#include "lib/cleanup.h"

static char *put(struct virtiofsd_command *cmd, unsigned *n, unsigned *texts, const char *before,
		 const char *word)
{
	char *text = cmd->text[(*texts)++];

	snprintf(text, sizeof(cmd->text[0]), "%s%s", before, word);
	cmd->argv[(*n)++] = text;
	return text;
}

static void put_word(struct virtiofsd_command *cmd, unsigned *n, const char *word)
{
	cmd->argv[(*n)++] = (char *)(uintptr_t)word;
}

/* A comma would end -o source=; the directory is called otherwise then, or refused. */
void virtiofsd_command(struct virtiofsd_command *cmd, const struct virtiofsd_config *c, const char *shared,
		       enum virtiofsd_cage cage)
{
	static const char *const cages[] = {"namespace", "chroot", "none"};
	unsigned n = 0, texts = 0;
	char fd[16];

	*cmd = (struct virtiofsd_command){0};
	snprintf(fd, sizeof(fd), "%d", VIRTIOFSD_FD);
	put(cmd, &n, &texts, "", c->program->path);
	put(cmd, &n, &texts, "--fd=", fd);
	if (c->program->kind == VIRTIOFSD_C) {
		put_word(cmd, &n, "-f");
		put_word(cmd, &n, "-o");
		put(cmd, &n, &texts, "source=", shared);
		put_word(cmd, &n, "-o");
		put(cmd, &n, &texts, "sandbox=", cages[cage]);
		put_word(cmd, &n, "-o");
		put(cmd, &n, &texts, "cache=", c->covered ? "always" : "auto");
		return;
	}
	put(cmd, &n, &texts, "--shared-dir=", shared);
	put(cmd, &n, &texts, "--sandbox=", cages[cage]);
	put(cmd, &n, &texts, "--cache=", c->covered ? "always" : "auto");
	if (c->covered && c->program->tells_submounts)
		put_word(cmd, &n, "--no-announce-submounts");
	if (!c->writable && c->program->can_read_only)
		put_word(cmd, &n, "--readonly");
}

static int write_text(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -errno;
	return 0;
}

/* A user namespace in which this user is root, and nobody else is known. */
static int enter_user(uid_t uid, gid_t gid)
{
	char map[64];
	int rc;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return -errno;
	snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
	rc = write_text("/proc/self/uid_map", map);
	if (!rc)
		rc = write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
	return rc ? rc : write_text("/proc/self/gid_map", map);
}

static int enter_namespace(void)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();

	if (uid)
		return enter_user(uid, gid);
	return unshare(CLONE_NEWNS) ? -errno : 0;
}

/* Some systems let everybody have a user namespace, but nobody do anything in it: there is no way back then, so
 * somebody else tries. */
static int try_namespace(void)
{
	int status = 0;
	pid_t pid;

	if (!geteuid())
		return 0;
	pid = fork();
	if (!pid)
		_exit(enter_namespace() || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	if (pid < 0)
		return -errno;
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -EPERM;
}

/* Over the directory itself; / cannot be covered, so that lies somewhere else, where what was there is not
 * needed. */
static const char *place_for(const char *source, const char *program)
{
	static const char *const empty[] = {"/mnt", "/media", "/srv", "/opt"};
	struct stat st;

	if (strcmp(source, "/"))
		return source;
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
		if (!stat(empty[i], &st) && S_ISDIR(st.st_mode) && strncmp(program, empty[i], strlen(empty[i])))
			return empty[i];
	return NULL;
}

/* Where the directory is then, or NULL with errno. */
static const char *make_mount(const char *source, const char *program, bool writable)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	const char *place = place_for(source, program);
	CLEANUP_FD int tree = -1;

	errno = ENOENT;
	if (!place || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return NULL;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, source,
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return NULL;
	if (!writable &&
	    syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &read_only, sizeof(read_only)))
		return NULL;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH))
		return NULL;
	return place;
}

static int run(const struct virtiofsd_config *c, const char *shared, enum virtiofsd_cage cage, struct err *e)
{
	struct virtiofsd_command cmd;

	virtiofsd_command(&cmd, c, shared, cage);
	execv(cmd.argv[0], cmd.argv);
	return err_set(e, -errno, "%s: %s", cmd.argv[0], strerror(errno));
}

static int refuse_commas(const char *source, struct err *e)
{
	return err_set(e, -EINVAL,
		       "a directory with a comma in its name cannot be served by the virtiofsd in C: %s",
		       source);
}

int virtiofsd_become(const struct virtiofsd_config *c, struct err *e)
{
	const bool rust = c->program->kind == VIRTIOFSD_RUST, root = geteuid() == 0;
	char source[PATH_MAX];
	const char *place;
	int rc;

	if (!realpath(c->source, source))
		return err_set(e, -errno, "%s: %s", c->source, strerror(errno));
	if (!rust && strchr(source, ','))
		return refuse_commas(source, e);
	/* In a user namespace all of the system's own files would be nobody's. */
	if (!root && !strcmp(source, "/") && (c->writable || c->program->can_read_only))
		return run(c, source, CAGE_NONE, e);
	rc = try_namespace();
	rc = rc ? rc : enter_namespace();
	if (!rc) {
		place = make_mount(source, c->program->path, c->writable);
		if (place)
			return run(c, place, CAGE_MOUNT, e);
		/* Before Linux 5.12 nobody can do that; what is left is its own word. */
		if (errno == ENOSYS && (c->writable || c->program->can_read_only))
			return run(c, source, strcmp(source, "/") ? CAGE_MOUNT : CAGE_CHROOT, e);
		return err_set(e, -errno, "%s cannot be mounted for the daemon: %s", source, strerror(errno));
	}
	if (!c->writable && !c->program->can_read_only)
		return err_set(e, rc,
			       "%s has no option to serve read-only, and making %s read-only for it is not "
			       "permitted (%s)\n"
			       "Run ringlet with sudo; or install virtiofsd 1.13 or later; or let the guest "
			       "write: %s,rw",
			       c->program->path, source, strerror(-rc), source);
	return run(c, source, root ? CAGE_CHROOT : CAGE_NONE, e);
}
