/* COMPOSITION ROOT, second half: which device, transport, backend and threads the command line asked for.
 * Included by the machine's files alone.
 *
 * Devices with their backends and data threads live as long as the process; transports as long as one life of
 * the guest, so that after a reset the same tap and the same disk are there. */
#ifndef VMM_MACHINE_DEVICES_H
#define VMM_MACHINE_DEVICES_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "vmm/bus.h"
#include "vmm/config_devices.h"
#include "vmm/errand.h"
#include "vmm/guest_mem.h"
#include "vmm/pci.h"
#include "vmm/stats.h"
#include "vmm/vmevent.h"

struct control;
struct devices;

/* Where the console device's bytes go and come from: a vCPU's or a data thread's. */
struct devices_console {
	void (*output)(void *opaque, const void *data, size_t len);
	bool (*ready)(void *opaque);
	void (*room)(void *opaque);
	void *opaque;
	const struct control *control; /* beside its socket are those of ports without a path */
	/* A named port for ourselves, in the same device, which is there for it alone where nobody asked for a
	 * console.  NULL: none.  On a data thread, with opaque. */
	const char *port;
	void (*port_output)(void *opaque, const void *data, size_t len);
	void (*port_room)(void *opaque); /* devices_port_input() would take more */
};

/* Opens what backends need and starts the data threads.  cfg, mem and console must outlive it. */
int devices_open(struct devices **out, const struct devices_config *cfg, struct guest_mem *mem,
		 const struct devices_console *console, struct err *e);
void devices_close(struct devices *d); /* NULL is fine */

/* Slots and pages for one life.  What devices_plug() made is undone by devices_unplug(), also after an error:
 * then no device touches guest memory any more. */
struct devices_site {
	struct pci *pci;
	struct bus *pio, *mmio;
	struct vmevent *vmevent;
};
int devices_plug(struct devices *d, const struct devices_site *site, struct err *e);
void devices_unplug(struct devices *d);
/* Resets them all.  False: a back end that does not answer may still write to guest memory; ask again. */
bool devices_quiet(struct devices *d);

unsigned devices_count_mmio(const struct devices *d); /* for ACPI */

/* Console input: any thread.  Bytes taken. */
size_t devices_input(struct devices *d, const void *data, size_t len);
void devices_console_room(struct devices *d); /* ready() would say yes again */
/* ... and for our own port. */
size_t devices_port_input(struct devices *d, const void *data, size_t len);

/* What a person asked for by name: 0, or -errno with a sentence. */
int devices_resize_disk(struct devices *d, const char *name, struct err *e); /* NULL: all disks */
int devices_set_balloon(struct devices *d, uint64_t bytes, struct err *e);

/* A live change of who serves the device called name, to what --net or --disk would say in words.  On the main
 * thread.  stand_still(opaque, true) stops the vCPUs once the new back end is ready, false lets them go on.
 * fds: what was opened for it (devices_errands()); where there are none it opens what it takes itself.  text,
 * of size bytes: how it went. */
struct devices_vcpus {
	void (*stand_still)(void *opaque, bool on);
	void *opaque;
};
int devices_datapath(struct devices *d, const char *name, const char *words, const struct devices_vcpus *vcpus,
		     struct errand_fds *fds, char *text, size_t size, struct err *e);
/* What has to be opened for that.  None where nothing has or the words are wrong, which the change itself will
 * say. */
void devices_errands(struct devices *d, const char *name, const char *words, struct errands *out);

/* Counters of every queue, and what the balloon knows: any thread.  0 or -ENOMEM; to be freed.  Strings in it
 * live as long as the devices. */
int devices_report(const struct devices *d, struct devices_report *out);
void devices_report_free(struct devices_report *r);
#endif
