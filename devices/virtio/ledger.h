/* Who had a say in each feature bit of a device, and who removed what.  Written while the device is made ready
 * to be offered, and anew when another datapath takes it over; what the driver does comes later. */
#ifndef VIRTIO_LEDGER_H
#define VIRTIO_LEDGER_H
#include <stdbool.h>
#include <stdint.h>

#define LEDGER_PARTS 2 /* the datapath here, and the one elsewhere */

struct ledger {
	uint64_t device; /* the device model's own, and the rings' that are known here */
	uint64_t user;   /* turned off by the user, or not turned on */
	unsigned nparts;
	struct ledger_part {
		const char *who; /* "vhost-net" */
		uint64_t features, opinion;
	} part[LEDGER_PARTS];
};

void ledger_begin(struct ledger *l, uint64_t device, uint64_t user);
/* A datapath's word.  who must live as long as the ledger. */
void ledger_part(struct ledger *l, const char *who, uint64_t features, uint64_t opinion);

/* What is left of it all for the driver. */
uint64_t ledger_offered(const struct ledger *l);

enum ledger_say { LEDGER_SILENT, LEDGER_NO, LEDGER_YES };

/* One bit. */
struct ledger_line {
	enum ledger_say device;
	enum ledger_say datapath; /* of all that have an opinion: NO if one says no */
	bool user_off;
	bool offered;
	/* Why it is not offered: with user_off, each that would have to change. */
	bool by_device;
	bool by_part[LEDGER_PARTS];
};

/* False: nobody has it, and no user turned it off. */
bool ledger_line(const struct ledger *l, unsigned bit, struct ledger_line *out);
#endif
