/* Subcommands.  The only exit(). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "backends/vhost_user_again.h"
#include "compare/compare.h"
#include "lib/log.h"
#include "lib/trace.h"
#include "matrix/matrix.h"
#include "servers/backend.h"
#include "vmm/config.h"
#include "vmm/control.h"
#include "vmm/doctor.h"
#include "vmm/machine.h"
#include "vmm/outcome.h"
#include "vmm/version.h"

static int dispatch(const struct config *cfg)
{
	switch (cfg->command) {
	case COMMAND_RUN:
		return machine_run(cfg);
	case COMMAND_DOCTOR:
		return doctor_run(&cfg->doctor);
	case COMMAND_CTL:
	case COMMAND_EXPLAIN:
		return control_client(cfg->ctl.name, cfg->ctl.argc, cfg->ctl.argv);
	case COMMAND_HELP:
		fputs(config_help(cfg->help_topic), stdout);
		return 0;
	case COMMAND_VERSION:
		puts("ringlet " RINGLET_VERSION);
		return 0;
	case COMMAND_COMPLETE:
		return config_completion(stdout) ? STATUS_FAILED : 0;
	}
	return STATUS_FAILED;
}

/* A file of ours that got the number of a closed stdout would be written to. */
static void open_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char *argv[])
{
	static struct config cfg; /* large, and the main thread's stack is not */
	struct err e = {0};
	int status;

	if (slirp_helper_wanted(argc, argv))
		exit(slirp_helper_main(argc, argv));
	if (vhost_user_again_wanted(argc, argv))
		exit(vhost_user_again_main(argc, argv));
	open_standard_fds();
	if (argc > 1 && !strcmp(argv[1], "backend"))
		exit(backend_main(argc - 2, argv + 2));
	if (argc > 1 && !strcmp(argv[1], "compare"))
		exit(compare_main(argc - 2, argv + 2));
	if (argc > 1 && !strcmp(argv[1], "matrix"))
		exit(matrix_main(argc - 2, argv + 2));
	if (config_parse(&cfg, argc, argv, &e)) {
		log_error("%s", e.text);
		status = STATUS_FAILED;
	} else {
		if (cfg.verbose)
			log_set_level(LOG_DEBUG);
		trace_control(cfg.verbose || cfg.run.trace_control);
		status = dispatch(&cfg);
	}
	config_free(&cfg);
	if (fflush(stdout) && !status)
		status = STATUS_FAILED;
	exit(status);
}
