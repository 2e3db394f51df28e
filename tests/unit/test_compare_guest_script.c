/* What a Linux guest's script makes of its tools' words; these were seen. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare/guest.h"

/* The script's functions, told `words` of a tool, and then CALL; what that prints. */
static void run_functions(const char *words, const char *call, char *got, size_t size)
{
	const char *const end = strstr(guest_script, "# --- all of it ---");
	char dir[] = "/tmp/compare_guest.XXXXXX", path[64], line[128];
	size_t n = 0;
	FILE *f;

	cr_assert(end && mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/words", dir);
	f = fopen(path, "w");
	cr_assert(f && fputs(words, f) >= 0 && !fclose(f));
	snprintf(path, sizeof(path), "%s/script", dir);
	f = fopen(path, "w");
	fprintf(f,
		"seconds=2 points='1 50 99.95' hold_us=1\n%.*s\nout=%s/words\n"
		"usleep() { :; }\n%s\n",
		(int)(end - guest_script), guest_script, dir, call);
	cr_assert(!fclose(f));
	snprintf(line, sizeof(line), "sh %s 2>&1; rm -r %s", path, dir);
	f = popen(line, "r");
	cr_assert(f);
	n = fread(got, 1, size - 1, f);
	got[n] = '\0';
	pclose(f);
}

static void check_functions(const char *words, const char *call, const char *want)
{
	char got[1000];

	run_functions(words, call, got, sizeof(got));
	cr_expect_str_eq(got, want, "%s: %s", call, got);
}

Test(compare_guest_script, iperf3s_stream_is_what_was_received)
{
	check_functions("[ ID] Interval           Transfer     Bitrate         Retr  Cwnd\n"
			"[  5]   0.00-1.00   sec  1.17 GBytes  10032836 Kbits/sec    0    767 KBytes       \n"
			"- - - - - - - - - - - - - - - - - - - - - - - - -\n"
			"[ ID] Interval           Transfer     Bitrate         Retr\n"
			"[  5]   0.00-2.00   sec  1.17 GBytes  10032836 Kbits/sec    0             sender\n"
			"[  5]   0.00-2.04   sec  1.17 GBytes  10032645 Kbits/sec                  receiver\n\n"
			"iperf Done.\n",
			"set -- $(iperf_result); echo $1 $2", "2.00 10032645000\n");
}

Test(compare_guest_script, iperf3s_datagrams_are_less_those_that_were_lost)
{
	check_functions(
		"[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams\n"
		"[  5]   0.00-2.00   sec  8.61 MBytes  72245 Kbits/sec  0.000 ms  0/501710 (0%)  sender\n"
		"[  5]   0.00-2.00   sec  2.37 MBytes  19844 Kbits/sec  0.001 ms  363673/501490 (73%)  "
		"receiver\n",
		"iperf_result", "2.00 19844000 68908.5\n");
}

Test(compare_guest_script, iperf3_without_a_result_is_a_failure)
{
	check_functions("iperf3: error - control socket has closed unexpectedly\n",
			"set -- $(iperf_result); end tcp 5 \"${1-}\" \"${2-}\"; echo $?",
			"compare: failed tcp there is no result in: iperf3: error - control socket has closed "
			"unexpectedly\n1\n");
}

static const char sockperfs[] =
	"sockperf: [Total Run] RunTime=1.001 sec; Warm up time=400 msec; SentMessages=92947; "
	"ReceivedMessages=92946\n"
	"sockperf: ========= Printing statistics for Server No: 0\n"
	"sockperf: [Valid Duration] RunTime=0.500 sec; SentMessages=60043; ReceivedMessages=60043\n"
	"sockperf: \033[2;35m====> avg-rtt=9.109 (std-dev=80.692)\033[0m\n";

Test(compare_guest_script, sockperfs_rate_is_of_its_valid_part)
{
	check_functions(sockperfs, "rr_rate", "120086\n");
}

Test(compare_guest_script, sockperfs_log_has_each_round_trip)
{
	check_functions("------------------------------\n"
			"test was performed using the following parameters: --mps=600000\n"
			"------------------------------\n"
			"packet, txTime(sec), rxTime(sec), rtt(usec)\n"
			"0, 2.451266419, 2.451275488, 9.069\n"
			"1, 2.451275532, 2.451282165, 6.633\n"
			"2, 2.451282205, 2.451288535, 6.330\n"
			"------------------------------\n",
			"rr_times \"$out\"", "9.069\n6.633\n6.330\n");
}

Test(compare_guest_script, pings_are_each_replys)
{
	check_functions("PING 10.0.2.2 (10.0.2.2) 56(84) bytes of data.\n"
			"64 bytes from 10.0.2.2: icmp_seq=1 ttl=64 time=0.113 ms\n"
			"64 bytes from 10.0.2.2: icmp_seq=2 ttl=64 time=1.38 ms\n\n"
			"--- 10.0.2.2 ping statistics ---\n"
			"5 packets transmitted, 2 received, 60% packet loss, time 64ms\n"
			"rtt min/avg/max/mdev = 0.036/0.054/0.113/0.029 ms\n",
			"ping_times; ping_rate", "113\n1380\n31.25\n");
}

static const char fios[] =
	"{\n  \"jobs\" : [\n    {\n"
	"      \"job options\" : {\n        \"runtime\" : \"300ms\"\n      },\n"
	"      \"read\" : {\n        \"bw_bytes\" : 0,\n        \"iops\" : 0.000000,\n"
	"        \"runtime\" : 0,\n        \"bw_min\" : 0\n      },\n"
	"      \"write\" : {\n        \"bw_bytes\" : 1218852571,\n        \"bw\" : 1190285,\n"
	"        \"iops\" : 297571.428571,\n        \"runtime\" : 301,\n"
	"        \"lat_ns\" : {\n          \"N\" : 89569,\n          \"percentile\" : {\n"
	"            \"1.000000\" : 5792,\n            \"50.000000\" : 6624,\n"
	"            \"99.950000\" : 2998272\n          }\n        },\n"
	"        \"bw_min\" : 0,\n        \"iops_min\" : 7\n      },\n"
	"      \"trim\" : {\n        \"iops\" : 0.000000,\n        \"runtime\" : 0\n      }\n";

Test(compare_guest_script, fios_part_is_the_one_that_was_asked_for)
{
	check_functions(fios, "fio_result write", "0.301 297571.4 1218852571 5.792 6.624 2998.272\n");
	check_functions(fios, "fio_result read", "");
}

Test(compare_guest_script, percentiles_in_a_shell)
{
	check_functions("", "seq 1 10000 | percentiles", "100.000 5000.000 9995.000\n");
	check_functions("", "echo 73.05 | percentiles", "73.050 73.050 73.050\n");
	check_functions("", "echo 12345.678 | percentiles", "12350.000 12350.000 12350.000\n");
	check_functions("", "percentiles </dev/null", "");
}

Test(compare_guest_script, feature_bits_of_sysfs)
{
	check_functions("",
			"mkdir \"$out.d\" \"$out.d/device\"\n"
			"echo 1101110111101110000000000000110100000000000000000000000000000000 "
			">\"$out.d/device/features\"\nfeatures \"$out.d\"; rm -r \"$out.d\"",
			"00000000b00077bb\n");
}

Test(compare_guest_script, what_a_tool_says_is_one_line_of_a_failure)
{
	char got[1000];
	struct guest_line l;

	run_functions("first\n\033[1mlast\n\n", "fail tcp \"$(why 1)\"", got, sizeof(got));
	guest_line(got, &l);
	cr_expect_eq(l.word, GUEST_FAILED);
	cr_expect_str_eq(l.workload, "tcp");
	cr_expect(strstr(l.why, "exit status 1: ") && strstr(l.why, "last"), "%s", l.why);
	check_functions("x\n", "why 143", "it was ended after 34 s\n");
}

Test(compare_guest_script, an_end_of_the_script_is_understood)
{
	struct guest_line l;
	char got[1000];

	run_functions("", "end qd1 971 2.053 473.0 1 2 3", got, sizeof(got));
	cr_expect_str_eq(got, "compare: end qd1 971 2.053 473.0\ncompare: latency qd1 1 2 3\n");
	*strchr(got, '\n') = '\0';
	guest_line(got, &l);
	cr_expect_eq(l.word, GUEST_END);
}
