/* The completion script, as bash runs it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/teardown.h"
#include "vmm/config.h"
#include "vmm/config_options.h"

static char dir[64];

static void setup(void)
{
	char path[128];
	FILE *f;

	if (system("bash -c 'mapfile -t x </dev/null' 2>/dev/null") != 0)
		cr_skip_test("no bash with mapfile");
	strcpy(dir, "/tmp/ringlet-completion-XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/script", dir);
	f = fopen(path, "w");
	cr_assert(f);
	cr_assert_eq(config_completion(f), 0);
	fclose(f);
}

static void teardown(void)
{
	char command[128];

	if (!dir[0])
		return;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_expect_eq(system(command), 0);
}

TestSuite(completion, .init = setup, .fini = teardown_once, .timeout = 30);

static char answer[4096];

/* What bash is offered for line with the cursor at its end, each between two spaces. */
static const char *completed_with(const char *line, const char *breaks)
{
	char command[1024];
	size_t len;
	FILE *f;

	snprintf(command, sizeof(command),
		 "cd '%s' && bash --norc --noprofile -c 'source ./script && COMP_WORDBREAKS=$2 && "
		 "COMP_LINE=$1 && COMP_POINT=${#1} && _ringlet && echo \" ${COMPREPLY[*]} \"' "
		 "- '%s' '%s' 2>&1",
		 dir, line, breaks);
	f = popen(command, "re");
	cr_assert(f);
	len = fread(answer, 1, sizeof(answer) - 1, f);
	answer[len] = '\0';
	pclose(f);
	answer[strcspn(answer, "\n")] = '\0';
	return answer;
}

static const char *completed(const char *line)
{
	return completed_with(line, " =:");
}

static void offers(const char *line, const char *expected)
{
	const char *offered = completed(line);
	char words[256];

	snprintf(words, sizeof(words), " %s ", expected);
	cr_expect_str_eq(offered, words, "\"%s\": offered \"%s\", not \"%s\"", line, offered, words);
}

WholeTest(completion, script_is_bash)
{
	char command[128];

	snprintf(command, sizeof(command), "bash -n %s/script", dir);
	cr_expect_eq(system(command), 0);
}

WholeTest(completion, registers_itself)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "bash --norc -c 'source %s/script; complete -p ringlet' | grep -q -- '-F _ringlet'", dir);
	cr_expect_eq(system(command), 0);
}

WholeTest(completion, commands)
{
	offers("ringlet ", "run doctor help completion version ctl explain");
	offers("ringlet d", "doctor");
	offers("ringlet -v r", "run");
}

WholeTest(completion, operands_of_commands)
{
	offers("ringlet help d", "doctor devices");
	offers("ringlet completion ", "bash");
}

WholeTest(completion, every_option_of_run)
{
	const char *offered = completed("ringlet run -");

	for (size_t i = 0; i < noption_defs; i++) {
		char word[64];

		snprintf(word, sizeof(word), " --%s ", option_defs[i].name);
		cr_expect_eq(!strstr(offered, word), !(option_defs[i].places & IN_RUN), "%s", word);
	}
}

WholeTest(completion, option_begun)
{
	offers("ringlet run bzImage --ke", "--kernel");
	offers("ringlet doctor --j", "--json");
}

WholeTest(completion, words_of_an_option)
{
	offers("ringlet run --panic ", "exit hang reboot");
	offers("ringlet run --reboot a", "again");
}

WholeTest(completion, words_after_equals_sign)
{
	offers("ringlet run --panic=h", "hang");
}

WholeTest(completion, words_where_equals_does_not_break)
{
	cr_expect_str_eq(completed_with("ringlet run --panic=h", " "), " --panic=hang ");
}

WholeTest(completion, keys_at_the_start)
{
	offers("ringlet run -m ", "size= hugepages path= share thp prealloc");
	offers("ringlet run -c th", "threads=");
}

WholeTest(completion, keys_after_a_comma)
{
	offers("ringlet run -m 512M,hu", "512M,hugepages");
	offers("ringlet run --cpus 4,s", "4,sockets=");
	offers("ringlet run --mem=512M,p", "512M,path= 512M,prealloc");
}

WholeTest(completion, keys_after_a_value_with_equals_sign)
{
	offers("ringlet run -m 512M,hugepages=2M,sh", "2M,share");
}

WholeTest(completion, values_of_a_key)
{
	offers("ringlet run -m 512M,hugepages=", "2M 1G on off");
	offers("ringlet run --mem=512M,share=o", "on off");
}

WholeTest(completion, directory_of_a_key)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/huge", dir);
	cr_assert_eq(mkdir(path, 0755), 0);
	offers("ringlet run -m 512M,path=hu", "huge");
}

WholeTest(completion, files)
{
	offers("ringlet run -k scr", "script");
	offers("ringlet run -i scr", "script");
	offers("ringlet run --log scr", "script");
	offers("ringlet run --kernel=scr", "script");
	offers("ringlet run scr", "script");
}

WholeTest(completion, keys_of_devices)
{
	offers("ringlet run -n user,hos", "user,hostfwd=");
	offers("ringlet run --net tap,queue", "tap,queues= tap,queue-size=");
	offers("ringlet run --rng=do", "doorbell=");
	offers("ringlet run --console virtio,pac", "virtio,packed");
	offers("ringlet run --balloon=irq=", "irqfd ioctl");
	offers("ringlet run -d x,cache=", "writeback writethrough");
	offers("ringlet run --transport m", "mmio");
}

WholeTest(completion, first_word_of_a_device)
{
	offers("ringlet run -n u", "user uso");
	offers("ringlet run --console=",
	       "serial virtio kind= port= transport= notify= irq= doorbell= packed in_order "
	       "event_idx indirect bits= features= queue-size= pin=");
	offers("ringlet run --rng=p", "pci packed pin=");
}

WholeTest(completion, file_of_a_disk)
{
	offers("ringlet run -d scr", "script");
	offers("ringlet run --disk=scr", "script");
	offers("ringlet run -drive scr", "script");
	offers("ringlet run -d path=scr", "script");
	offers("ringlet run -d ro,path=scr", "script");
	offers("ringlet run -d script,ser", "script,serial=");
}

WholeTest(completion, devices_served_elsewhere)
{
	offers("ringlet run -n vho", "vhost-user vhost");
	offers("ringlet run -n tap,vho", "tap,vhost");
	offers("ringlet run -n tap,po", "tap,poll-us=");
	offers("ringlet run -n vhost-user,se", "vhost-user,server");
	offers("ringlet run -n vhost-user,path=scr", "script");
	offers("ringlet run --fs vhost-user,ta", "vhost-user,tag=");
	offers("ringlet run --fs=vhost-user,path=scr", "script");
	offers("ringlet run --scsi v", "vhost");
	offers("ringlet run --scsi vhost,w", "vhost,wwpn=");
	offers("ringlet run --device vhost-user,ty", "vhost-user,type=");
	offers("ringlet run --device vhost-user,co", "vhost-user,config=");
	offers("ringlet run --vsock 3,bits=", "common all");
}

WholeTest(completion, a_disk_served_elsewhere_has_other_keys)
{
	offers("ringlet run -d v", "vhost-user vdpa");
	offers("ringlet run -d vhost-user,re", "vhost-user,reconnect=");
	offers("ringlet run -drive vdpa,path=scr", "script");
	offers("ringlet run --disk=vhost-user,server=", "on off");
	cr_expect_str_eq(completed("ringlet run -d vhost-user,se"), " vhost-user,server ");
	cr_expect_str_eq(completed("ringlet run -d script,se"), " script,serial= ");
	cr_expect_str_eq(completed("ringlet run -d vdpa,di"), "");
}

WholeTest(completion, no_words_of_other_programs)
{
	cr_expect_str_eq(completed("ringlet run -n tap,tapi"), "");
	cr_expect_str_eq(completed("ringlet run -d x,read"), "");
	cr_expect_str_eq(completed("ringlet run -d x,snap"), "");
}

WholeTest(completion, other_spellings)
{
	offers("ringlet run --memory 512M,hu", "512M,hugepages");
	offers("ringlet run -smp 4,th", "4,threads=");
}

WholeTest(completion, names_of_checks)
{
	offers("ringlet doctor --check kvm-", "kvm-device kvm-api kvm-nested");
}

WholeTest(completion, nothing_behind_two_dashes)
{
	offers("ringlet run bzImage -- scr", "");
}

WholeTest(completion, write_error_is_told)
{
	FILE *full = fopen("/dev/full", "w");

	if (!full)
		cr_skip_test("no /dev/full");
	cr_expect_lt(config_completion(full), 0);
	fclose(full);
}
