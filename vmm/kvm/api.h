/* What Ringlet asks of a KVM before it builds on it. */
#ifndef VMM_KVM_API_H
#define VMM_KVM_API_H

struct kvm_api {
	int version;
	int expected;
	char missing[512]; /* names of the capabilities that are not there, or "" */
};

/* Asks an open /dev/kvm.  0, or -errno where it does not answer KVM_GET_API_VERSION. */
int kvm_api_probe(int kvm_fd, struct kvm_api *api);
#endif
