/* What glibc itself may call in any thread, here and in later versions: locks, memory, the end of a thread.
 * Memory is never made executable. */
/* #syscalls[all]: futex futex_waitv read write close madvise munmap mremap brk mmap:2!PROT_EXEC
 * mprotect:2!PROT_EXEC #syscalls[all]: rt_sigreturn rt_sigprocmask sigaltstack restart_syscall exit exit_group
 * tgkill:0==PID #syscalls[all]: getpid gettid clock_gettime clock_getres gettimeofday time clock_nanosleep
 * nanosleep sched_yield #syscalls[all]: sched_getaffinity sysinfo getuid geteuid getgid getegid getcpu
 * getrandom rseq set_robust_list fstat newfstatat uname poll ppoll #syscalls[main,data]: clone3=ENOSYS
 * clone:0&CLONE_THREAD -- then clone() is made, and its flags can be looked at */
/* Those that begin later do all this once more. */
/* #syscalls[main,data]: seccomp prctl:0==PR_SET_NO_NEW_PRIVS prctl:0==PR_CAPBSET_DROP prctl:0==PR_CAP_AMBIENT
 * capset #syscalls[main,data]: prctl:0==PR_CAPBSET_READ set_tid_address */
#include "lib/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "confine_filters.h"
#include "lib/cleanup.h"
#include "lib/log.h"

/* What a sanitizer does at its end (clone, ptrace) is on no list. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif
#define STATUS 125 /* the VMM's own failure (cli.md) */

static const struct {
	struct sock_filter *filter;
	size_t n;
} filters[THREAD_KINDS] = {
#define FILTER(x)                                                                                              \
	{                                                                                                      \
		filter_##x, ARRAY_SIZE(filter_##x)                                                             \
	}
	[THREAD_MAIN] = FILTER(main),       [THREAD_VCPU] = FILTER(vcpu),       [THREAD_DATA] = FILTER(data),
	[THREAD_DISK] = FILTER(disk),       [THREAD_CONSOLE] = FILTER(console), [THREAD_SLIRP] = FILTER(slirp),
	[THREAD_CONNECT] = FILTER(connect),
#undef FILTER
};

static void (*last_words)(void);
static _Atomic bool due, off;
static _Thread_local bool confined;
static _Thread_local enum thread_kind kind_of_this;

/* --- a call that is not allowed --- */

static uint32_t request_of(const void *context)
{
#if defined(__x86_64__)
	return (uint32_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RSI];
#else /* aarch64 */
	return (uint32_t)((const ucontext_t *)context)->uc_mcontext.regs[1];
#endif
}

static const char *name_of_ioctl(uint32_t request)
{
	for (size_t i = 0; i < ARRAY_SIZE(ioctl_name); i++)
		if (ioctl_name[i].request == request)
			return ioctl_name[i].name;
	return "of no name here";
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	const unsigned nr = (unsigned)info->si_syscall;
	const char *name = nr < ARRAY_SIZE(call_name) && call_name[nr] ? call_name[nr] : "of no name here";
	char line[512], detail[64] = "";

	(void)sig;
	if (last_words)
		last_words();
	if (nr == SYS_ioctl) {
		const uint32_t request = request_of(context);

		snprintf(detail, sizeof(detail), " with request %#x (%s)", request, name_of_ioctl(request));
	}
	snprintf(line, sizeof(line),
		 "\rringlet: sandbox: a thread of kind \"%s\" made the system call %u (%s)%s at %p, which is "
		 "not on "
		 "its list\n\rPlease report it; --sandbox off goes on without.\n",
		 thread_kind_name(kind_of_this), nr, name, detail, info->si_call_addr);
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		_exit(STATUS);
	_exit(STATUS);
}

/* --- one thread --- */

static int drop_capabilities(uint64_t keep, struct err *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/* Without the right to do this there is none that exec() could give back. */
	for (unsigned long cap = 0; cap < 64; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			break;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (keep && syscall(SYS_capget, &header, has))
		return err_set(e, -errno, "sandbox: capget: %s", strerror(errno));
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		has[i].permitted &= (uint32_t)(keep >> (32 * i));
		has[i].effective &= has[i].permitted;
		has[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, has))
		return err_set(e, -errno, "sandbox: capset: %s", strerror(errno));
	return 0;
}

int confine_keeping(enum thread_kind kind, uint64_t capabilities, struct err *e)
{
	const struct sock_fprog prog = {.len = (unsigned short)filters[kind].n, .filter = filters[kind].filter};
	int rc;

	kind_of_this = kind;
	if (off)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(e, -errno, "sandbox: no_new_privs: %s", strerror(errno));
	rc = drop_capabilities(capabilities, e);
	if (rc)
		return rc;
	confined = true;
	if (SANITIZED || !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		return 0;
	confined = false;
	return err_set(e, -errno,
		       "sandbox: this kernel or what confines us takes no filter of system calls: %s\n"
		       "To go on without: --sandbox off",
		       strerror(errno));
}

int confine_thread(enum thread_kind kind, struct err *e)
{
	return confine_keeping(kind, 0, e);
}

void confine_off(void)
{
	off = true;
}

bool confine_is_off(void)
{
	return off;
}

bool confine_is_due(void)
{
	return due;
}

bool confine_is_on(void)
{
	return confined;
}

static void begin_thread(enum thread_kind kind)
{
	struct err e = {0};

	if (!confine_thread(kind, &e))
		return;
	log_error("%s", e.text);
	_exit(STATUS); /* nobody waits for this thread's word, and it must not run free */
}

/* --- all of them --- */

int confine_begin(void (*last)(void), struct err *e)
{
	struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
	uint32_t action = SECCOMP_RET_TRAP;

	if (off)
		return 0;
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		return err_set(e, -errno,
			       "sandbox: this kernel or what confines us has no filters of system calls: %s\n"
			       "To go on without: --sandbox off",
			       strerror(errno));
	for (unsigned k = 0; k < THREAD_KINDS; k++)
		for (size_t i = 0; i < filters[k].n; i++)
			if (filters[k].filter[i].k == FILTER_PID &&
			    BPF_CLASS(filters[k].filter[i].code) == BPF_JMP)
				filters[k].filter[i].k = (uint32_t)getpid();
	last_words = last;
	sigaction(SIGSYS, &sa, NULL);
	thread_on_begin(begin_thread);
	due = true;
	return 0;
}

const struct confine_rule *confine_rules(size_t *n)
{
	*n = ARRAY_SIZE(rule);
	return rule;
}
