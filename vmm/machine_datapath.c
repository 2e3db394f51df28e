/* "ringlet ctl NAME datapath DEVICE ...": who serves a running device is changed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config_options.h"
#include "vmm/devices_parts.h"

#define MAX_WAIT_MS 10000u /* before "ringlet ctl" gives up */

static struct device *find(struct devices *all, const char *name)
{
	for (unsigned i = 0; i < all->n; i++)
		if (!strcmp(all->device[i].name, name))
			return &all->device[i];
	return NULL;
}

/* The main loop waits meanwhile. */
static int check_remote(const struct remote_options *r, struct err *e)
{
	if (r->server)
		return err_set(e, -EINVAL,
			       "server: in a live change the back end listens and this side connects");
	if (r->wait_ms > MAX_WAIT_MS)
		return err_set(e, -EINVAL, "wait=: a live change waits at most %us for a back end",
			       MAX_WAIT_MS / 1000);
	return 0;
}

static int move(struct devices *all, struct device *d, const char *words, struct config *cfg, struct move *m,
		struct err *e)
{
	const struct devices_config *dev = &cfg->run.dev;
	int rc = d->net ? config_apply_net(cfg, words, e) : config_apply_disk(cfg, words, e);

	if (!rc)
		rc = check_remote(d->net ? &dev->net[0].remote : &dev->disk[0].remote, e);
	if (rc)
		return err_prefix(e, "%s", d->name);
	return d->net ? move_net(all, d, &dev->net[0], m, e) : move_disk(all, d, &dev->disk[0], m, e);
}

static const char *served_by(const struct virtio_device *v)
{
	return v->remote ? v->remote->ops->name : v->local->ops->name;
}

int devices_datapath(struct devices *all, const char *name, const char *words,
		     const struct devices_vcpus *vcpus, char *text, size_t size, struct err *e)
{
	struct device *d = find(all, name);
	struct move m = {
		.how = {.drain_ms = DRAIN_MS, .stand_still = vcpus->stand_still, .opaque = vcpus->opaque},
	};
	struct config *cfg;
	const char *before;
	int rc;

	if (!d)
		return err_set(e, -ENOENT, "no device is called %s; they are net0, disk0 and so on, as given",
			       name);
	if (!d->net && !d->disk_options)
		return err_set(e, -EOPNOTSUPP, "%s: only cards and disks can change who serves them", name);
	cfg = calloc(1, sizeof(*cfg));
	if (!cfg)
		return err_set(e, -ENOMEM, "out of memory");
	before = served_by(d->virtio);
	rc = move(all, d, words, cfg, &m, e);
	if (rc) {
		config_free(cfg);
		free(cfg);
		return rc;
	}
	if (d->words) {
		config_free(d->words);
		free(d->words);
	}
	d->words = cfg;
	snprintf(text, size,
		 "%s: from %s to %s; vCPUs stood still for %" PRIu64 " us, nobody served it for %" PRIu64
		 " of them",
		 name, before, served_by(d->virtio), m.moved.stood_still_ns / 1000, m.moved.stopped_ns / 1000);
	return 0;
}
