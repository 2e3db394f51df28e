/* Sizes, durations, lists of CPUs and other values of options. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_values.h"

static uint64_t size_of(const char *text)
{
	uint64_t bytes = 0;

	cr_assert_eq(config_parse_size(text, &bytes), 0, "\"%s\" is refused", text);
	return bytes;
}

static uint64_t duration_of(const char *text)
{
	uint64_t ms = 0;

	cr_assert_eq(config_parse_duration(text, &ms), 0, "\"%s\" is refused", text);
	return ms;
}

Test(size, bare_number_is_mib)
{
	cr_assert_eq(size_of("512"), 512 * MIB);
}

Test(size, letters)
{
	cr_assert_eq(size_of("4K"), 4096);
	cr_assert_eq(size_of("512M"), 512 * MIB);
	cr_assert_eq(size_of("3G"), 3 * GIB);
	cr_assert_eq(size_of("1T"), 1024 * GIB);
}

Test(size, small_letters)
{
	cr_assert_eq(size_of("512m"), 512 * MIB);
}

Test(size, ib_suffix)
{
	cr_assert_eq(size_of("2GiB"), 2 * GIB);
	cr_assert_eq(size_of("64KiB"), 65536);
}

Test(size, fraction)
{
	cr_assert_eq(size_of("1.5G"), 1536 * MIB);
	cr_assert_eq(size_of("0.25G"), 256 * MIB);
}

Test(size, fraction_of_terabytes_does_not_overflow)
{
	cr_assert_eq(size_of("0.999999999T"), 1099511626676);
}

Test(size, refuses_what_is_no_size)
{
	static const char *const bad[] = {"",      "M",   "-1",  "1.G",          ".5G",  "12Q",
					  "512MB", "1G ", " 1G", "1 G",          "0x10", "1,5",
					  "1.5.5", "1Gi", "+1",  "1.0123456789G"};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(config_parse_size(bad[i], &bytes), -EINVAL, "\"%s\" is taken", bad[i]);
}

Test(size, too_large_is_erange)
{
	uint64_t bytes;

	cr_assert_eq(config_parse_size("18446744073709551615G", &bytes), -ERANGE);
	cr_assert_eq(config_parse_size("99999999999999999999999", &bytes), -ERANGE);
	cr_assert_eq(config_parse_size("16777216T", &bytes), -ERANGE);
}

Test(size, largest_that_fits)
{
	cr_assert_eq(size_of("16777215T"), UINT64_C(16777215) << 40);
}

Test(size, format_is_parsed_back)
{
	static const uint64_t sizes[] = {2 * MIB, 512 * MIB, GIB, 1536 * MIB, 65536};
	char text[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		format_size(sizes[i], text, sizeof(text));
		cr_expect_eq(size_of(text), sizes[i], "%s", text);
	}
}

Test(duration, bare_number_is_seconds)
{
	cr_assert_eq(duration_of("60"), 60000);
}

Test(duration, units)
{
	cr_assert_eq(duration_of("500ms"), 500);
	cr_assert_eq(duration_of("60s"), 60000);
	cr_assert_eq(duration_of("2m"), 120000);
	cr_assert_eq(duration_of("1h"), 3600000);
}

Test(duration, fraction)
{
	cr_assert_eq(duration_of("1.5s"), 1500);
	cr_assert_eq(duration_of("0.5"), 500);
}

Test(duration, zero_is_zero)
{
	cr_assert_eq(duration_of("0"), 0);
}

Test(duration, less_than_a_millisecond_does_not_become_no_limit)
{
	uint64_t ms;

	cr_assert_eq(config_parse_duration("0.0001s", &ms), -EINVAL);
}

Test(duration, fits_nanoseconds)
{
	uint64_t ms;

	cr_assert_eq(config_parse_duration("9223372036s", &ms), 0);
	cr_assert_eq(config_parse_duration("9223372037s", &ms), -ERANGE);
}

Test(duration, refuses_what_is_no_time)
{
	static const char *const bad[] = {"", "s", "-1s", "1d", "60 s", "1m30s", "ms"};
	uint64_t ms;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(config_parse_duration(bad[i], &ms), -EINVAL, "\"%s\" is taken", bad[i]);
}

Test(cpu_list, ranges_joined_by_plus)
{
	static const uint16_t expected[] = {0, 1, 4};
	uint16_t cpus[CONFIG_MAX_CPUS];
	unsigned n;

	cr_assert_eq(value_cpu_list("0-1+4", cpus, CONFIG_MAX_CPUS, &n, NULL), 0);
	cr_assert_eq(n, 3);
	cr_assert_arr_eq(cpus, expected, sizeof(expected));
}

Test(cpu_list, fills_its_array_and_no_more)
{
	uint16_t cpus[CONFIG_MAX_CPUS + 1];
	unsigned n;

	cpus[CONFIG_MAX_CPUS] = 0xabcd;
	cr_assert_eq(value_cpu_list("0-1023", cpus, CONFIG_MAX_CPUS, &n, NULL), 0);
	cr_assert_eq(n, CONFIG_MAX_CPUS);
	cr_assert_eq(value_cpu_list("0-1023+0", cpus, CONFIG_MAX_CPUS, &n, NULL), -EINVAL);
	cr_assert_eq(cpus[CONFIG_MAX_CPUS], 0xabcd);
}

Test(cpu_list, refuses_what_is_no_list)
{
	static const char *const bad[] = {"",     "a",  "1-",   "-1",  "5-2",
					  "1++2", "1+", "1024", "1:2", "99999999999"};
	uint16_t cpus[CONFIG_MAX_CPUS];
	unsigned n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(value_cpu_list(bad[i], cpus, CONFIG_MAX_CPUS, &n, NULL), -EINVAL,
			     "\"%s\" is taken", bad[i]);
}

Test(value, switch_words)
{
	bool on = false;

	cr_expect_eq(value_switch(NULL, &on, NULL), 0);
	cr_expect(on);
	cr_expect_eq(value_switch("off", &on, NULL), 0);
	cr_expect_not(on);
	cr_expect_eq(value_switch("true", &on, NULL), 0);
	cr_expect(on);
	cr_expect_eq(value_switch("0", &on, NULL), 0);
	cr_expect_not(on);
	cr_expect_eq(value_switch("yes", &on, NULL), -EINVAL);
}

Test(value, choice_takes_whole_words_only)
{
	unsigned i = 99;

	cr_expect_eq(value_choice("hang", "exit hang reboot", &i, NULL), 0);
	cr_expect_eq(i, 1);
	cr_expect_eq(value_choice("han", "exit hang reboot", &i, NULL), -EINVAL);
	cr_expect_eq(value_choice("", "exit hang reboot", &i, NULL), -EINVAL);
	cr_expect_eq(value_choice("exit hang", "exit hang reboot", &i, NULL), -EINVAL);
}
