/* The doctor's checks.  A probe looks and changes nothing: no tap is made, no peer connected to. */
#ifndef VMM_DOCTOR_CHECKS_H
#define VMM_DOCTOR_CHECKS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum check_status { CHECK_OK, CHECK_NOTE, CHECK_SLOW, CHECK_MISSING };

struct check {
	enum check_status status;
	char found[512]; /* one line */
	char mend[256];  /* a command or two that a shell takes, or "" */
};

/* Reads files of this host below root ("" outside tests).  The result starts out as CHECK_OK. */
typedef void check_probe(const char *root, struct check *c);

struct check_def {
	const char *name;
	bool needed; /* `run` cannot do without */
	check_probe *probe;
};

extern const struct check_def doctor_checks[];
extern const size_t ndoctor_checks;

/* What a CI job wants to know; some of them are those above. */
extern const struct check_def doctor_ci_checks[];
extern const size_t ndoctor_ci_checks;

const struct check_def *doctor_check_find(const char *name); /* NULL: no such check */

/* For the probes. */
void check_set(struct check *c, enum check_status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void check_mend(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The file's first bytes as a string without the last newline.  Its length or -errno. */
int doctor_read(const char *root, const char *path, char *buf, size_t len);
bool doctor_read_u64(const char *root, const char *path, uint64_t *n);
bool doctor_has_cpu_flag(const char *root, const char *flag);

bool doctor_exists(const char *root, const char *path);

/* Opens and closes the device file.  0 or -errno. */
int doctor_try_device(const char *root, const char *path);

/* The tightest limit on file ("hugetlb.2MB.max") that our cgroup or one above it sets; version 2's
 * file name and version 1's controller and file name.  False: there is none (UINT64_MAX). */
bool doctor_cgroup_limit(const char *root, const char *file_v2, const char *controller_v1, const char *file_v1,
			 uint64_t *limit);

check_probe check_kvm_device, check_kvm_api, check_kvm, check_kvm_nested;
check_probe check_hugepages_2m, check_hugepages_1g, check_shmem_enabled;
check_probe check_io_uring, check_memlock, check_nofile, check_cpus;
check_probe check_tun, check_vhost_net, check_vhost_vsock, check_vhost_scsi, check_vhost_vdpa;
check_probe check_vduse;
check_probe check_exits, check_memory, check_virtiofsd, check_user_namespaces, check_clock;
#endif
