/* Every option there is, once: the parser, the completion script and the tests read this table. */
#ifndef VMM_CONFIG_OPTIONS_H
#define VMM_CONFIG_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "vmm/config.h"
#include "vmm/config_keys.h"

enum option_arg { ARG_NONE, ARG_REQUIRED, ARG_OPTIONAL /* only as --name=value */ };
enum option_value { VALUE_OTHER, VALUE_FILE, VALUE_WORDS, VALUE_KEYS, VALUE_CHECK };

/* The places on a command line that know an option. */
#define IN_MAIN    1U /* before the subcommand */
#define IN_RUN     2U
#define IN_DOCTOR  4U
#define IN_OTHER   8U /* help, completion, version */
#define IN_CTL     16U
#define IN_EXPLAIN 32U
#define IN_ALL     (IN_MAIN | IN_RUN | IN_DOCTOR | IN_OTHER | IN_CTL | IN_EXPLAIN)

struct option_def {
	const char *name;
	char letter; /* '\0': none */
	unsigned places;
	enum option_arg arg;
	enum option_value value;
	const char *words;          /* VALUE_WORDS */
	const struct key_def *keys; /* VALUE_KEYS; the last has no name */

	/* value: NULL where there is none; lives as long as argv.  0, or a code with a sentence. */
	int (*apply)(struct config *cfg, const char *value, struct err *e);
};

extern const struct option_def option_defs[];
extern const size_t noption_defs;

/* Other programs' words: for an option of ours, or with a hint for who tries them. */
#define ONE_DASH 1U
#define TWO_DASH 2U
struct option_alias {
	const char *name;
	unsigned dashes;
	const char *stands_for; /* NULL: refused, with */
	const char *hint;
};

extern const struct option_alias option_aliases[];
extern const size_t noption_aliases;

struct command_def {
	const char *name;
	enum command command;
	unsigned place;
};

extern const struct command_def command_defs[];
extern const size_t ncommand_defs;

/* A copy of text that lives until config_free(); NULL without memory. */
const char *config_keep(struct config *cfg, const char *text);

/* What a run has before any option. */
void config_defaults(struct run_config *run);

/* The topics of help that are no command. */
#define HELP_DEVICES "devices"
#define HELP_TESTS   "tests"

/* The options of virtio devices (config_devices.c, _net.c, _disk.c, _console.c), for the table. */
#define TRANSPORT_WORDS "pci mmio"
extern const struct key_def config_net_keys[], config_disk_keys[], config_rng_keys[], config_balloon_keys[],
	config_console_keys[], config_common_keys[], config_disk_remote_keys[], config_vsock_keys[],
	config_scsi_keys[], config_fs_keys[], config_device_keys[];

/* Other programs' keys of them (config_aliases.c); they go on with config_common_keys. */
extern const struct key_def config_net_aliases[], config_disk_aliases[];

int config_apply_net(struct config *cfg, const char *value, struct err *e);
int config_apply_disk(struct config *cfg, const char *value, struct err *e);
int config_apply_rng(struct config *cfg, const char *value, struct err *e);
int config_apply_balloon(struct config *cfg, const char *value, struct err *e);
int config_apply_console(struct config *cfg, const char *value, struct err *e);
int config_apply_vsock(struct config *cfg, const char *value, struct err *e);
int config_apply_scsi(struct config *cfg, const char *value, struct err *e);
int config_apply_fs(struct config *cfg, const char *value, struct err *e);
int config_apply_device(struct config *cfg, const char *value, struct err *e);
int config_apply_transport(struct config *cfg, const char *value, struct err *e);

/* What the guest's init is told, and how a run is judged (config_guest.c). */
#define OOPS_WORDS "ignore fail"
extern const struct key_def config_root_keys[], config_share_keys[];
int config_apply_root(struct config *cfg, const char *value, struct err *e);
int config_apply_share(struct config *cfg, const char *value, struct err *e);
int config_apply_modules(struct config *cfg, const char *value, struct err *e);
int config_apply_env(struct config *cfg, const char *value, struct err *e);
int config_apply_cwd(struct config *cfg, const char *value, struct err *e);
int config_apply_user(struct config *cfg, const char *value, struct err *e);
int config_apply_stdin(struct config *cfg, const char *value, struct err *e);
int config_apply_boot_timeout(struct config *cfg, const char *value, struct err *e);
int config_apply_oops(struct config *cfg, const char *value, struct err *e);
int config_apply_result(struct config *cfg, const char *value, struct err *e);
int config_apply_junit(struct config *cfg, const char *value, struct err *e);
int config_apply_sandbox(struct config *cfg, const char *value, struct err *e);
/* After the last option and the command: what does not go together.  0 or -EINVAL with a sentence. */
int config_finish_guest(const struct run_config *run, struct err *e);

/* After the last option: gives --transport to the devices that were told none, and refuses what does
 * not go together then.  0 or -EINVAL with a sentence. */
int config_finish_devices(struct config *cfg, struct err *e);
int config_finish_ports(const struct run_config *run, struct err *e); /* a part of it */
#endif
