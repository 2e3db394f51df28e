/* How the guest ends, and who says so. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/layout_x86.h"
#include "vmm/machine_parts.h"

#define SETTLE_MS      50
#define PANIC_GRACE_MS 3000      /* for a kernel without pvpanic to print the rest and reset */
#define OOPS_GRACE_MS  1000      /* to print the rest, or to panic of it */
#define TAINT_DIED     (1u << 7) /* Linux: include/linux/panic.h */
#define TAINT_LOCKUP   (1u << 14)

bool machine_again(const struct machine *m)
{
	return m->cfg->reboot == REBOOT_AGAIN && !m->asked &&
	       (m->outcome == OUTCOME_RESET || m->outcome == OUTCOME_TRIPLE_FAULT);
}

static bool is_final(enum outcome outcome)
{
	return outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_BOOT_HANG || outcome == OUTCOME_SIGNAL ||
	       outcome == OUTCOME_QUIT;
}

void machine_end(struct machine *m, enum outcome outcome, int value)
{
	pthread_mutex_lock(&m->end_lock);
	/* A guest that is about to start anew must not outlive somebody's wish to end it. */
	if (m->outcome == OUTCOME_NONE || (machine_again(m) && is_final(outcome))) {
		m->outcome = outcome;
		m->value = value;
		evloop_quit(m->loop, 0); /* once a life: a late one would end the next */
	}
	pthread_mutex_unlock(&m->end_lock);
}

static void end_by_panic(struct machine *m)
{
	if (m->cfg->panic == PANIC_EXIT)
		machine_end(m, OUTCOME_PANIC, 0);
	else if (m->cfg->panic == PANIC_REBOOT)
		machine_end(m, OUTCOME_RESET, 0);
}

static void end_by_reset(struct machine *m, enum outcome outcome)
{
	if (m->panic_seen && m->cfg->panic == PANIC_EXIT)
		outcome = OUTCOME_PANIC;
	machine_end(m, outcome, 0);
}

static void stop_self(struct machine *m)
{
	/* The vCPU that wrote the register must not run on: nothing after a power-off is meant. */
	for (unsigned i = 0; i < m->inst->nvcpus; i++)
		vcpu_stop(&m->inst->vcpu[i]);
}

void machine_on_platform(void *opaque, enum platform_event event, uint8_t value)
{
	struct machine *m = opaque;

	switch (event) {
	case PLATFORM_POWER_OFF:
		machine_end(m, OUTCOME_POWER_OFF, 0);
		break;
	case PLATFORM_RESET:
		end_by_reset(m, OUTCOME_RESET);
		break;
	case PLATFORM_EXIT:
		/* For guests without our init.  The command's answer is its own, not what somebody wrote to a
		 * port. */
		if (m->command.channel)
			machine_end(m, OUTCOME_NO_ANSWER, 0);
		else
			machine_end(m, OUTCOME_ANSWER, value);
		break;
	case PLATFORM_PANIC:
		m->panic_seen = true;
		if (m->cfg->panic == PANIC_HANG)
			return;
		end_by_panic(m);
		break;
	case PLATFORM_CRASH_LOADED:
		log_guest("the guest's kernel panicked and starts its crash kernel");
		return;
	}
	stop_self(m);
}

void machine_on_reset_port(void *opaque)
{
	machine_on_platform(opaque, PLATFORM_RESET, 0);
}

void machine_on_vcpu_ended(void *opaque, unsigned index, enum vcpu_next why)
{
	struct machine *m = opaque;

	(void)index;
	switch (why) {
	case VCPU_SHUTDOWN:
		machine_end(m, OUTCOME_POWER_OFF, 0);
		break;
	case VCPU_RESET:
		end_by_reset(m, OUTCOME_TRIPLE_FAULT);
		break;
	case VCPU_MEMORY:
		machine_end(m, OUTCOME_MEMORY_LOST, 0);
		break;
	default:
		machine_end(m, OUTCOME_FAILED, 0);
		break;
	}
}

void machine_on_trouble(void *opaque, enum trouble kind)
{
	struct machine *m = opaque;

	m->seen[kind] = true;
	if (kind == TROUBLE_PANIC) {
		m->panic_seen = true;
		if (m->cfg->panic != PANIC_HANG)
			ev_timer_arm(&m->trouble, PANIC_GRACE_MS);
	} else if (m->cfg->oops == OOPS_FAIL && !m->panic_seen) {
		ev_timer_arm(&m->trouble, OOPS_GRACE_MS);
	}
}

void machine_on_trouble_timer(struct ev_timer *t)
{
	struct machine *m = container_of(t, struct machine, trouble);

	if (m->panic_seen)
		end_by_panic(m);
	else
		machine_end(m, m->seen[TROUBLE_OOPS] ? OUTCOME_OOPS : OUTCOME_SOFT_LOCKUP, 0);
}

void machine_judge(struct machine *m)
{
	const uint32_t taint = m->command.answer_ns ? m->command.how.taint : 0;

	if (m->outcome == OUTCOME_POWER_OFF && m->cfg->argv)
		m->outcome = OUTCOME_NO_ANSWER;
	if (m->outcome != OUTCOME_ANSWER && m->outcome != OUTCOME_POWER_OFF && m->outcome != OUTCOME_NO_ANSWER)
		return;
	if (m->seen[TROUBLE_PANIC] && m->cfg->panic == PANIC_EXIT)
		m->outcome = OUTCOME_PANIC;
	else if (m->cfg->oops == OOPS_FAIL && (m->seen[TROUBLE_OOPS] || taint & TAINT_DIED))
		m->outcome = OUTCOME_OOPS;
	else if (m->cfg->oops == OOPS_FAIL && (m->seen[TROUBLE_LOCKUP] || taint & TAINT_LOCKUP))
		m->outcome = OUTCOME_SOFT_LOCKUP;
}

void machine_detail(struct machine *m, const struct err *e, char *text, size_t size)
{
	char line[WORDS_LINE] = "";

	snprintf(text, size, "%s", m->outcome == OUTCOME_FAILED ? e->text : "");
	if (m->outcome == OUTCOME_NO_ANSWER)
		snprintf(text, size, "%s", *m->command.broken ? m->command.broken : m->command.complaint);
	if (m->outcome == OUTCOME_PANIC)
		console_trouble(m->console, TROUBLE_PANIC, line);
	if (m->outcome == OUTCOME_OOPS)
		console_trouble(m->console, TROUBLE_OOPS, line);
	if (m->outcome == OUTCOME_SOFT_LOCKUP)
		console_trouble(m->console, TROUBLE_LOCKUP, line);
	if (*line)
		snprintf(text, size, "%s", line);
	else if (m->outcome == OUTCOME_OOPS || m->outcome == OUTCOME_SOFT_LOCKUP)
		snprintf(text, size, "its taint says so (%#x)", m->command.how.taint);
}

void machine_on_timeout(struct ev_timer *t)
{
	machine_end(container_of(t, struct machine, timeout), OUTCOME_TIMEOUT, 0);
}

void machine_on_root_lost(void *opaque)
{
	machine_end(opaque, OUTCOME_BACK_END_LOST, 0);
}

void machine_on_boot_timeout(struct ev_timer *t)
{
	machine_end(container_of(t, struct machine, boot), OUTCOME_BOOT_HANG, 0);
}

void machine_on_settle(struct ev_timer *t)
{
	struct machine *m = container_of(t, struct machine, settle);

	if (devices_quiet(m->devices) || !machine_again(m))
		evloop_quit(m->loop, 0);
	else
		ev_timer_arm(t, SETTLE_MS);
}

bool machine_settle(struct machine *m)
{
	if (devices_quiet(m->devices))
		return true;
	log_guest("the guest starts anew when no back end can write to its memory any more");
	ev_timer_arm(&m->settle, SETTLE_MS);
	evloop_run(m->loop);
	ev_timer_arm(&m->settle, 0);
	return machine_again(m);
}

void machine_power_button(struct machine *m)
{
	struct vmevent *v = &m->inst->vm.event;

	v->ops->irq_line(v, LAYOUT_GSI_POWER, true);
	v->ops->irq_line(v, LAYOUT_GSI_POWER, false);
}

/* To the command, as if it ran here.  A guest that has none yet, or no more, just ends. */
static void forward_signal(struct machine *m, int sig)
{
	if (!channel_signal(m->command.channel, sig)) {
		machine_end(m, OUTCOME_SIGNAL, sig);
		return;
	}
	m->asked = true;
	log_msg(LOG_WARN, "%s: passed on to the command; once more ends the guest at once", strsignal(sig));
}

void machine_on_signal(struct ev_watch *w, uint32_t events)
{
	struct machine *m = container_of(w, struct machine, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP || info.ssi_signo == SIGQUIT || m->asked) {
		machine_end(m, OUTCOME_SIGNAL, (int)info.ssi_signo);
		return;
	}
	if (m->cfg->argv) {
		forward_signal(m, (int)info.ssi_signo);
		return;
	}
	m->asked = true;
	log_msg(LOG_WARN, "%s: pressed the guest's power button; once more ends it at once",
		strsignal((int)info.ssi_signo));
	machine_power_button(m);
}
