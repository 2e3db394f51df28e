/* --root, --share, --env and their like. */
#include "tests/unit/config_rig.h"

TestSuite(config_guest, .fini = config_rig_done);

static const struct guest_config *const guest = &cfg.run.guest;

Test(config_guest, nothing_said_is_nothing_done)
{
	takes("bzImage");
	cr_expect_null(guest->root.source);
	cr_expect_eq(guest->nshare, 0);
	cr_expect_eq(guest->nenv, 0);
	cr_expect_null(guest->modules);
	cr_expect_not(guest->input);
	cr_expect_eq(cfg.run.boot_timeout_ms, 0);
	cr_expect_eq(cfg.run.oops, OOPS_IGNORE);
	cr_expect(cfg.run.sandbox);
	cr_expect_null(cfg.run.result);
}

Test(config_guest, a_root_is_read_only_unless_it_is_said)
{
	takes("--root /");
	cr_expect_str_eq(guest->root.source, "/");
	cr_expect_not(guest->root.writable);
	takes("--root dir,rw");
	cr_expect_str_eq(guest->root.source, "dir");
	cr_expect(guest->root.writable);
	takes("--root path=a,,b,rw=off");
	cr_expect_str_eq(guest->root.source, "a,b");
	cr_expect_not(guest->root.writable);
	refuses("--root rw", "--root", NULL);
	refuses("--root /,wr", "wr", "rw", NULL);
}

Test(config_guest, a_share_is_found_where_it_is_said)
{
	takes("--share /src --share build:/mnt/b,rw --share path=a:b,at=/c");
	cr_assert_eq(guest->nshare, 3);
	cr_expect_str_eq(guest->share[0].source, "/src");
	cr_expect_str_eq(guest->share[0].path, "/src");
	cr_expect_not(guest->share[0].writable);
	cr_expect_str_eq(guest->share[1].source, "build");
	cr_expect_str_eq(guest->share[1].path, "/mnt/b");
	cr_expect(guest->share[1].writable);
	cr_expect_str_eq(guest->share[2].source, "a:b");
	cr_expect_str_eq(guest->share[2].path, "/c");
	refuses("--share build", "--share build:/PATH", NULL);
	refuses("--share a,at=b", "at", "absolute", NULL);
	refuses("--share /a:/m --share /b:/m", "/m", "/a", NULL);
	refuses("--share /1 --share /2 --share /3 --share /4 --share /5 --share /6 --share /7 --share /8 "
		"--share /9",
		"8 times", NULL);
}

Test(config_guest, what_a_command_finds)
{
	takes("--env A=b --env PATH --cwd /root --user 1000:100 --stdin --boot-timeout 20s -- true");
	cr_assert_eq(guest->nenv, 2);
	cr_expect_str_eq(guest->env[0], "A=b");
	cr_expect_str_eq(guest->env[1], "PATH");
	cr_expect_str_eq(guest->cwd, "/root");
	cr_expect_str_eq(guest->user, "1000:100");
	cr_expect(guest->input);
	cr_expect_eq(cfg.run.boot_timeout_ms, 20000);
	takes("--user nobody -- true");
	refuses("--user 12x -- true", "12x", NULL);
	refuses("--user 1: -- true", "1:", NULL);
	refuses("--user a:b -- true", "a:b", NULL);
	refuses("--env =b -- true", "=b", NULL);
	refuses("--env 1a -- true", "1a", NULL);
	refuses("--cwd root -- true", "root", "absolute", NULL);
}

Test(config_guest, without_a_command_they_are_refused)
{
	refuses("--env A=b", "--env", "-- COMMAND", NULL);
	refuses("--stdin --root /", "--stdin", NULL);
	refuses("--boot-timeout 1s", "--boot-timeout", NULL);
	takes("--env A=b --root /");
}

Test(config_guest, how_it_is_judged)
{
	takes("--oops fail --result r.json --junit j.xml --sandbox off");
	cr_expect_eq(cfg.run.oops, OOPS_FAIL);
	cr_expect_str_eq(cfg.run.result, "r.json");
	cr_expect_str_eq(cfg.run.junit, "j.xml");
	cr_expect_not(cfg.run.sandbox);
	refuses("--oops maybe", "maybe", "ignore fail", NULL);
}

Test(config_guest, printed_it_gives_the_same_again)
{
	const char *line = "-k linux --root path=a,,b,rw --share /x,,y:/m --share 'path=p:q,at=/r r,rw' "
			   "--modules m --env 'A=b c' "
			   "--cwd /d --user 1:2 --stdin --boot-timeout 1500ms --oops fail --result r --junit j "
			   "--sandbox off "
			   "-- cmd";
	static char text[4096];
	static char words[4096];
	char *argv[MAX_ARGS + 1];

	takes(line);
	cr_assert_lt(config_print_run(&cfg, text, sizeof(text)), sizeof(text));
	snprintf(words, sizeof(words), "%s", text);
	cr_assert_eq(config_parse(&again, unquote(words, argv, MAX_ARGS), argv, &err), 0, "%s: %s", text,
		     err.text);
	cr_expect_str_eq(again.run.guest.root.source, "a,b");
	cr_expect(again.run.guest.root.writable);
	cr_assert_eq(again.run.guest.nshare, 2);
	for (unsigned i = 0; i < 2; i++) {
		same_text(again.run.guest.share[i].source, guest->share[i].source, line);
		same_text(again.run.guest.share[i].path, guest->share[i].path, line);
		cr_expect_eq(again.run.guest.share[i].writable, guest->share[i].writable);
	}
	same_text(again.run.guest.modules, "m", line);
	same_text(again.run.guest.env[0], "A=b c", line);
	same_text(again.run.guest.cwd, "/d", line);
	same_text(again.run.guest.user, "1:2", line);
	cr_expect(again.run.guest.input);
	cr_expect_eq(again.run.boot_timeout_ms, 1500);
	cr_expect_eq(again.run.oops, OOPS_FAIL);
	same_text(again.run.result, "r", line);
	same_text(again.run.junit, "j", line);
	cr_expect_not(again.run.sandbox);
}
