/* MADV_POPULATE_WRITE on huge pages that are not there is an error, where touching them is SIGBUS: the
 * way to find out before the guest runs.  MAP_NORESERVE stands for a cgroup limit, which lets mmap()
 * succeed in the same way. */
#include "assume.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#define PAGE (2ul << 20)
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

static long read_pool(void)
{
	FILE *f = fopen(POOL, "r");
	long n = -1;

	if (f == NULL || fscanf(f, "%ld", &n) != 1)
		skip("no huge pages of 2 MiB");
	fclose(f);
	return n;
}

static void write_pool(long n)
{
	FILE *f = fopen(POOL, "w");

	if (f == NULL)
		skip("%s: %s (needs root)", POOL, strerror(errno));
	fprintf(f, "%ld\n", n);
	fclose(f);
}

static void on_bus_error(int signal)
{
	static const char text[] = "not ok - assumptions/populate_write: SIGBUS\n";

	(void)signal;
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

int main(void)
{
	struct sigaction action = {.sa_handler = on_bus_error};
	long before = read_pool(), have;
	size_t len;
	void *p;
	int fd, r, err;

	write_pool(before + 4);
	have = read_pool();
	if (have <= before) {
		write_pool(before);
		skip("the kernel has no memory for 4 more huge pages");
	}
	fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	len = (size_t)(have + 16) * PAGE;
	if (fd < 0 || ftruncate(fd, (off_t)len) < 0) {
		err = errno;
		write_pool(before);
		fail("memfd of huge pages: %s", strerror(err));
	}
	sigaction(SIGBUS, &action, NULL);

	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		write_pool(before);
		fail("mmap of %ld + 16 huge pages of %ld reserved them", have, have);
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	r = p == MAP_FAILED ? 0 : madvise(p, PAGE, MADV_POPULATE_WRITE);
	err = errno;
	if (p == MAP_FAILED || r < 0) {
		write_pool(before);
		fail("the first of %ld pages: %s", have, strerror(err));
	}
	r = madvise(p, len, MADV_POPULATE_WRITE);
	err = errno;
	munmap(p, len);
	close(fd);
	write_pool(before);
	if (r == 0)
		fail("more huge pages were populated than there are");
	if (err != ENOMEM && err != EFAULT)
		fail("errno is %d (%s)", err, strerror(err));
	ok("%s", strerror(err));
}
