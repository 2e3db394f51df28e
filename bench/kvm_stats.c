/* Preloaded to a monitor: has KVM make a file of each vCPU's counters, which bench/paths.py reads.  Only the
 * process that made a vCPU may ask for it. */
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...);

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	rc = (int)syscall(SYS_ioctl, fd, request, arg);
	if (request == KVM_CREATE_VCPU && rc >= 0)
		syscall(SYS_ioctl, rc, KVM_GET_STATS_FD, 0);
	return rc;
}
