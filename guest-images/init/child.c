// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum stage { AT_EXEC, AT_CWD, AT_USER };

static struct user user;
static bool has_user;

void child_signals(void)
{
	static const int ours[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
}

bool child_prepare(bool shell)
{
	char *who = plan_value("user", 0), *env;

	has_user = who;
	if (who && !user_find(&user, who)) {
		complain("--user %s: the guest's /etc/passwd has no such user", who);
		return false;
	}
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", has_user ? user.home : "/root", 1);
	if (!has_user || *user.name)
		setenv("USER", has_user ? user.name : "root", 1);
	unsetenv("TERM"); /* the kernel's: "linux" */
	if (shell)
		setenv("TERM", "vt100", 1);
	for (int i = 0; (env = plan_value("env", i)); i++)
		putenv(env);
	return true;
}

struct child_failure child_become(const char *path, char **argv, const char *dir)
{
	const char *must = plan_value("chdir", 0), *perhaps = plan_value("cwd", 0);

	if (has_user) {
		int rc = user_become(&user);

		if (rc)
			return (struct child_failure){AT_USER, -rc};
	}
	if (must && chdir(must))
		return (struct child_failure){AT_CWD, errno};
	if (!must && (!perhaps || chdir(perhaps)) && (!dir || chdir(dir)))
		(void)!chdir("/");
	child_signals();
	execvp(path, argv);
	return (struct child_failure){AT_EXEC, errno};
}

int child_complain(const struct child_failure *f, char **argv)
{
	switch (f->stage) {
	case AT_CWD:
		complain("--cwd %s: %s", plan_value("chdir", 0), strerror(f->error));
		break;
	case AT_USER:
		complain("--user: cannot become %u:%u: %s", user.uid, user.gid, strerror(f->error));
		break;
	default:
		complain("%s: %s", argv[0], f->error == ENOENT ? "command not found" : strerror(f->error));
		if (f->error == ENOENT)
			return NOT_FOUND;
	}
	return CANNOT_EXECUTE;
}
