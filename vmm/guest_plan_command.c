/* What the command finds when it starts. */
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "vmm/guest_plan.h"

int guest_plan_command(struct guest_plan *p, const struct run_config *cfg, struct err *e)
{
	(void)e;
	for (unsigned i = 0; i < cfg->guest.nenv; i++) {
		const char *env = cfg->guest.env[i], *value = strchr(env, '=') ? NULL : getenv(env);

		if (strchr(env, '='))
			guest_plan_add(p, "env", "%s", env);
		else if (value)
			guest_plan_add(p, "env", "%s=%s", env, value);
		else
			log_warn("--env %s: it is not set here, so it is not in the guest", env);
	}
	return 0;
}
