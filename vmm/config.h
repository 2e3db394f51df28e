/* The command line as plain structs.  Nothing is opened here, so strings test it. */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/err.h"
#include "vmm/config_devices.h"

#define CONFIG_MAX_CPUS    1024
#define CONFIG_MAX_APPENDS 32
#define CONFIG_MAX_SHARES  8
#define CONFIG_MAX_ENV     256
#define CONFIG_MIN_MEM     (UINT64_C(16) << 20)
#define CONFIG_MAX_MEM     (UINT64_C(64) << 40) /* 46 address bits, the most x86-64 hosts have */

enum command {
	COMMAND_RUN,
	COMMAND_DOCTOR,
	COMMAND_CTL,
	COMMAND_EXPLAIN, /* as COMMAND_CTL, with "explain" for its argv */
	COMMAND_HELP,    /* print config_help(help_topic) and exit 0 */
	COMMAND_VERSION,
	COMMAND_COMPLETE /* print config_completion() */
};

struct mem_config {
	uint64_t size;          /* bytes, a multiple of 2 MiB (of the huge page size where given) */
	uint64_t hugepage_size; /* 0: ordinary pages; else 2 MiB or 1 GiB */
	const char *path;       /* a hugetlbfs mount or any directory to make the file in, or NULL: ours */
	bool share;             /* default: true */
	bool thp;               /* default: true; ordinary pages may be transparent huge ones */
	bool prealloc;          /* touch every page before the guest runs; implied by huge pages */
};

struct cpu_config {
	unsigned n;                       /* vCPUs */
	unsigned sockets, cores, threads; /* product == n; filled in by the parser where left out */
	unsigned npin;                    /* 0: not pinned */
	uint16_t pin[CONFIG_MAX_CPUS];    /* vCPU i runs on host CPU pin[i % npin] */
};

enum panic_action { PANIC_EXIT, PANIC_HANG, PANIC_REBOOT };
enum reboot_action { REBOOT_EXIT, REBOOT_AGAIN };
enum oops_action { OOPS_IGNORE, OOPS_FAIL };

/* A directory of the host's (or, as the root, an image), and where the guest finds it. */
struct share_config {
	const char *source;
	const char *path; /* in the guest, absolute */
	bool writable; /* --root: the source itself changes; default: an overlay in the guest's memory does */
};

/* What the guest's init makes of the guest before the command. */
struct guest_config {
	struct share_config root; /* source NULL: the initrd is the root */
	unsigned nshare;
	struct share_config share[CONFIG_MAX_SHARES];
	const char *modules; /* a directory with modules.dep, or above lib/modules; NULL: looked for */
	unsigned nenv;
	const char *env[CONFIG_MAX_ENV]; /* "K=V", or "K": with the value it has here */
	const char *cwd;                 /* NULL: as here where the root is the host's directory, else / */
	const char *user;                /* UID[:GID] or a name in the guest; NULL: root */
	bool input;                      /* --stdin: the command reads ours */
};

struct run_config {
	const char *kernel; /* an image or a build tree; NULL: the newest readable /boot/vmlinuz-* */
	const char *initrd; /* NULL: none given */
	const char *append[CONFIG_MAX_APPENDS];
	unsigned nappend;
	bool default_append; /* default: true */
	bool unpack;         /* unpack a bzImage's kernel here, not in the guest; default: true */
	struct mem_config mem;
	struct cpu_config cpu;
	struct devices_config dev;
	struct guest_config guest;
	uint64_t timeout_ms;      /* 0: none */
	uint64_t boot_timeout_ms; /* until our init says that it runs; 0: none */
	enum panic_action panic;
	enum oops_action oops;
	enum reboot_action reboot;
	const char *name;       /* the VM's, or NULL: from the process id */
	const char *control;    /* where the control socket shall be, or NULL: under its name */
	const char *log;        /* the console's output goes here as well, or NULL */
	bool stats;             /* print counters at the end ... */
	const char *stats_path; /* ... as JSON into this file, or NULL: text on stderr */
	const char *result;     /* how it went, as JSON, or NULL */
	const char *junit;      /* ... as JUnit's XML, or NULL */
	bool sandbox;           /* default: true */
	bool trace_control;     /* say each vhost ioctl, vhost-user message and vDPA call (lib/trace.h) */
	bool dry_run;
	char **argv; /* after "--", NULL-terminated; NULL: no command.  Points into main's argv */
	int argc;
};

struct ctl_config {
	const char *name;  /* a VM's, or the path of its socket */
	char *const *argv; /* what to ask for; points into main's argv, or to words */
	int argc;
	char *words[3];
};

struct doctor_config {
	bool json;
	const char *check; /* NULL: everything; else one check's name ("kvm"): silent when fine */
	bool ci;           /* what a CI job needs, with what mends it there; not together with check */
};

struct config {
	enum command command;
	const char *help_topic; /* "run", "devices", "doctor", ..., or NULL for the whole */
	bool verbose;
	struct run_config run;
	struct doctor_config doctor;
	struct ctl_config ctl;
	struct config_string *strings; /* copies that cfg owns; for config_free() */
};

/* Parses argv (not changed; its strings must outlive cfg; argv[argc] must be NULL).  Sets every
 * field of cfg, whatever was in it.  0, or -EINVAL with a sentence in e that names the option, what
 * was found, and what was expected (the nearest name for a misspelt one); -ENOMEM.
 * config_free(cfg) is due after either. */
int config_parse(struct config *cfg, int argc, char *const argv[], struct err *e);

/* Gives back what config_parse() copied; pointers in cfg are dead then.  More than once is fine. */
void config_free(struct config *cfg);

/* "512M", "3G", "1.5G": bytes; a bare number is MiB.  0 or -EINVAL (-ERANGE: too large). */
int config_parse_size(const char *text, uint64_t *bytes);

/* "60s", "500ms", "2m", "1h", "1.5"; a bare number is seconds.  Milliseconds into *ms, 0 included.
 * 0, -EINVAL, or -ERANGE (longer than a signed count of nanoseconds holds). */
int config_parse_duration(const char *text, uint64_t *ms);

/* Writes the command line that stands for cfg->run, quoted for a shell, defaults spelt out; parsed
 * again it gives the same cfg->run.  Returns its length as snprintf() does. */
int config_print_run(const struct config *cfg, char *buf, unsigned long size);

/* Help texts.  At most 80 columns and 24 lines each.  Any topic but the
 * known ones: the general text. */
const char *config_help(const char *topic);

/* Writes the bash completion script.  0, or -EIO when out did not take it. */
int config_completion(FILE *out);
#endif
