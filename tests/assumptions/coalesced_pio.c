/* Writes to a registered port wait in a ring instead of leaving KVM_RUN one by one: what makes a serial
 * console cheap.  Shown: no exit, order and width kept, a full ring is an ordinary exit, nothing gets
 * lost while another thread drains, also for string writes. */
#include <pthread.h>

#include "assume.h"

#define PORT 0x3f8
#define END  0x80
#define MANY 20000u

/* al counts; ecx writes, then the end port */
#define COUNTED(name, bits)                                                                                    \
	GUEST(name, bits,                                                                                      \
	      "	mov $0x3f8, %dx\n"                                                                             \
	      "1:	out %al, %dx\n"                                                                              \
	      "	inc %al\n"                                                                                     \
	      "	dec %ecx\n"                                                                                    \
	      "	jnz 1b\n"                                                                                      \
	      "	out %al, $0x80\n")
COUNTED(counted16, 16);
COUNTED(counted64, 64);
GUEST(string16, 16,
      "	mov $0x3f8, %dx\n"
      "	mov $0x2000, %si\n"
      "	cld\n"
      "	rep outsb\n"
      "	out %al, $0x80\n");
GUEST(read16, 16,
      "	mov $0x3f8, %dx\n"
      "	in %dx, %al\n");
GUEST(wide16, 16,
      "	mov $0x3f8, %dx\n"
      "	mov $0x44332211, %eax\n"
      "	out %al, %dx\n"
      "	out %ax, %dx\n"
      "	out %eax, %dx\n"
      "	out %al, $0x80\n");

static struct vm vm;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned received, from_ring;
static char wrong[120];

static void take(uint8_t byte)
{
	if (byte != (uint8_t)received && wrong[0] == '\0')
		snprintf(wrong, sizeof(wrong), "byte %u is %u", received, byte);
	received++;
}

/* Called with the lock held: the consumer side has one owner at a time. */
static void drain(void)
{
	struct kvm_coalesced_mmio_ring *ring = vm.ring;
	uint32_t first = ring->first;

	while (first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
		const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[first];

		if (entry->pio != 1 || entry->phys_addr != PORT || entry->len != 1)
			snprintf(wrong, sizeof(wrong), "entry %u: pio %u port 0x%llx len %u", received,
				 entry->pio, entry->phys_addr, entry->len);
		take(entry->data[0]);
		from_ring++;
		first = (first + 1) % RING_MAX;
		__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
	}
}

static bool drainer_stop;

static void *drainer(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&drainer_stop, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&lock);
		drain();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void begin(bool user, unsigned count)
{
	struct kvm_regs regs;

	if (user)
		vm_enter_user64(&vm);
	else
		vm_enter_real(&vm);
	VM_IOCTL(vm.vcpu, KVM_GET_REGS, &regs);
	regs.rcx = count;
	regs.rsi = 0;
	VM_IOCTL(vm.vcpu, KVM_SET_REGS, &regs);
	received = from_ring = 0;
}

/* Runs to the end port, taking what leaves as an exit after what waits before it. */
static unsigned run_to_end(const char *what, unsigned count)
{
	unsigned exits = 0;

	for (;;) {
		int exit = vm_run(&vm);

		pthread_mutex_lock(&lock);
		drain();
		if (vm_is_out(&vm, exit, PORT)) {
			exits++;
			for (unsigned i = 0; i < vm.run->io.count; i++)
				take(((const uint8_t *)vm.run + vm.run->io.data_offset)[i]);
		} else if (!vm_is_out(&vm, exit, END)) {
			fail("%s: %s after %u bytes", what, vm_exit_text(&vm, exit), received);
		}
		pthread_mutex_unlock(&lock);
		if (vm_is_out(&vm, exit, END))
			break;
	}
	if (wrong[0] != '\0')
		fail("%s: %s", what, wrong);
	if (received != count)
		fail("%s: %u of %u bytes arrived", what, received, count);
	return exits;
}

static void widths(void)
{
	static const uint32_t want_len[] = {1, 2, 4};
	int exit;

	VM_LOAD(&vm, wide16);
	begin(false, 0);
	exit = vm_run(&vm);
	if (!vm_is_out(&vm, exit, END))
		fail("writes of 1, 2 and 4 bytes to a zone of 4: %s", vm_exit_text(&vm, exit));
	for (unsigned i = 0; i < 3; i++) {
		const struct kvm_coalesced_mmio *entry =
			&vm.ring->coalesced_mmio[(vm.ring->first + i) % RING_MAX];

		if (entry->len != want_len[i] || memcmp(entry->data, "\x11\x22\x33\x44", want_len[i]) != 0)
			fail("a write of %u bytes is an entry of %u", want_len[i], entry->len);
	}
	vm.ring->first = vm.ring->last;
}

static void read_exits(void)
{
	int exit;

	VM_LOAD(&vm, read16);
	begin(false, 0);
	exit = vm_run(&vm);
	if (exit != KVM_EXIT_IO || vm.run->io.direction != KVM_EXIT_IO_IN || vm.run->io.port != PORT)
		fail("a read of the port: %s", vm_exit_text(&vm, exit));
	/* Complete it, or the next vm_enter_*() is undone. */
	vm.run->immediate_exit = 1;
	vm_run(&vm);
	vm.run->immediate_exit = 0;
}

int main(void)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = PORT, .size = 1, .pio = 1};
	const unsigned room = RING_MAX - 1;
	uint64_t start, ring_ns, exit_ns;
	unsigned exits;
	pthread_t thread;

	vm_init(&vm, false);
	if (vm_cap(&vm, KVM_CAP_COALESCED_PIO) <= 0)
		skip("no KVM_CAP_COALESCED_PIO");

	VM_IOCTL(vm.fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	VM_LOAD(&vm, counted16);
	begin(false, room);
	exits = run_to_end("real mode", room);
	if (exits != 0 || from_ring != room)
		fail("%u of %u writes left KVM_RUN", exits, room);
	begin(false, room + 10);
	exits = run_to_end("full ring", room + 10);
	if (exits != 1)
		fail("a ring for %u made %u exits of %u writes", room, exits, room + 10);

	read_exits();
	for (unsigned i = 0; i < 2000; i++)
		vm.mem[0x2000 + i] = (uint8_t)i;
	VM_LOAD(&vm, string16);
	begin(false, 2000);
	run_to_end("string write", 2000);

	VM_LOAD(&vm, counted64);
	pthread_create(&thread, NULL, drainer, NULL);
	begin(true, MANY);
	exits = run_to_end("drained by another thread", MANY);
	__atomic_store_n(&drainer_stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	if (from_ring == 0 || exits >= MANY / 10)
		fail("%u of %u writes left KVM_RUN while a thread drained", exits, MANY);

	begin(true, MANY);
	start = clock_ns(CLOCK_MONOTONIC);
	run_to_end("drained by the vCPU", MANY);
	ring_ns = (clock_ns(CLOCK_MONOTONIC) - start) / MANY;
	VM_IOCTL(vm.fd, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	begin(true, MANY);
	start = clock_ns(CLOCK_MONOTONIC);
	if (run_to_end("not registered", MANY) != MANY)
		fail("an unregistered port is still coalesced");
	exit_ns = (clock_ns(CLOCK_MONOTONIC) - start) / MANY;

	/* 4 bytes wide: a narrower write inside it fits too */
	zone.size = 4;
	VM_IOCTL(vm.fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	widths();
	ok("%llu ns a write, %llu ns as an exit; %u wait before one leaves", (unsigned long long)ring_ns,
	   (unsigned long long)exit_ns, room);
}
