/* With KVM's interrupt controllers the first vCPU starts by itself and every other one waits for INIT and
 * SIPI inside KVM_RUN: the VMM starts all threads alike and the guest does the rest. */
#include "assume.h"

static void on_signal(int signal)
{
	(void)signal;
}

int main(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerspec in = {.it_value = {.tv_nsec = 100000000}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct kvm_mp_state state = {0};
	struct vm vm;
	timer_t timer;
	int ap;

	vm_init(&vm, true);
	ap = vm_add_vcpu(&vm, 1);
	VM_IOCTL(vm.vcpu, KVM_GET_MP_STATE, &state);
	if (state.mp_state != KVM_MP_STATE_RUNNABLE)
		fail("vCPU 0 is in state %u", state.mp_state);
	VM_IOCTL(ap, KVM_GET_MP_STATE, &state);
	if (state.mp_state != KVM_MP_STATE_UNINITIALIZED)
		fail("vCPU 1 is in state %u", state.mp_state);

	sigaction(SIGUSR1, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &in, NULL) < 0)
		fail("timer: %s", strerror(errno));
	/* EAGAIN is how KVM reports a wait that a signal ended; which of the two depends on its age. */
	if (ioctl(ap, KVM_RUN, 0) == 0 || (errno != EINTR && errno != EAGAIN))
		fail("KVM_RUN of a vCPU that waits for SIPI: %s", strerror(errno));
	VM_IOCTL(ap, KVM_GET_MP_STATE, &state);
	if (state.mp_state != KVM_MP_STATE_UNINITIALIZED)
		fail("vCPU 1 left its wait for state %u", state.mp_state);
	holds();
}
