/* What the guest's init is told (--root, --share, --env, ...), and how a run is judged. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "vmm/config_options.h"
#include "vmm/config_values.h"

struct share_list {
	struct config *cfg;
	struct share_config share;
};

static int keep(struct share_list *list, const char *value, const char **copy, struct err *e)
{
	*copy = config_keep(list->cfg, value);
	return *copy ? 0 : err_set(e, -ENOMEM, "no memory left");
}

static int share_source(void *dst, const char *value, struct err *e)
{
	struct share_list *list = dst;

	if (!*value)
		return err_set(e, -EINVAL, "expected a directory, found nothing");
	if (strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "longer than a path can be (%d bytes)", PATH_MAX - 1);
	return keep(list, value, &list->share.source, e);
}

/* DIR:PATH, as other tools write it; path=DIR takes a directory with a colon in its name. */
static int share_pair(void *dst, const char *value, struct err *e)
{
	struct share_list *list = dst;
	char dir[PATH_MAX];
	const char *colon = strrchr(value, ':');
	size_t len;

	if (!colon || colon[1] != '/')
		return share_source(dst, value, e);
	len = (size_t)(colon - value);
	if (len >= sizeof(dir))
		return err_set(e, -EINVAL, "longer than a path can be (%d bytes)", PATH_MAX - 1);
	memcpy(dir, value, len);
	dir[len] = '\0';
	if (keep(list, colon + 1, &list->share.path, e))
		return e->code;
	return share_source(dst, dir, e);
}

static int share_at(void *dst, const char *value, struct err *e)
{
	struct share_list *list = dst;

	if (*value != '/' || strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "\"%s\" is no absolute path in the guest, such as /mnt", value);
	return keep(list, value, &list->share.path, e);
}

static int share_writable(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct share_list *)dst)->share.writable, e);
}

static int share_read_only(void *dst, const char *value, struct err *e)
{
	bool on;
	int r = value_switch(value, &on, e);

	if (r == 0)
		((struct share_list *)dst)->share.writable = !on;
	return r;
}

const struct key_def config_root_keys[] = {
	{.name = "path", .file = true, .set = share_source},
	{.name = "rw", .words = "on off", .bare = true, .set = share_writable},
	{.name = "ro", .hidden = true, .bare = true, .set = share_read_only},
	{.name = NULL},
};

/* The first has a name nobody types, so that DIR:PATH and path=DIR can differ. */
const struct key_def config_share_keys[] = {
	{.name = "dir", .directory = true, .hidden = true, .set = share_pair},
	{.name = "path", .directory = true, .set = share_source},
	{.name = "at", .set = share_at},
	{.name = "rw", .words = "on off", .bare = true, .set = share_writable},
	{.name = "ro", .hidden = true, .bare = true, .set = share_read_only},
	{.name = NULL},
};

int config_apply_root(struct config *cfg, const char *value, struct err *e)
{
	struct share_list list = {.cfg = cfg};
	int r = keys_parse(value, config_root_keys, &list, e);

	if (r == 0 && !list.share.source)
		r = err_set(e, -EINVAL, "which directory or image? --root DIR, or --root path=DIR");
	if (r == 0)
		cfg->run.guest.root = list.share;
	return r;
}

int config_apply_share(struct config *cfg, const char *value, struct err *e)
{
	struct guest_config *guest = &cfg->run.guest;
	struct share_list list = {.cfg = cfg};
	int r = keys_parse(value, config_share_keys, &list, e);

	if (r < 0)
		return r;
	if (!list.share.source)
		return err_set(e, -EINVAL, "which directory? --share DIR[:PATH]");
	if (guest->nshare == CONFIG_MAX_SHARES)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_SHARES);
	if (!list.share.path && *list.share.source != '/')
		return err_set(e, -EINVAL, "where shall the guest find %s? Say --share %s:/PATH",
			       list.share.source, list.share.source);
	if (!list.share.path)
		list.share.path = list.share.source;
	for (unsigned i = 0; i < guest->nshare; i++)
		if (!strcmp(guest->share[i].path, list.share.path))
			return err_set(e, -EINVAL, "%s in the guest is taken by %s", list.share.path,
				       guest->share[i].source);
	guest->share[guest->nshare++] = list.share;
	return 0;
}

int config_apply_modules(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.guest.modules = value;
	return 0;
}

int config_apply_env(struct config *cfg, const char *value, struct err *e)
{
	struct guest_config *guest = &cfg->run.guest;

	if (!*value || *value == '=' || isdigit((unsigned char)*value))
		return err_set(e, -EINVAL, "\"%s\" is neither NAME=VALUE nor NAME", value);
	if (guest->nenv == CONFIG_MAX_ENV)
		return err_set(e, -EINVAL, "given more than %d times", CONFIG_MAX_ENV);
	guest->env[guest->nenv++] = value;
	return 0;
}

int config_apply_cwd(struct config *cfg, const char *value, struct err *e)
{
	if (*value != '/' || strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "\"%s\" is no absolute path in the guest, such as /root", value);
	cfg->run.guest.cwd = value;
	return 0;
}

/* Whole words only: "1000x" is a name nobody has, and init would say so after a boot. */
static bool is_user(const char *value)
{
	size_t digits = strspn(value, "0123456789");
	const char *group = value + digits + 1;

	if (!*value)
		return false;
	if (value[digits] == '\0')
		return digits <= 10;
	if (digits)
		return value[digits] == ':' && *group && strspn(group, "0123456789") == strlen(group);
	return !strpbrk(value, ":/ \t\n") && strlen(value) <= 64;
}

int config_apply_user(struct config *cfg, const char *value, struct err *e)
{
	if (!is_user(value))
		return err_set(e, -EINVAL, "\"%s\" is neither UID, UID:GID nor the name of a user", value);
	cfg->run.guest.user = value;
	return 0;
}

int config_apply_stdin(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->run.guest.input = true;
	return 0;
}

int config_apply_boot_timeout(struct config *cfg, const char *value, struct err *e)
{
	return value_duration(value, &cfg->run.boot_timeout_ms, e);
}

int config_apply_oops(struct config *cfg, const char *value, struct err *e)
{
	unsigned i;
	int r = value_choice(value, OOPS_WORDS, &i, e);

	if (r == 0)
		cfg->run.oops = (enum oops_action)i;
	return r;
}

int config_apply_result(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.result = value;
	return 0;
}

int config_apply_junit(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.junit = value;
	return 0;
}

int config_apply_sandbox(struct config *cfg, const char *value, struct err *e)
{
	return value_switch(value, &cfg->run.sandbox, e);
}

int config_finish_guest(const struct run_config *run, struct err *e)
{
	const struct guest_config *guest = &run->guest;
	const struct {
		const char *option;
		bool given;
	} of_commands[] = {
		{"--env", guest->nenv},
		{"--cwd", guest->cwd},
		{"--user", guest->user},
		{"--stdin", guest->input},
		{"--boot-timeout", run->boot_timeout_ms}, /* an init not ours says nothing to us */
	};

	/* The shell of a root is a command as well, but for its input, which is the terminal. */
	if (run->argv || (guest->root.source && !guest->input))
		return 0;
	for (size_t i = 0; i < sizeof(of_commands) / sizeof(of_commands[0]); i++)
		if (of_commands[i].given)
			return err_set(e, -EINVAL,
				       "%s goes with a command for the guest: ringlet run ... -- COMMAND",
				       of_commands[i].option);
	return 0;
}
