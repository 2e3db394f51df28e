/* Forwarded ports as the user writes them. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/hostfwd.h"

static void check(const char *text, bool udp, const char *host, const char *guest)
{
	char h[HOSTFWD_ADDR_LEN], g[HOSTFWD_ADDR_LEN];
	struct user_net_fwd f;
	struct err e = {0};

	cr_assert_eq(user_net_parse_hostfwd(text, &f, &e), 0, "%s: %s", text, e.text);
	cr_expect_eq(f.udp, udp, "%s", text);
	hostfwd_addr_text(&f.host, h, sizeof(h));
	hostfwd_addr_text(&f.guest, g, sizeof(g));
	cr_expect_str_eq(h, host, "%s: %s", text, h);
	cr_expect_str_eq(g, guest, "%s: %s", text, g);
	cr_expect_eq(f.host.sa.sa_family, f.guest.sa.sa_family, "%s", text);
}

Test(hostfwd, what_is_left_out_is_any_address)
{
	check("tcp::2222-:22", false, "0.0.0.0:2222", "0.0.0.0:22");
	check("udp::53-:5353", true, "0.0.0.0:53", "0.0.0.0:5353");
}

Test(hostfwd, ipv4_addresses)
{
	check("udp:127.0.0.1:5353-10.0.2.15:53", true, "127.0.0.1:5353", "10.0.2.15:53");
	check("tcp:127.0.0.1:80-:80", false, "127.0.0.1:80", "0.0.0.0:80");
	check("tcp::80-10.0.2.16:8080", false, "0.0.0.0:80", "10.0.2.16:8080");
}

Test(hostfwd, ipv6_addresses)
{
	check("tcp:[::1]:80-:80", false, "[::1]:80", "[::]:80");
	check("tcp::80-[fec0::15]:81", false, "[::]:80", "[fec0::15]:81");
	check("udp:[::]:1-[fec0::15]:65535", true, "[::]:1", "[fec0::15]:65535");
	check("tcp:[::ffff:127.0.0.1]:80-:80", false, "[::ffff:127.0.0.1]:80", "[::]:80");
}

Test(hostfwd, largest_and_smallest_port)
{
	check("tcp::1-:65535", false, "0.0.0.0:1", "0.0.0.0:65535");
	check("tcp::00080-:1", false, "0.0.0.0:80", "0.0.0.0:1");
}

Test(hostfwd, what_makes_no_sense_is_refused_and_quoted)
{
	static const char *const wrong[] = {
		"",
		":",
		"-",
		"::",
		":-:",
		"tcp",
		"tcp:",
		"tcp:-",
		"tcp::-:",
		"tcp::22",
		"tcp::22-",
		"tcp::22-22",
		"tcp:22-:22",
		"tcp::22-:",
		"tcp::-:22",
		"tcp::0-:22",
		"tcp::22-:0",
		"tcp::65536-:22",
		"tcp::22-:65536",
		"tcp::99999999999-:22",
		"tcp::22-:22 ",
		"tcp:: 22-:22",
		"tcp::+22-:22",
		"tcp::0x16-:22",
		"tcp::22-:-22",
		"tcp::22--:22",
		"sctp::22-:22",
		"TCP::22-:22",
		"tcpp::22-:22",
		"::22-:22",
		" tcp::22-:22",
		"tcp:localhost:22-:22",
		"tcp:1.2.3:22-:22",
		"tcp:1.2.3.256:22-:22",
		"tcp:1.2.3.4.5:22-:22",
		"tcp:::1:22-:22",
		"tcp:::1-:22",
		"tcp:[]:22-:22",
		"tcp:[::1:22-:22",
		"tcp:::1]:22-:22",
		"tcp:[::1]22-:22",
		"tcp:[::1]x:22-:22",
		"tcp:[1.2.3.4]:22-:22",
		"tcp:[::1%lo]:22-:22",
		"tcp::22-[::1:22",
		"tcp::22-[fec0::15]",
		"tcp:127.0.0.1:22-[fec0::15]:22",
		"tcp:[::1]:22-10.0.2.15:22",
		"tcp::22-:22,tcp::23-:23",
		"tcp::22-:22-:22",
		"tcp:[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:22-:22",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct user_net_fwd f;
		struct err e = {0};
		char quoted[128];

		cr_expect_eq(user_net_parse_hostfwd(wrong[i], &f, &e), -EINVAL, "%s", wrong[i]);
		cr_expect_eq(e.code, -EINVAL);
		snprintf(quoted, sizeof(quoted), "'%s'", wrong[i]);
		cr_expect(strstr(e.text, quoted) == e.text, "%s: %s", wrong[i], e.text);
	}
}

Test(hostfwd, nobody_need_want_the_sentence)
{
	struct user_net_fwd f;

	cr_expect_eq(user_net_parse_hostfwd("tcp", &f, NULL), -EINVAL);
}

Test(hostfwd, sentence_names_the_part_that_is_wrong)
{
	struct user_net_fwd f;
	struct err e;

	user_net_parse_hostfwd("tcp::22-:70000", &f, &e);
	cr_expect(strstr(e.text, "guest's port '70000'"), "%s", e.text);
	user_net_parse_hostfwd("tcp:localhost:22-:22", &f, &e);
	cr_expect(strstr(e.text, "host's address 'localhost'"), "%s", e.text);
	user_net_parse_hostfwd("sctp::22-:22", &f, &e);
	cr_expect(strstr(e.text, "'sctp'"), "%s", e.text);
}
