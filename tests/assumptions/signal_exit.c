/* A signal ends KVM_RUN of a guest that never exits by itself, soon, in real mode and in ring 3. */
#include <pthread.h>

#include "assume.h"

GUEST(spin16, 16, "1:	jmp 1b\n");
GUEST(spin64, 64, "1:	jmp 1b\n");

static void on_signal(int signal)
{
	(void)signal;
}

static uint64_t sent_ns;

static void *kick_later(void *thread)
{
	sleep_ms(100);
	__atomic_store_n(&sent_ns, clock_ns(CLOCK_MONOTONIC), __ATOMIC_SEQ_CST);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

int main(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	pthread_t self = pthread_self(), kicker;
	uint64_t longest = 0;
	struct vm vm;

	vm_init(&vm, false);
	sigaction(SIGUSR1, &action, NULL);
	for (unsigned user = 0; user < 2; user++) {
		uint64_t took;
		int exit;

		if (user) {
			VM_LOAD(&vm, spin64);
			vm_enter_user64(&vm);
		} else {
			VM_LOAD(&vm, spin16);
			vm_enter_real(&vm);
		}
		__atomic_store_n(&sent_ns, 0, __ATOMIC_SEQ_CST);
		pthread_create(&kicker, NULL, kick_later, &self);
		exit = vm_run(&vm);
		took = clock_ns(CLOCK_MONOTONIC) - __atomic_load_n(&sent_ns, __ATOMIC_SEQ_CST);
		if (exit != -EINTR)
			fail("%s: %s", user ? "ring 3" : "real mode", vm_exit_text(&vm, exit));
		if (took > 500000000)
			fail("%s: KVM_RUN came back %llu ms after (or without) the signal",
			     user ? "ring 3" : "real mode", (unsigned long long)took / 1000000);
		pthread_join(kicker, NULL);
		if (took > longest)
			longest = took;
	}
	ok("%llu us", (unsigned long long)longest / 1000);
}
