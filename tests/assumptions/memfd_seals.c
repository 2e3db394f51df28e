/* A memfd with its size sealed cannot be cut under a peer that maps it, mapped or not, and the seals
 * cannot be taken off. */
#include "assume.h"

#define LEN (4u << 20)

int main(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p;

	if (fd < 0)
		skip("memfd_create: %s", strerror(errno));
	if (ftruncate(fd, LEN) < 0)
		fail("ftruncate: %s", strerror(errno));
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	memset(p, 1, LEN);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		fail("F_ADD_SEALS on a mapped memfd: %s", strerror(errno));

	if (ftruncate(fd, LEN / 2) == 0 || errno != EPERM)
		fail("a sealed memfd shrinks");
	if (ftruncate(fd, LEN * 2) == 0 || errno != EPERM)
		fail("a sealed memfd grows");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 || errno != EPERM)
		fail("a seal was added after F_SEAL_SEAL");
	memset(p, 2, LEN);
	if (mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		fail("a second mapping: %s", strerror(errno));
	holds();
}
