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

/* modules.c: those of the lists that the initramfs has. */
void modules_load(void);

/* root.c: the root that the plan names in the place of the initramfs, shares in it. False: said why. */
bool root_enter(void);

/* power.c: a process that waits for the power button. */
void start_power_button(void);

/* command.c: both come back when it has ended. */
void command_mode(char *buf, size_t len);
void shell_mode(void);
int wait_for(pid_t pid);
#endif
