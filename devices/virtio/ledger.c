#include "devices/virtio/ledger.h"

#include <assert.h>

#define BIT(n) (UINT64_C(1) << (n))

void ledger_begin(struct ledger *l, uint64_t device, uint64_t user)
{
	*l = (struct ledger){.device = device, .user = user};
}

void ledger_part(struct ledger *l, const char *who, uint64_t features, uint64_t opinion)
{
	assert(l->nparts < LEDGER_PARTS);
	l->part[l->nparts++] = (struct ledger_part){.who = who, .features = features, .opinion = opinion};
}

uint64_t ledger_offered(const struct ledger *l)
{
	uint64_t offered = l->device & ~l->user;

	for (unsigned i = 0; i < l->nparts; i++)
		offered &= l->part[i].features | ~l->part[i].opinion;
	return offered;
}

static bool is_device_bit(unsigned bit)
{
	return bit < 24 || bit >= 50; /* 2.2 */
}

/* A device whose datapath knows what it is has all bits, which says nothing of any. */
static bool has_no_model(const struct ledger *l)
{
	return (l->device & (BIT(24) - 1)) == BIT(24) - 1;
}

static enum ledger_say of_parts(const struct ledger *l, uint64_t mask, bool *no)
{
	enum ledger_say say = LEDGER_SILENT;

	for (unsigned i = 0; i < l->nparts; i++) {
		no[i] = (l->part[i].opinion & mask) && !(l->part[i].features & mask);
		if (no[i])
			say = LEDGER_NO;
		else if ((l->part[i].opinion & mask) && say == LEDGER_SILENT)
			say = LEDGER_YES;
	}
	return say;
}

bool ledger_line(const struct ledger *l, unsigned bit, struct ledger_line *out)
{
	const uint64_t mask = BIT(bit);
	bool no[LEDGER_PARTS] = {false};

	*out = (struct ledger_line){
		.user_off = l->user & mask,
		.offered = ledger_offered(l) & mask,
	};
	out->datapath = of_parts(l, mask, no);
	/* What the user turned off the model may leave out as well. */
	if (l->device & mask)
		out->device = is_device_bit(bit) && has_no_model(l) ? LEDGER_SILENT : LEDGER_YES;
	else
		out->device = out->user_off ? LEDGER_SILENT : LEDGER_NO;
	for (unsigned i = 0; i < l->nparts; i++)
		out->by_part[i] = no[i];
	out->by_device = out->device == LEDGER_NO;
	return out->offered || out->user_off || out->device == LEDGER_YES || out->datapath == LEDGER_YES;
}
