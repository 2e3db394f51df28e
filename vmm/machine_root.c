#include "vmm/machine_root.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/virtiofsd.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/devices_parts.h"

struct served {
	struct virtiofsd_config daemon;
	struct virtiofsd *process;
	char tag[24];
	struct generic_options options;
};

struct machine_root {
	const struct run_config *cfg;
	struct virtiofsd_program program;
	unsigned n;
	struct served dir[1 + CONFIG_MAX_SHARES];
	bool has_disk;
	struct disk_options disk;
	bool is_lost;
	void (*lost)(void *opaque);
	void *opaque;
};

static struct virtio_config ordinary(const struct run_config *cfg)
{
	return (struct virtio_config){
		.transport = cfg->dev.transport,
		.transport_set = true,
		.event_idx = true,
		.indirect = true,
	};
}

static struct served *next_dir(struct machine_root *r, const char *option, const struct share_config *share,
			       bool covered)
{
	struct served *s = &r->dir[r->n++];

	s->daemon = (struct virtiofsd_config){
		.program = &r->program,
		.option = option,
		.source = share->source,
		.writable = share->writable,
		.covered = covered,
	};
	s->options = (struct generic_options){
		.kind = GENERIC_FS,
		.virtio = ordinary(r->cfg),
		.remote = {.path = ""}, /* connected already, and only once */
		.tag = s->tag,
	};
	return s;
}

static void list(struct machine_root *r, const struct run_config *cfg, const struct root_source *root)
{
	const struct guest_config *guest = &cfg->guest;

	r->cfg = cfg;
	if (root->kind == ROOT_DIR)
		snprintf(next_dir(r, "--root", &guest->root, !guest->root.writable)->tag, sizeof(r->dir[0].tag),
			 ROOT_TAG);
	for (unsigned i = 0; i < guest->nshare; i++)
		snprintf(next_dir(r, "--share", &guest->share[i], false)->tag, sizeof(r->dir[0].tag), SHARE_TAG,
			 i);
	r->has_disk = root->kind == ROOT_IMAGE;
	r->disk = (struct disk_options){
		.kind = DISK_FILE,
		.path = guest->root.source,
		.virtio = ordinary(cfg),
		.read_only = !guest->root.writable,
		.queues = 1,
		.serial = ROOT_SERIAL,
	};
}

int machine_root_start(struct machine_root **out, const struct run_config *cfg, const struct root_source *root,
		       struct err *e)
{
	struct machine_root *r;
	int rc;

	*out = NULL;
	if (root->kind == ROOT_NONE && !cfg->guest.nshare)
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	*out = r;
	list(r, cfg, root);
	rc = r->n ? virtiofsd_find(&r->program, e) : 0;
	if (rc)
		return err_prefix(e, "%s %s", r->dir[0].daemon.option, r->dir[0].daemon.source);
	for (unsigned i = 0; !rc && i < r->n; i++)
		rc = virtiofsd_start(&r->dir[i].process, &r->dir[i].daemon, e);
	return rc;
}

static unsigned count_fs(const struct devices_config *dev)
{
	unsigned n = 0;

	for (unsigned i = 0; i < dev->ngeneric; i++)
		n += dev->generic[i].kind == GENERIC_FS;
	return n;
}

int machine_root_add(struct machine_root *r, struct devices *all, struct err *e)
{
	int rc = 0;

	if (!r)
		return 0;
	if (r->has_disk) {
		rc = add_disk(all, &r->disk, r->cfg->dev.ndisk, e);
		if (rc)
			return err_prefix(e, "--root %s", r->disk.path);
	}
	for (unsigned i = 0; !rc && i < r->n; i++) {
		struct served *s = &r->dir[i];

		rc = add_connected(all, &s->options, count_fs(&r->cfg->dev) + i,
				   virtiofsd_take_socket(s->process), e);
		if (rc)
			rc = virtiofsd_explain(s->process, e);
	}
	return rc;
}

static void on_died(void *opaque, const char *text)
{
	struct machine_root *r = opaque;

	log_error("%s", text);
	if (!r->is_lost)
		r->lost(r->opaque);
	r->is_lost = true;
}

int machine_root_watch(struct machine_root *r, struct evloop *loop, void (*lost)(void *opaque), void *opaque,
		       struct err *e)
{
	int rc = 0;

	if (!r)
		return 0;
	r->lost = lost;
	r->opaque = opaque;
	for (unsigned i = 0; !rc && i < r->n; i++)
		rc = virtiofsd_watch(r->dir[i].process, loop, on_died, r);
	return rc ? err_set(e, rc, "event loop: %s", strerror(-rc)) : 0;
}

void machine_root_stop(struct machine_root *r)
{
	for (unsigned i = 0; r && i < r->n; i++)
		virtiofsd_stop(r->dir[i].process);
	free(r);
}

void machine_root_print(const struct run_config *cfg, const struct root_source *root, FILE *out)
{
	CLEANUP_FREE struct machine_root *r = calloc(1, sizeof(*r));
	CLEANUP_FREE char *line = malloc(4 * PATH_MAX);
	struct err e = {0};

	if (!r || !line)
		return;
	list(r, cfg, root);
	if (r->n && virtiofsd_find(&r->program, &e)) {
		fprintf(out, "# no virtiofsd: %s\n", e.text);
		return;
	}
	for (unsigned i = 0; i < r->n; i++) {
		virtiofsd_describe(&r->dir[i].daemon, line, 4 * PATH_MAX);
		fprintf(out, "# would start: %s\n", line);
	}
	if (r->has_disk)
		fprintf(out, "# root: %s in %s%.0u\n", root->fstype,
			root->partition ? "partition " : "the whole disk", root->partition);
}
