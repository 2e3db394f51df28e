// SPDX-License-Identifier: MIT
/*
 * PID 1 of a Ringlet guest, by its parts. It is either /init of our own initramfs or /ringlet/init in somebody
 * else's: it may rely on no file of the guest. Statically linked to musl; it must be small.
 */
#ifndef INIT_INIT_H
#define INIT_INIT_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "wire.h"

#define COMMAND_FILE "/ringlet/command" /* argv, each string ended by NUL */
#define PLAN_FILE    "/ringlet/plan" /* "KEY VALUE" lines, each ended by NUL: vmm/guest_plan.h has the keys */

#define CANNOT_EXECUTE 126
#define NOT_FOUND      127

/* main.c */
__attribute__((format(printf, 1, 2))) void complain(const char *fmt, ...);
__attribute__((noreturn)) void machine_stop(int how); /* RB_... of reboot(2) */

/* file.c: the file with a NUL behind its last byte, or NULL with errno set. Never freed: PID 1 reads a few
 * files once. */
char *read_whole(const char *path, size_t *len);
/* Strings one behind the other in buf; how many there are, at most max. */
int split_strings(char *buf, size_t len, char **strings, int max);

/* plan.c */
void plan_read(void);
/* The value of the index-th line with that key, or NULL. */
char *plan_value(const char *key, int index);

/* mounts.c */
void mount_at(const char *type, const char *dir, const char *options);
void mount_all(void);
void open_stdio(void);
void mount_more(void); /* in a root of our own making */
void name_host(void);

/* net.c: the loopback interface, and the card that the plan names. may_write: /etc/resolv.conf is nobody's. */
void net_up(bool may_write);

/* modules.c: those that the VMM has packed, then those of the lists that the initramfs has. */
void modules_load(void);

/* root.c: the root that the plan names in the place of the initramfs, shares in it. False: said why. */
bool root_enter(void);

/* ... and out of it again, before the VM ends: what was written is where it belongs. */
void root_leave(void);

/* settle.c: ends all other processes and brings what was written to its place. A process or a disk that does
 * not answer is waited for in vain for 10 s each, and told. */
void settle(void);

/* power.c: a process that waits for the power button. */
void start_power_button(void);

/* channel.c: frames to the VMM (wire.h). All of it does nothing where there is no way to it. */
extern int channel_fd;      /* does not block; -1: none */
extern bool channel_serial; /* slow, and with little room for what comes */
void channel_open(void);    /* says HELLO */
bool channel_idle(void);    /* all that was sent is out */
void channel_push(void);    /* what goes out without waiting */
void channel_flush(void);   /* waits */
void channel_send(enum wire_type type, const void *data, size_t len);
/* The same without a copy: room for a payload of len bytes, then what was put there goes, as much of it. */
uint8_t *channel_room(size_t len);
void channel_put(enum wire_type type, size_t len);

/* user.c */
struct user {
	const char *name, *home; /* "": has none */
	uid_t uid;
	gid_t gid, *groups;
	size_t ngroups;
};
/* UID[:GID] or a name, which is changed; false: the guest has no such user. */
bool user_find(struct user *u, char *who);
int user_become(const struct user *u); /* and our fds 0 to 2 theirs; 0 or -errno */

/* child.c: the process that becomes the command or the shell. */
void child_signals(void);
/* Sets the environment, also our own, before the fork. False: said why. */
bool child_prepare(bool shell);
/* After it, in dir unless the plan says where. Only comes back where it failed. */
struct child_failure {
	int stage, error; /* which of child_complain()'s sentences; errno */
};
struct child_failure child_become(const char *path, char **argv, const char *dir);
/* Says what had failed; the exit status for it. */
int child_complain(const struct child_failure *f, char **argv);

/* stdio.c: the command's stdin, stdout and stderr. */
struct stdio_ends {
	int fd[WIRE_STREAMS]; /* the command's */
};
bool stdio_open(struct stdio_ends *theirs);
/* Moves bytes until the command has ended and all that it wrote is with the VMM; its status as wait() has it.
 */
int stdio_serve(pid_t pid);

/* command.c: both come back when it has ended. */
void command_mode(char *buf, size_t len);
void shell_mode(void);
#endif
