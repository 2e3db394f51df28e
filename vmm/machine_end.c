/* How the guest ends, and who says so. */
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/layout_x86.h"
#include "vmm/machine_parts.h"

#define SETTLE_MS      50
#define PANIC_GRACE_MS 3000 /* for a kernel without pvpanic to print the rest and reset */

bool machine_again(const struct machine *m)
{
	return m->cfg->reboot == REBOOT_AGAIN && !m->asked &&
	       (m->outcome == OUTCOME_RESET || m->outcome == OUTCOME_TRIPLE_FAULT);
}

static bool is_final(enum outcome outcome)
{
	return outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_SIGNAL || outcome == OUTCOME_QUIT;
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

void machine_on_panic_words(void *opaque)
{
	struct machine *m = opaque;

	m->panic_seen = true;
	if (m->cfg->panic != PANIC_HANG)
		ev_timer_arm(&m->panic, PANIC_GRACE_MS);
}

void machine_on_panic_timer(struct ev_timer *t)
{
	end_by_panic(container_of(t, struct machine, panic));
}

void machine_on_timeout(struct ev_timer *t)
{
	machine_end(container_of(t, struct machine, timeout), OUTCOME_TIMEOUT, 0);
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
	m->asked = true;
	log_msg(LOG_WARN, "%s: pressed the guest's power button; once more ends it at once",
		strsignal((int)info.ssi_signo));
	machine_power_button(m);
}
