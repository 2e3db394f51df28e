/* The command line. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define COMMAND "ringlet "
#include "tests/unit/config_rig.h"

TestSuite(config, .fini = config_rig_done);
TestSuite(config_error, .fini = config_rig_done);

Test(config, nothing_is_help)
{
	takes("");
	cr_expect_eq(cfg.command, COMMAND_HELP);
	cr_expect_null(cfg.help_topic);
}

Test(config, run_defaults)
{
	takes("run");
	cr_expect_eq(cfg.command, COMMAND_RUN);
	cr_expect_null(cfg.run.kernel);
	cr_expect_null(cfg.run.initrd);
	cr_expect(cfg.run.default_append);
	cr_expect_eq(cfg.run.mem.size, 512 * MIB);
	cr_expect(cfg.run.mem.share);
	cr_expect_not(cfg.run.mem.prealloc);
	cr_expect_eq(cfg.run.cpu.n, 1);
	cr_expect_eq(cfg.run.cpu.sockets * cfg.run.cpu.cores * cfg.run.cpu.threads, 1);
	cr_expect_eq(cfg.run.timeout_ms, 0);
	cr_expect_eq(cfg.run.panic, PANIC_EXIT);
	cr_expect_eq(cfg.run.reboot, REBOOT_EXIT);
	cr_expect_null(cfg.run.argv);
}

Test(config, old_contents_do_not_matter)
{
	memset(&cfg, 0xff, sizeof(cfg));
	cfg.strings = NULL;
	takes("run");
	cr_expect_null(cfg.run.kernel);
	cr_expect_eq(cfg.run.nappend, 0);
	cr_expect_not(cfg.verbose);
}

Test(config, kernel_as_operand)
{
	takes("run bzImage -v");
	cr_expect_str_eq(cfg.run.kernel, "bzImage");
	cr_expect(cfg.verbose);
}

Test(config, options_around_operand)
{
	takes("run -i rd bzImage -a quiet");
	cr_expect_str_eq(cfg.run.kernel, "bzImage");
	cr_expect_str_eq(cfg.run.initrd, "rd");
	cr_expect_str_eq(cfg.run.append[0], "quiet");
}

Test(config, value_attached_to_long_option)
{
	takes("run --kernel=a=b");
	cr_expect_str_eq(cfg.run.kernel, "a=b");
}

Test(config, value_attached_to_letter)
{
	takes("run -m1G -kvmlinux");
	cr_expect_eq(cfg.run.mem.size, GIB);
	cr_expect_str_eq(cfg.run.kernel, "vmlinux");
}

Test(config, letters_bundled)
{
	takes("run -vm 1G");
	cr_expect(cfg.verbose);
	cr_expect_eq(cfg.run.mem.size, GIB);
}

Test(config, value_may_look_like_an_option)
{
	takes("run -a -quiet --append=--");
	cr_expect_str_eq(cfg.run.append[0], "-quiet");
	cr_expect_str_eq(cfg.run.append[1], "--");
}

Test(config, append_accumulates_in_order)
{
	takes("run -a one --append two --append=three");
	cr_assert_eq(cfg.run.nappend, 3);
	cr_expect_str_eq(cfg.run.append[0], "one");
	cr_expect_str_eq(cfg.run.append[2], "three");
}

Test(config, append_is_bounded)
{
	char line[1024] = "run";

	for (int i = 0; i < CONFIG_MAX_APPENDS; i++)
		strcat(line, " -ax");
	takes(line);
	strcat(line, " -ax");
	refuses(line, "-a", "32", NULL);
}

Test(config, last_scalar_wins)
{
	takes("run -k a -k b --timeout 1 --timeout 2s --panic hang --panic reboot");
	cr_expect_str_eq(cfg.run.kernel, "b");
	cr_expect_eq(cfg.run.timeout_ms, 2000);
	cr_expect_eq(cfg.run.panic, PANIC_REBOOT);
}

Test(config, last_mem_replaces_all_of_the_first)
{
	takes("run -m 1G,prealloc -m path=/x");
	cr_expect_eq(cfg.run.mem.size, 512 * MIB);
	cr_expect_not(cfg.run.mem.prealloc);
	cr_expect_str_eq(cfg.run.mem.path, "/x");
}

Test(config, command_after_two_dashes)
{
	takes("run bz -- ls --help -m");
	cr_assert_eq(cfg.command, COMMAND_RUN);
	cr_assert_eq(cfg.run.argc, 3);
	cr_expect_str_eq(cfg.run.argv[1], "--help");
	cr_expect_null(cfg.run.argv[3]);
}

Test(config, mem_first_key_left_out)
{
	takes("run -m 1.5G,hugepages=2M");
	cr_expect_eq(cfg.run.mem.size, 1536 * MIB);
	cr_expect_eq(cfg.run.mem.hugepage_size, 2 * MIB);
}

Test(config, mem_keys_without_size)
{
	takes("run -m hugepages,share=off");
	cr_expect_eq(cfg.run.mem.size, 512 * MIB);
	cr_expect_eq(cfg.run.mem.hugepage_size, 2 * MIB);
	cr_expect_not(cfg.run.mem.share);
}

Test(config, mem_hugepages_off)
{
	takes("run -m 1G,hugepages=off");
	cr_expect_eq(cfg.run.mem.hugepage_size, 0);
	cr_expect_not(cfg.run.mem.prealloc);
}

Test(config, mem_hugepages_imply_prealloc)
{
	takes("run -m 2G,hugepages=1G");
	cr_expect_eq(cfg.run.mem.hugepage_size, GIB);
	cr_expect(cfg.run.mem.prealloc);
}

Test(config, mem_doubled_comma_is_a_comma)
{
	takes("run -m path=/a,,b,prealloc");
	cr_expect_str_eq(cfg.run.mem.path, "/a,b");
	cr_expect(cfg.run.mem.prealloc);
}

Test(config, mem_path_is_a_copy)
{
	char list[] = "512M,path=/dev/shm,share=on";
	char *argv[] = {(char *)"ringlet", (char *)"run", (char *)"-m", list, NULL};

	cr_assert_eq(config_parse(&cfg, 4, argv, &err), 0);
	cr_expect_str_eq(list, "512M,path=/dev/shm,share=on");
	cr_expect_str_eq(cfg.run.mem.path, "/dev/shm");
}

Test(config, cpus_alone_are_cores_of_one_socket)
{
	takes("run -c 6");
	cr_expect_eq(cfg.run.cpu.n, 6);
	cr_expect_eq(cfg.run.cpu.sockets, 1);
	cr_expect_eq(cfg.run.cpu.cores, 6);
	cr_expect_eq(cfg.run.cpu.threads, 1);
}

Test(config, cpus_cores_filled_in)
{
	takes("run -c 8,sockets=2,threads=2");
	cr_expect_eq(cfg.run.cpu.cores, 2);
}

Test(config, cpus_sockets_filled_in)
{
	takes("run -c 8,cores=2");
	cr_expect_eq(cfg.run.cpu.sockets, 4);
	cr_expect_eq(cfg.run.cpu.threads, 1);
}

Test(config, cpus_threads_filled_in)
{
	takes("run -c 8,sockets=2,cores=2");
	cr_expect_eq(cfg.run.cpu.threads, 2);
}

Test(config, cpus_n_is_the_product)
{
	takes("run -c sockets=2,cores=3");
	cr_expect_eq(cfg.run.cpu.n, 6);
}

Test(config, cpus_pinned)
{
	takes("run -c 2,pin=2-3+7");
	cr_expect_eq(cfg.run.cpu.npin, 3);
	cr_expect_eq(cfg.run.cpu.pin[2], 7);
}

Test(config, stats_with_and_without_file)
{
	takes("run --stats bz");
	cr_expect(cfg.run.stats);
	cr_expect_null(cfg.run.stats_path);
	cr_expect_str_eq(cfg.run.kernel, "bz");
	takes("run --stats=f.json");
	cr_expect_str_eq(cfg.run.stats_path, "f.json");
}

Test(config, remaining_run_options)
{
	takes("run --no-default-append --log l --dry-run --reboot again");
	cr_expect_not(cfg.run.default_append);
	cr_expect_str_eq(cfg.run.log, "l");
	cr_expect(cfg.run.dry_run);
	cr_expect_eq(cfg.run.reboot, REBOOT_AGAIN);
}

Test(config, words_of_qemu)
{
	takes("run -kernel k -initrd i -append a -smp 4,cores=2 -m 1G");
	cr_expect_str_eq(cfg.run.kernel, "k");
	cr_expect_str_eq(cfg.run.initrd, "i");
	cr_expect_str_eq(cfg.run.append[0], "a");
	cr_expect_eq(cfg.run.cpu.n, 4);
}

Test(config, words_of_cloud_hypervisor)
{
	takes("run --kernel k --initramfs i --cmdline a --cpus boot=4 "
	      "--memory size=2G,hugepages=on,hugepage_size=1G,shared=on,prefault=on");
	cr_expect_str_eq(cfg.run.initrd, "i");
	cr_expect_str_eq(cfg.run.append[0], "a");
	cr_expect_eq(cfg.run.cpu.n, 4);
	cr_expect_eq(cfg.run.mem.hugepage_size, GIB);
}

Test(config, words_of_crosvm_and_lkvm)
{
	takes("run -p a --params b --mem size=1024 --cpus num-cores=2");
	cr_expect_eq(cfg.run.nappend, 2);
	cr_expect_eq(cfg.run.mem.size, GIB);
	cr_expect_eq(cfg.run.cpu.n, 2);
}

Test(config, verbose_before_the_command)
{
	takes("-v run");
	cr_expect_eq(cfg.command, COMMAND_RUN);
	cr_expect(cfg.verbose);
}

Test(config, help_of_a_command)
{
	takes("run -k x --help");
	cr_expect_eq(cfg.command, COMMAND_HELP);
	cr_expect_str_eq(cfg.help_topic, "run");
	takes("help doctor");
	cr_expect_eq(cfg.command, COMMAND_HELP);
	cr_expect_str_eq(cfg.help_topic, "doctor");
	takes("help devices");
	cr_expect_str_eq(cfg.help_topic, "devices");
	refuses("devices", "devices", NULL);
}

Test(config, general_help)
{
	static const char *const lines[] = {"help", "--help", "-h", "-help", "help --help"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		takes(lines[i]);
		cr_expect_eq(cfg.command, COMMAND_HELP, "%s", lines[i]);
		cr_expect_null(cfg.help_topic, "%s", lines[i]);
	}
}

Test(config, version)
{
	static const char *const lines[] = {"--version", "version", "run --version", "-version"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		takes(lines[i]);
		cr_expect_eq(cfg.command, COMMAND_VERSION, "%s", lines[i]);
	}
}

Test(config, completion)
{
	takes("completion bash");
	cr_expect_eq(cfg.command, COMMAND_COMPLETE);
	refuses("completion", "bash", NULL);
	refuses("completion zsh", "bash", NULL);
}

Test(config, doctor)
{
	takes("doctor --json --check kvm");
	cr_expect_eq(cfg.command, COMMAND_DOCTOR);
	cr_expect(cfg.doctor.json);
	cr_expect_str_eq(cfg.doctor.check, "kvm");
}

Test(config_error, unknown_option_names_the_nearest)
{
	refuses("run --memroy 1G", "--memroy", "--mem?", NULL);
	refuses("run --initrdd x", "--initrd?", NULL);
	refuses("run --init x", "--initrd?", NULL);
	refuses("run --no-default", "--no-default-append?", NULL);
	refuses("doctor --jsno", "--json?", NULL);
}

Test(config_error, unknown_option_far_from_all)
{
	refuses("run --frobnicate", "--frobnicate", "ringlet run --help", NULL);
	refuses("run -z", "-z", NULL);
}

Test(config_error, unknown_key_names_the_nearest)
{
	refuses("run -m 1G,hugepage", "\"hugepage\"", "\"hugepages\"?", NULL);
	refuses("run -m hugpages", "\"hugepages\"?", NULL);
	refuses("run -c 4,socket=2", "\"socket\"", "\"sockets\"?", NULL);
}

Test(config_error, unknown_key_far_from_all_lists_them)
{
	refuses("run -m 1G,colour=red", "colour", "size, hugepages, path, share, thp, prealloc", NULL);
}

Test(config_error, unknown_command_names_the_nearest)
{
	refuses("rnu", "\"rnu\"", "\"run\"?", NULL);
	refuses("help docter", "\"doctor\"?", NULL);
	refuses("help device", "\"devices\"?", NULL);
	refuses("bzImage", "ringlet run KERNEL", NULL);
}

Test(config_error, later_things_are_named_as_such)
{
	refuses("run --pmem x", "--pmem", "not in this version", "--disk", "--fs", NULL);
	refuses("run --virtfs x", "--virtfs", "--share DIR:PATH", NULL);
}

Test(config_error, other_programs_words_with_a_hint)
{
	refuses("run -nographic", "-nographic", "leave it out", NULL);
	refuses("run -enable-kvm", "always runs on KVM", NULL);
	refuses("run -accel tcg", "always runs on KVM", NULL);
	refuses("run --api-socket s", "--control FILE", NULL);
	refuses("run --cpus boot=2,max=4", "max=", NULL);
	refuses("run -smp 2,maxcpus=4", "maxcpus=", NULL);
	refuses("run -m 1G,slots=2", "slots=", NULL);
	refuses("run --hugepages", "hugepages=2M", NULL);
}

Test(config_error, misspelt_single_dash_word)
{
	refuses("run -kernal bz", "-kernal", "-kernel?", NULL);
	refuses("run -dirve x", "-dirve", "-drive?", NULL);
	refuses("run -nogrphic", "-nogrphic", "-nographic?", NULL);
}

Test(config_error, missing_value)
{
	refuses("run -k", "-k", "value", NULL);
	refuses("run -k -- ls", "-k", "value", NULL);
	refuses("run --mem", "--mem", "value", NULL);
	refuses("run --kernel=", "--kernel", "empty", NULL);
	refuses("run -m size", "size=", NULL);
}

Test(config_error, value_where_none_goes)
{
	refuses("run --dry-run=1", "--dry-run", "\"1\"", NULL);
}

Test(config_error, option_of_another_command)
{
	refuses("doctor -k x", "-k", "ringlet run", NULL);
	refuses("run --json", "--json", "ringlet doctor", NULL);
	refuses("-m 1G run", "-m", "ringlet run", NULL);
}

Test(config_error, memory_is_a_multiple_of_its_pages)
{
	refuses("run -m 513M", "513M", "2M", "512M", "514M", NULL);
	refuses("run -m 1536M,hugepages=1G", "1536M", "1G", "2G", NULL);
	refuses("run -m hugepages=1G", "512M", "1G", NULL);
	refuses("run -m 0.7G", "multiple of 2M", "716M", "718M", NULL);
}

Test(config_error, memory_bounds)
{
	refuses("run -m 8M", "8M", "16M", NULL);
	takes("run -m 16M");
	refuses("run -m 0", "16M", NULL);
	refuses("run -m 536870912", "MiB", NULL);
	refuses("run -m 99999999999999999999G", "64 bits", NULL);
}

Test(config_error, memory_values)
{
	refuses("run -m 12Q", "12Q", "512M", NULL);
	refuses("run -m 1G,hugepages=4M", "hugepages", "4M", "2M 1G", NULL);
	refuses("run -m 1G,share=maybe", "share", "maybe", NULL);
	refuses("run -m 1G,path=", "path", "nothing", NULL);
	refuses("run -m 1G,hugepages,prealloc=off", "prealloc=off", NULL);
	refuses("run -m 1G,", "nothing", NULL);
	refuses("run -m ,1G", "nothing", NULL);
}

Test(config_error, topology_says_the_numbers)
{
	refuses("run -c 8,sockets=1,cores=2,threads=3", "sockets=1", "cores=2", "threads=3", "6", "8", NULL);
	refuses("run -c 6,cores=4", "6", "4", NULL);
	refuses("run -c sockets=64,cores=64", "4096", "1024", NULL);
}

Test(config_error, cpus_bounds)
{
	refuses("run -c 0", "0", "1 and 1024", NULL);
	refuses("run -c 1025", "1025", "1 and 1024", NULL);
	takes("run -c 1024");
	refuses("run -c 2x", "2x", NULL);
	refuses("run -c 2,pin=x", "pin", "0-1+4", NULL);
}

Test(config_error, other_values)
{
	refuses("run --timeout soon", "--timeout", "soon", "60s", NULL);
	refuses("run --panic stop", "--panic", "stop", "exit hang reboot", NULL);
	refuses("run --reboot no", "--reboot", "exit again", NULL);
	refuses("doctor --check kmv", "--check", "kmv", "kvm", NULL);
}

Test(config_error, second_operand)
{
	refuses("run bzImage ls", "bzImage", "\"ls\"", "--", NULL);
}

Test(config_error, no_command_after_two_dashes)
{
	refuses("run bzImage --", "--", NULL);
	refuses("--", "--", NULL);
}

Test(config_error, extra_operands)
{
	refuses("doctor kvm", "kvm", "--check", NULL);
	refuses("version x", "\"x\"", NULL);
	refuses("help run doctor", "\"doctor\"", NULL);
}

Test(config, unpack_is_a_switch)
{
	takes("run");
	cr_expect(cfg.run.unpack);
	takes("run --unpack off");
	cr_expect_not(cfg.run.unpack);
	refuses("run --unpack maybe", "--unpack", "maybe", "on", NULL);
}

Test(config, distance_counts_edits)
{
	cr_expect_eq(edit_distance("", ""), 0);
	cr_expect_eq(edit_distance("abc", "abc"), 0);
	cr_expect_eq(edit_distance("", "abc"), 3);
	cr_expect_eq(edit_distance("abc", "ac"), 1);
	cr_expect_eq(edit_distance("abc", "axc"), 1);
	cr_expect_eq(edit_distance("abc", "acb"), 1);
	cr_expect_eq(edit_distance("kitten", "sitting"), 3);
}

Test(config, every_alias_stands_for_an_option)
{
	for (size_t i = 0; i < noption_aliases; i++) {
		const struct option_alias *alias = &option_aliases[i];
		bool found = false;

		cr_expect_neq(!alias->stands_for, !alias->hint, "%s", alias->name);
		for (size_t j = 0; alias->stands_for && j < noption_defs; j++)
			found |= !strcmp(option_defs[j].name, alias->stands_for);
		cr_expect(found || alias->hint, "%s", alias->name);
	}
}
