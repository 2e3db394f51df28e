/* "ringlet ctl NAME datapath DEVICE ...": who serves a running device is changed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/confine.h"
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

/* The main loop waits meanwhile, unless the back end was reached for us. */
static int check_remote(const struct remote_options *r, const struct errand_fds *fds, struct err *e)
{
	if (r->server)
		return err_set(e, -EINVAL,
			       "server: in a live change the back end listens and this side connects");
	if (!fds->n && r->wait_ms > MAX_WAIT_MS)
		return err_set(e, -EINVAL, "wait=: a live change waits at most %us for a back end",
			       MAX_WAIT_MS / 1000);
	return 0;
}

/* What was said of it besides who serves it must be so already: the guest has been told. */
static int check_same(const struct device *d, const char *key, bool same, struct err *e)
{
	if (same)
		return 0;
	return err_set(e, -EINVAL,
		       "%s: %s cannot be changed while the VM runs\n"
		       "Leave it out, or start the VM with it.",
		       d->name, key);
}

static int check_virtio(const struct device *d, const struct virtio_config *has,
			const struct virtio_config *says, struct err *e)
{
	const struct {
		const char *key;
		bool same;
	} look[] = {
		{"transport=", !says->transport_set || says->transport == has->transport},
		{"notify=", !says->notify_exit || has->notify_exit},
		{"irq=", !says->irq_ioctl || has->irq_ioctl},
		{"doorbell=", !says->doorbell_pio || has->doorbell_pio},
		{"packed=", !says->packed || has->packed},
		{"in_order=", !says->in_order || has->in_order},
		{"event_idx=", says->event_idx || !has->event_idx},
		{"indirect=", says->indirect || !has->indirect},
		{"bits=", !says->all_bits || has->all_bits},
		{"features=", !says->has_most || (has->has_most && says->most == has->most)},
		{"queue-size=", !says->queue_size || says->queue_size == has->queue_size},
		{"pin=", !says->npin || !memcmp(says->pin, has->pin, says->npin * sizeof(says->pin[0]))},
	};
	int rc = 0;

	for (unsigned i = 0; !rc && i < sizeof(look) / sizeof(look[0]); i++)
		rc = check_same(d, look[i].key, look[i].same, e);
	return rc;
}

static int check_net(const struct device *d, const struct net_options *says, struct err *e)
{
	const struct net_options *has = d->net;
	const struct {
		const char *key;
		bool same;
	} look[] = {
		{"queues=", says->queues == 1 || says->queues == has->queues},
		{"mac=", !says->has_mac || (has->has_mac && !memcmp(says->mac, has->mac, sizeof(has->mac)))},
		{"mtu=", !says->mtu || says->mtu == has->mtu},
		{"rate=",
		 (!says->rate_bytes && !says->rate_packets) ||
			 (says->rate_bytes == has->rate_bytes && says->rate_packets == has->rate_packets)},
		{"csum=", says->csum || !has->csum},
		{"tso=", says->tso || !has->tso},
		{"mrg_rxbuf=", says->mrg_rxbuf || !has->mrg_rxbuf},
		{"uso=", !says->uso || has->uso},
	};
	int rc = check_virtio(d, &has->virtio, &says->virtio, e);

	for (unsigned i = 0; !rc && i < sizeof(look) / sizeof(look[0]); i++)
		rc = check_same(d, look[i].key, look[i].same, e);
	return rc;
}

static int check_disk(const struct device *d, const struct disk_options *says, struct err *e)
{
	const struct disk_options *has = d->disk_options;
	const bool same_serial = !says->serial || (has->serial && !strcmp(says->serial, has->serial));
	int rc = check_virtio(d, &has->virtio, &says->virtio, e);

	rc = rc ? rc : check_same(d, "queues=", says->queues == 1 || says->queues == has->queues, e);
	rc = rc ? rc : check_same(d, "serial=", same_serial, e);
	return rc ? rc : check_same(d, "cache=", !says->writethrough || has->writethrough, e);
}

static int parse(const struct device *d, const char *words, struct config *cfg, struct err *e)
{
	const struct devices_config *dev = &cfg->run.dev;
	int rc = d->net ? config_apply_net(cfg, words, e) : config_apply_disk(cfg, words, e);

	if (rc)
		return err_prefix(e, "%s", d->name);
	return d->net ? check_net(d, &dev->net[0], e) : check_disk(d, &dev->disk[0], e);
}

static const struct remote_options *remote_of(const struct device *d, const struct devices_config *dev)
{
	return d->net ? &dev->net[0].remote : &dev->disk[0].remote;
}

static void errands_of(const struct device *d, const struct devices_config *dev, struct errands *out)
{
	if (d->net)
		move_net_errands(d, &dev->net[0], out);
	else
		move_disk_errands(&dev->disk[0], out);
}

static int check_fds(const struct device *d, const struct devices_config *dev, const struct errand_fds *fds,
		     struct err *e)
{
	struct errands now = {0};

	errands_of(d, dev, &now);
	if (!fds->n && errands_count(&now) && confine_is_on())
		return err_set(e, -EPERM,
			       "%s: a VM in its sandbox opens nothing, and the client has passed nothing\n"
			       "Use the ringlet ctl of the same version, or start the VM with --sandbox off",
			       d->name);
	if (!fds->n || fds->n == errands_count(&now))
		return 0;
	return err_set(e, -EAGAIN, "%s: it was changed meanwhile and takes other descriptors; try again",
		       d->name);
}

static int move(struct devices *all, struct device *d, const char *words, struct config *cfg, struct move *m,
		struct err *e)
{
	const struct devices_config *dev = &cfg->run.dev;
	int rc = parse(d, words, cfg, e);

	if (!rc) {
		rc = check_remote(remote_of(d, dev), m->fds, e);
		if (rc)
			err_prefix(e, "%s", d->name);
	}
	rc = rc ? rc : check_fds(d, dev, m->fds, e);
	if (rc)
		return rc;
	return d->net ? move_net(all, d, &dev->net[0], m, e) : move_disk(all, d, &dev->disk[0], m, e);
}

void devices_errands(struct devices *all, const char *name, const char *words, struct errands *out)
{
	struct device *d = find(all, name);
	struct config *cfg = d && (d->net || d->disk_options) ? calloc(1, sizeof(*cfg)) : NULL;
	struct err e = {0};

	if (!cfg)
		return;
	if (!parse(d, words, cfg, &e) &&
	    !check_remote(remote_of(d, &cfg->run.dev), &(struct errand_fds){.n = 1}, &e))
		errands_of(d, &cfg->run.dev, out);
	config_free(cfg);
	free(cfg);
}

static const char *served_by(const struct virtio_device *v)
{
	return v->remote ? v->remote->ops->name : v->local->ops->name;
}

int devices_datapath(struct devices *all, const char *name, const char *words,
		     const struct devices_vcpus *vcpus, struct errand_fds *fds, char *text, size_t size,
		     struct err *e)
{
	struct device *d = find(all, name);
	struct move m = {
		.how = {.drain_ms = DRAIN_MS, .stand_still = vcpus->stand_still, .opaque = vcpus->opaque},
		.fds = fds,
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
