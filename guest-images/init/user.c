// SPDX-License-Identifier: MIT
/* Who the command is: by the guest's own lists, read by ourselves (a static libc's would want the guest's). */
#include "init.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_GROUPS 64

/* The next field of a line of /etc/passwd or /etc/group. */
static char *field(char **line)
{
	char *text = strsep(line, ":");

	return text ? text : "";
}

static bool is_number(const char *s)
{
	return *s && s[strspn(s, "0123456789")] == '\0';
}

/* By number or by name, as u->name says; false: nobody. */
static bool find_user(struct user *u, const char *who)
{
	size_t len;
	char *list = read_whole("/etc/passwd", &len), *line;

	while (list && (line = strsep(&list, "\n"))) {
		char *name = field(&line), *uid, *gid;

		field(&line); /* the password */
		uid = field(&line);
		gid = field(&line);
		field(&line); /* comment */
		if (strcmp(is_number(who) ? uid : name, who) || !is_number(uid) || !is_number(gid))
			continue;
		u->name = name;
		u->uid = (uid_t)strtoul(uid, NULL, 10);
		u->gid = (gid_t)strtoul(gid, NULL, 10);
		u->home = field(&line);
		return true;
	}
	return false;
}

static bool is_member(char *members, const char *name)
{
	char *member;

	while ((member = strsep(&members, ",")))
		if (!strcmp(member, name))
			return true;
	return false;
}

static void find_groups(struct user *u)
{
	size_t len;
	char *list = read_whole("/etc/group", &len), *line;

	while (list && u->ngroups < MAX_GROUPS && (line = strsep(&list, "\n"))) {
		char *gid;

		field(&line);
		field(&line);
		gid = field(&line);
		if (is_number(gid) && is_member(field(&line), u->name))
			u->groups[u->ngroups++] = (gid_t)strtoul(gid, NULL, 10);
	}
}

bool user_find(struct user *u, char *who)
{
	static gid_t groups[MAX_GROUPS + 1];
	char *group = strchr(who, ':');

	if (group)
		*group++ = '\0';
	*u = (struct user){.name = "", .home = "/", .groups = groups};
	if (find_user(u, who)) {
		find_groups(u);
	} else if (is_number(who)) { /* a number needs no name */
		u->uid = (uid_t)strtoul(who, NULL, 10);
		u->gid = (gid_t)u->uid;
	} else {
		return false;
	}
	if (group)
		u->gid = (gid_t)strtoul(group, NULL, 10);
	return true;
}

int user_become(const struct user *u)
{
	/* Somebody else's pipes cannot be opened again as /dev/stdout. */
	for (int fd = 0; fd < 3; fd++)
		(void)!fchown(fd, u->uid, u->gid);
	if (setgroups(u->ngroups, u->groups) || setgid(u->gid) || setuid(u->uid))
		return -errno;
	return 0;
}
