/* What a comparison needs on the host: a network namespace, a tap, a directory for sockets and files.  All of
 * it is this process's own and goes with it, whatever kills it: the namespaces are entered by the process
 * itself, before it starts anything else or has a second thread. */
#ifndef COMPARE_HOST_H
#define COMPARE_HOST_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

/* The card's two ends, the same on every path; those of libslirp's own network. */
#define HOST_ADDRESS  "10.0.2.2"
#define GUEST_ADDRESS "10.0.2.15"
#define HOST_PREFIX   "24"
#define HOST_TAP      "rlcompare0"

/* The environment of what is started: a file to give to setns(2), the network namespace that this process came
 * from. Where that cannot be entered, as without root, there is none. */
#define HOST_OUTSIDE "RINGLET_HOST_NETNS"

struct host {
	char dir[64];  /* a tmpfs of our own where we may mount (in a mount namespace of our own), else a
			  directory of ours in /dev/shm or /tmp, removed by host_free() */
	bool own_net;  /* in a network namespace of its own */
	bool root;     /* of the host, not of a user namespace */
	int refused;   /* -errno: why there are no namespaces */
	int outside;   /* the network namespace that this process came from, or -1 */
	bool made_dir; /* dir was not there before */
};

/* Enters the namespaces and makes the directory.  Without root it uses a user namespace, where the kernel
 * allows that; /dev/vhost-net, /dev/kvm and the like are then opened with the user's own rights.  Where even
 * that is refused there is the directory, and host_tap_new() says why there is no tap.  0, or -errno and a
 * sentence that tells what is missing and how to mend it. */
int host_new(struct host *h, struct err *e);
void host_free(struct host *h);

/* Makes HOST_TAP anew with the address and loopback up; `offloads` of a tap are its user's.  sink: nothing is
 * sent by the host itself (no IPv6, no address), and what comes is dropped; back: and what comes goes back to
 * where it came from, by the kernel (tc mirred). */
enum host_tap { HOST_TAP_ADDRESS, HOST_TAP_SINK, HOST_TAP_BACK };
int host_tap_new(struct host *h, enum host_tap kind, struct err *e);
void host_tap_del(struct host *h);

/* A file of `bytes` random bytes in dir; path is of size bytes. */
int host_file_new(struct host *h, const char *name, uint64_t bytes, char *path, unsigned size, struct err *e);

/* Loads a kernel module where that is possible, before it those that it needs; quietly: whether it is there is
 * seen by what it brings.  Where modprobe does not know it: from the directory $RINGLET_MODULES, in which are
 * *.ko, packed or not. */
void host_module(const char *name);
#endif
