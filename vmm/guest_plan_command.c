/* What the command finds when it starts. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "vmm/guest_plan.h"

/* Our stdout and stderr are the same pipe, file or terminal: then the command's are as well, or what it writes
 * to one and the other could change places. */
static bool one_output(void)
{
	struct stat out, err;

	return !fstat(STDOUT_FILENO, &out) && !fstat(STDERR_FILENO, &err) && out.st_dev == err.st_dev &&
	       out.st_ino == err.st_ino;
}

static void add_env(struct guest_plan *p, const struct guest_config *guest)
{
	const char *term = getenv("TERM");

	if (term && *term)
		guest_plan_add(p, "env", "TERM=%s", term);
	for (unsigned i = 0; i < guest->nenv; i++) {
		const char *env = guest->env[i], *value = strchr(env, '=') ? NULL : getenv(env);

		if (strchr(env, '='))
			guest_plan_add(p, "env", "%s", env);
		else if (value)
			guest_plan_add(p, "env", "%s=%s", env, value);
		else
			log_warn("--env %s: it is not set here, so it is not in the guest", env);
	}
}

int guest_plan_command(struct guest_plan *p, const struct run_config *cfg, struct err *e)
{
	(void)e;
	if (cfg->argv || cfg->guest.root.source)
		guest_plan_add(p, "channel", "on");
	if (cfg->guest.input)
		guest_plan_add(p, "stdin", "on");
	if (cfg->argv && one_output())
		guest_plan_add(p, "one-output", "on");
	if (cfg->guest.user)
		guest_plan_add(p, "user", "%s", cfg->guest.user);
	if (cfg->guest.cwd)
		guest_plan_add(p, "chdir", "%s", cfg->guest.cwd);
	add_env(p, &cfg->guest);
	return 0;
}
