/* What the guest's init is told of its root, its shares, its network and where to start. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/module_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/guest_plan.h"

static struct run_config cfg;
static struct root_source root;
static struct guest_plan plan;

static void setup(void)
{
	rig_make();
	rig_file("in/side/x", "");
	cfg = (struct run_config){0};
	root = (struct root_source){.kind = ROOT_NONE};
}

static void teardown(void)
{
	guest_plan_fini(&plan);
	cr_expect_eq(chdir("/"), 0);
	rig_remove();
}

TestSuite(guest_plan_root, .init = setup, .fini = teardown_once, .timeout = 30);

/* The lines, with | between two. */
static const char *lines(void)
{
	static char text[2048];

	guest_plan_fini(&plan);
	guest_plan_root(&plan, &cfg, &root);
	cr_assert_eq(plan.error, 0);
	cr_assert_leq(plan.len, sizeof(text));
	text[0] = '\0';
	if (!plan.len)
		return text;
	memcpy(text, plan.data, plan.len);
	for (size_t i = 0; i + 1 < plan.len; i++)
		if (!text[i])
			text[i] = '|';
	return text;
}

static void be_in(const char *name)
{
	cr_assert_eq(chdir(rig_path(name)), 0);
}

WholeTest(guest_plan_root, an_initramfs_is_told_nothing)
{
	cr_expect_str_eq(lines(), "");
}

WholeTest(guest_plan_root, a_directory_and_an_image)
{
	root.kind = ROOT_DIR;
	cfg.guest.root.source = "/usr/share";
	cr_expect_str_eq(lines(), "root ro virtiofs");
	cfg.guest.root.writable = true;
	cr_expect_str_eq(lines(), "root rw virtiofs");
	root = (struct root_source){.kind = ROOT_IMAGE, .fstype = "ext4", .partition = 3};
	cr_expect_str_eq(lines(), "root rw ext4 3");
}

WholeTest(guest_plan_root, it_starts_where_we_are_if_that_is_there)
{
	root.kind = ROOT_DIR;
	cfg.guest.root.source = rig_dir;
	be_in("in/side");
	cr_expect_str_eq(lines(), "root ro virtiofs|cwd /in/side");
	be_in("");
	cr_expect_str_eq(lines(), "root ro virtiofs|cwd /");
	cfg.guest.cwd = "/elsewhere";
	cr_expect_str_eq(lines(), "root ro virtiofs");
	cfg.guest.cwd = NULL;
	cfg.guest.root.source = rig_path("in/side");
	cr_expect_str_eq(lines(), "root ro virtiofs");
	/* A name that only begins alike is another directory. */
	rig_file("in/sideways/x", "");
	be_in("in/sideways");
	cr_expect_str_eq(lines(), "root ro virtiofs");
}

WholeTest(guest_plan_root, of_the_hosts_own_root)
{
	char expected[256];

	root.kind = ROOT_DIR;
	cfg.guest.root.source = "/";
	be_in("in");
	snprintf(expected, sizeof(expected), "root ro virtiofs|cwd %s", rig_path("in"));
	cr_expect_str_eq(lines(), expected);
}

WholeTest(guest_plan_root, shares)
{
	cfg.guest.nshare = 2;
	cfg.guest.share[0] =
		(struct share_config){.source = rig_path("in"), .path = "/mnt/a b", .writable = true};
	cfg.guest.share[1] = (struct share_config){.source = "/usr", .path = "/other"};
	cr_expect_str_eq(lines(), "share rw /mnt/a b|share ro /other");
	be_in("in/side");
	cr_expect_str_eq(lines(), "share rw /mnt/a b|share ro /other|cwd /mnt/a b/side");
}

WholeTest(guest_plan_root, the_first_card_of_the_user_mode_network)
{
	cfg.dev.nnet = 3;
	cfg.dev.net[0].kind = NET_TAP;
	cfg.dev.net[1].kind = NET_USER;
	cfg.dev.net[2].kind = NET_USER;
	cr_expect_str_eq(lines(), "net 1");
	cfg.initrd = "initrd"; /* whose scripts set it up */
	cr_expect_str_eq(lines(), "");
}
