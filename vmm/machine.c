#include "vmm/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vmm/crash.h"
#include "vmm/layout_x86.h"
#include "vmm/machine_parts.h"

#define FLUSH_MS   3000 /* without the reader taking anything */
#define TAIL_BYTES 3072

static int init_control(struct machine *m, struct err *e)
{
	const struct control_config c = {
		.name = m->cfg->name,
		.path = m->cfg->control,
		.request = machine_on_control,
		.errands = machine_errands,
		.opaque = m,
	};
	int rc = control_open(&m->control, m->loop, &c, e);

	if (!rc || m->cfg->name || m->cfg->control)
		return rc;
	/* Nobody asked for it, and a guest runs without. */
	log_info("%s", e->text);
	*e = (struct err){0};
	return 0;
}

static int init_devices(struct machine *m, struct err *e)
{
	const struct devices_console console = machine_virtio_console(m);

	int rc = devices_open(&m->devices, &m->cfg->dev, &m->mem, &console, e);

	rc = rc ? rc : machine_root_add(m->root, m->devices, e);
	return rc ? rc : machine_root_watch(m->root, m->loop, machine_on_root_lost, m, e);
}

/* One that our parent had ignored (nohup, a background job's Ctrl-C) stays so. */
static void watch_signal(sigset_t *set, int sig)
{
	struct sigaction sa;

	if (!sigaction(sig, NULL, &sa) && sa.sa_handler != SIG_IGN)
		sigaddset(set, sig);
}

static int init_loop(struct machine *m, struct err *e)
{
	sigset_t set;
	int rc;

	signal(SIGPIPE, SIG_IGN); /* a closed stdout is the console's business */
	sigemptyset(&set);
	watch_signal(&set, SIGTERM);
	watch_signal(&set, SIGINT);
	watch_signal(&set, SIGHUP);
	watch_signal(&set, SIGQUIT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	m->loop = evloop_new();
	if (!m->loop)
		return err_set(e, -errno, "event loop: %s", strerror(errno));
	m->signals.fn = machine_on_signal;
	m->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	rc = m->signals.fd < 0 ? -errno : evloop_add(m->loop, &m->signals, EPOLLIN);
	rc = rc ? rc : ev_timer_init(&m->timeout, m->loop, machine_on_timeout);
	rc = rc ? rc : ev_timer_init(&m->drain, m->loop, machine_on_drain);
	rc = rc ? rc : ev_timer_init(&m->boot, m->loop, machine_on_boot_timeout);
	rc = rc ? rc : ev_timer_init(&m->trouble, m->loop, machine_on_trouble_timer);
	rc = rc ? rc : ev_timer_init(&m->settle, m->loop, machine_on_settle);
	return rc ? err_set(e, rc, "event loop: %s", strerror(-rc)) : 0;
}

static int run(struct machine *m, struct err *e)
{
	struct rlimit files;
	int rc = sandbox_begin(&m->sandbox, m->cfg, e);

	rc = rc ? rc : machine_result_reserve(m, e);
	rc = rc ? rc : payload_open(&m->payload, m->cfg, e);
	rc = rc ? rc : machine_root_start(&m->root, m->cfg, &m->payload.root, e);
	/* A vCPU takes a file descriptor. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* What may take long comes before signals are the loop's. */
	rc = rc ? rc : guest_mem_init(&m->mem, &m->cfg->mem, LAYOUT_HOLE_START, LAYOUT_HOLE_END, e);
	rc = rc ? rc : init_loop(m, e);
	if (rc)
		return rc;
	crash_install(&m->mem);
	rc = machine_init_consoles(m, e);
	rc = rc ? rc : init_control(m, e);
	rc = rc ? rc : init_devices(m, e);
	rc = rc ? rc : machine_instance_new(m, e);
	rc = rc ? rc : machine_init_terminal(m, e);
	if (rc)
		return rc;
	if (m->cfg->timeout_ms)
		ev_timer_arm(&m->timeout, m->cfg->timeout_ms);
	for (;;) {
		rc = machine_instance_run(m, e);
		if (rc || !machine_again(m) || !machine_settle(m))
			return rc;
		machine_instance_free(m);
		m->value = machine_command_flush(m);
		if (m->value) {
			m->outcome = OUTCOME_SIGNAL;
			return 0;
		}
		machine_command_restart(m);
		m->outcome = OUTCOME_NONE;
		m->panic_seen = false;
		memset((void *)m->seen, 0, sizeof(m->seen));
		guest_mem_clear(&m->mem);
		console_flush(m->console, FLUSH_MS);
		console_watch_again(m->console);
		rc = machine_instance_new(m, e);
		if (rc)
			return rc;
		machine_on_room(m); /* the port that had refused input is gone */
	}
}

/* The console's end, for who has not seen it: with the console on the terminal the user has just read it. */
static void show_tail(const struct machine *m, const char *tail)
{
	if (!m->cfg->argv || !*tail)
		return;
	fprintf(stderr, "ringlet: the console's last lines:\n%s%s", tail,
		tail[strlen(tail) - 1] == '\n' ? "" : "\n");
	if (m->cfg->log)
		fprintf(stderr, "ringlet: all of it: %s\n", m->cfg->log);
}

static void fini(struct machine *m)
{
	if (m->has_terminal)
		terminal_fini(&m->terminal);
	console_free(m->console, 0); /* it was flushed */
	if (m->inst)
		machine_instance_free(m);
	devices_close(m->devices);
	machine_command_fini(m); /* when no device calls it any more */
	machine_root_stop(m->root);
	control_close(m->control);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	crash_install(NULL);
	guest_mem_fini(&m->mem);
	payload_close(&m->payload);
	ev_timer_fini(&m->timeout);
	ev_timer_fini(&m->drain);
	ev_timer_fini(&m->boot);
	ev_timer_fini(&m->trouble);
	ev_timer_fini(&m->settle);
	if (m->signals.fd >= 0)
		close(m->signals.fd);
	evloop_free(m->loop);
}

static int dry_run(struct machine *m, const struct config *cfg)
{
	CLEANUP_FREE char *line = NULL;
	unsigned long size = (unsigned long)config_print_run(cfg, NULL, 0) + 1;
	struct err e = {0};
	int rc = payload_open(&m->payload, m->cfg, &e);

	line = malloc(size);
	if (!rc && !line)
		rc = err_set(&e, -ENOMEM, "out of memory");
	if (rc) {
		log_error("%s", e.text);
	} else {
		config_print_run(cfg, line, size);
		printf("%s\n# kernel: %s (%s)\n# kernel command line: %s\n", line, m->payload.kernel_path,
		       m->payload.kernel.version[0] ? m->payload.kernel.version : "ELF", m->payload.cmdline);
	}
	if (!rc)
		machine_root_print(m->cfg, &m->payload.root, stdout);
	payload_close(&m->payload);
	return rc ? STATUS_FAILED : 0;
}

int machine_run(const struct config *cfg)
{
	struct machine m = {
		.cfg = &cfg->run,
		.started_ns = clock_ns(CLOCK_MONOTONIC),
		.end_lock = PTHREAD_MUTEX_INITIALIZER,
		.kvm_fd = -1,
		.mem.fd = -1,
		.signals.fd = -1,
		.timeout.watch.fd = -1,
		.drain.watch.fd = -1,
		.boot.watch.fd = -1,
		.trouble.watch.fd = -1,
		.settle.watch.fd = -1,
		.payload = {.kernel.fd = -1, .initrd_fd = -1},
	};
	struct err e = {0};
	char why[1536], detail[1024], line[8192], tail[TAIL_BYTES] = "";
	int status, sig;

	if (cfg->run.dry_run)
		return dry_run(&m, cfg);
	if (!cfg->run.kernel) { /* so little was said: say what was made of it */
		config_print_run(cfg, line, sizeof(line));
		fprintf(stderr, "# %s\n", line);
	}
	if (machine_result_begin(&m, cfg, &e) || run(&m, &e)) {
		terminal_restore();
		log_error("%s", e.text);
		m.outcome = OUTCOME_FAILED;
	}
	if (m.console)
		console_flush(m.console, FLUSH_MS);
	sig = machine_command_flush(&m);
	if (sig) {
		m.outcome = OUTCOME_SIGNAL;
		m.value = sig;
	}
	machine_judge(&m);
	machine_detail(&m, &e, detail, sizeof(detail));
	status = outcome_status(m.outcome, m.value, cfg->run.argv, detail, why, sizeof(why));
	terminal_restore();
	if (m.command.unread) {
		snprintf(why, sizeof(why), "the command's output could not all be written");
		status = status ? status : STATUS_FAILED;
	}
	if (why[0] && m.outcome != OUTCOME_FAILED)
		log_msg(LOG_ERROR, "%s", why);
	if (m.inst &&
	    (status == STATUS_NO_ANSWER ||
	     (m.outcome != OUTCOME_POWER_OFF && m.outcome != OUTCOME_ANSWER && m.outcome != OUTCOME_QUIT))) {
		console_tail(m.console, tail, sizeof(tail));
		show_tail(&m, tail);
	}
	if (machine_result_end(&m, cfg, status, why, tail[0] ? tail : NULL) && !status)
		status = STATUS_FAILED;
	fini(&m);
	return status;
}
