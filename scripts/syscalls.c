/* Makes the filters of lib/confine.c of the list that scripts/syscalls.awk has made of the comments: runs when
 * Ringlet is built, so that starting a VM takes neither libseccomp nor its time.  Names of calls are
 * libseccomp's; ioctls and flags are known by the kernel's headers.  What is unknown to them ends the build. */
#include <asm/termbits.h>
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/vhost.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* The process's own number, put in when the filter is loaded. */
#define PID 0x52474c54

enum kind { K_all, K_main, K_vcpu, K_data, K_disk, K_console, K_slirp, K_connect, K_setup, K_server };

static const char *const kind_name[] = {"all",     "main",  "vcpu",    "data",  "disk",
					"console", "slirp", "connect", "setup", "server"};

/* A thread's filter holds for those that it starts as well. */
static const struct {
	enum kind who, starts;
} parents[] = {{K_main, K_vcpu}, {K_main, K_data}, {K_main, K_disk}, {K_main, K_console}, {K_data, K_disk}};

enum test { ALWAYS, EQUAL, SET, CLEAR, ERRNO };

static const struct rule {
	enum kind kind;
	const char *call;
	enum test test;
	unsigned arg;
	uint64_t value;
	const char *text, *file;
} rules[] = {
#define CALL(k, c, f)             {K_##k, #c, ALWAYS, 0, 0, #c, f},
#define CALL_ERRNO(k, c, e, f)    {K_##k, #c, ERRNO, 0, e, #c "=" #e, f},
#define CALL_IF(k, c, a, t, v, f) {K_##k, #c, t, a, (uint64_t)(v), #c ":" #a, f},
#define IOCTL(k, r, f)            {K_##k, "ioctl", EQUAL, 1, (uint32_t)(r), #r, f},
#include "syscalls.list"
};

#define NRULES (sizeof(rules) / sizeof(rules[0]))

static void die(const char *file, const char *what, const char *name)
{
	fprintf(stderr, "%s: #syscalls: %s: %s\n", file, what, name);
	exit(1);
}

static bool applies(const struct rule *r, enum kind kind)
{
	if (r->kind == K_all || r->kind == kind)
		return true;
	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++)
		if (parents[i].who == kind && parents[i].starts == r->kind)
			return true;
	return false;
}

static bool always(enum kind kind, const char *call)
{
	for (size_t i = 0; i < NRULES; i++)
		if (applies(&rules[i], kind) && rules[i].test == ALWAYS && !strcmp(rules[i].call, call))
			return true;
	return false;
}

static void add(scmp_filter_ctx ctx, const struct rule *r, int nr)
{
	struct scmp_arg_cmp cmp = {.arg = r->arg, .op = SCMP_CMP_EQ, .datum_a = r->value};
	int rc;

	if (r->test == SET || r->test == CLEAR) {
		cmp.op = SCMP_CMP_MASKED_EQ;
		cmp.datum_b = r->test == SET ? r->value : 0;
	}
	rc = seccomp_rule_add_array(ctx, r->test == ERRNO ? SCMP_ACT_ERRNO((uint32_t)r->value) : SCMP_ACT_ALLOW,
				    nr, r->test == EQUAL || r->test == SET || r->test == CLEAR, &cmp);
	if (rc && rc != -EEXIST)
		die(r->file, strerror(-rc), r->text);
}

static int number(const struct rule *r)
{
	int nr = seccomp_syscall_resolve_name(r->call);

	if (nr == __NR_SCMP_ERROR)
		die(r->file, "libseccomp knows no such call", r->call);
	return nr;
}

static void filter(enum kind kind)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int fd = memfd_create("filter", 0);
	struct sock_filter f[4096];
	ssize_t n;

	if (!ctx || fd < 0 || seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) ||
	    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2))
		die("libseccomp", "no filter", kind_name[kind]);
	for (size_t i = 0; i < NRULES; i++) {
		const struct rule *r = &rules[i];
		int nr = number(r);

		/* Negative: not on this architecture. */
		if (nr < 0 || !applies(r, kind) || (r->test != ALWAYS && always(kind, r->call)))
			continue;
		add(ctx, r, nr);
	}
	if (seccomp_export_bpf(ctx, fd) || lseek(fd, 0, SEEK_SET) || (n = read(fd, f, sizeof(f))) <= 0)
		die("libseccomp", "no filter", kind_name[kind]);
	printf("static struct sock_filter filter_%s[] = {\n", kind_name[kind]);
	for (size_t i = 0; i < (size_t)n / sizeof(f[0]); i++)
		printf("\t{%#x, %u, %u, %#x},\n", f[i].code, f[i].jt, f[i].jf, f[i].k);
	printf("};\n\n");
	close(fd);
	seccomp_release(ctx);
}

int main(void)
{
	printf("/* Made by scripts/syscalls.c of the comments beside the calls. */\n\n#define FILTER_PID "
	       "%#x\n\n",
	       PID);
	for (enum kind k = K_main; k <= K_connect; k++)
		filter(k);
	printf("static const char *const call_name[] = {\n");
	for (int nr = 0; nr < 1024; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

		if (name)
			printf("\t[%d] = \"%s\",\n", nr, name);
		free(name);
	}
	printf("};\n\nstatic const struct {\n\tunsigned request;\n\tconst char *name;\n} ioctl_name[] = {\n");
	for (size_t i = 0; i < NRULES; i++)
		if (!strcmp(rules[i].call, "ioctl") && rules[i].test == EQUAL)
			printf("\t{%#x, \"%s\"},\n", (unsigned)rules[i].value, rules[i].text);
	printf("};\n\nstatic const struct confine_rule rule[] = {\n");
	for (size_t i = 0; i < NRULES; i++)
		printf("\t{\"%s\", \"%s\", \"%s\"},\n", kind_name[rules[i].kind], rules[i].text, rules[i].file);
	printf("};\n");
	return 0;
}
