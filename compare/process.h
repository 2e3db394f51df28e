/* Programs that a comparison starts: back ends, VMMs, tools.  None outlives this process, however it ends (each
 * dies with the thread that started it: so start them all on the main thread).  Each is in a session of its
 * own: a terminal's signals reach only this process.  While anything here waits, the output of all of them is
 * read, so that none blocks on it.  Main thread only. */
#ifndef COMPARE_PROCESS_H
#define COMPARE_PROCESS_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/err.h"

struct process;

#define PROCESS_MAX 64 /* at a time */

/* argv[0] "ringlet" is this very binary (/proc/self/exe).  stdin is /dev/null; stdout comes to process_line(),
 * stderr is kept (its end is told when something goes wrong).  cpu: where it may run, -1: anywhere.  0, or
 * -errno with a sentence in e (-ENOENT: there is no such program). */
int process_start(struct process **out, char *const argv[], int cpu, struct err *e);
pid_t process_pid(const struct process *p);
const char *process_name(const struct process *p); /* for sentences: "ringlet backend net" */

/* The next line of its stdout, without the newline (nor a CR before it, nor NUL bytes), *line valid until the
 * next call for this process.  1: a line; 0: stdout is at its end, or the process; -ETIMEDOUT; -ECANCELED:
 * process_interrupted().  Lines longer than 64 KiB are cut; of what nobody takes the last MiB is kept. */
int process_line(struct process *p, unsigned timeout_ms, const char **line);
/* What it has written to stderr so far, the last 4 KiB, no newline at its end; never NULL.  Valid until the
 * next call for this process. */
const char *process_complaint(struct process *p);
/* Waits for its end: its exit status, or 128 + signal.  -ETIMEDOUT, -ECANCELED.  What is left of its process
 * group is killed when it ends. */
int process_wait(struct process *p, unsigned timeout_ms);
/* SIGTERM, after grace_ms SIGKILL, waits, frees; no signal interrupts it.  What it had started is killed, too,
 * whatever session that is in.  NULL is fine. */
void process_stop(struct process *p, unsigned grace_ms);

/* Runs a short-lived tool to its end, all its output kept: 0; -ENOENT: there is no such program; -EIO: it
 * failed; the sentence in e has its words and the command.  Not interrupted by signals. */
int process_run(struct err *e, char *const argv[]);
#define PROCESS_RUN(e, ...) process_run(e, (char *const[]){__VA_ARGS__, NULL})
/* Is there such a program in PATH, or where a system's own tools are? */
bool process_exists(const char *program);

/* From now on all that is started, and what that starts in turn, is in a PID namespace that ends with this
 * process: not even one that is killed leaves something running, whose own children had been left behind. Takes
 * CAP_SYS_ADMIN, so host_new() calls it; where it is refused only that is lost.  Once.  0 or -errno. */
int process_confine(void);

/* Ctrl-C, SIGTERM, and SIGHUP unless that is ignored (nohup): from now on they make process_interrupted() true
 * and end waits; nothing else.  Once, before there is a second thread. */
void process_catch_signals(void);
bool process_interrupted(void);
#endif
