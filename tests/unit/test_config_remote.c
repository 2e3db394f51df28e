/* The command line of cards and disks that somebody else serves. */
#include "tests/unit/config_rig.h"

TestSuite(remote, .fini = config_rig_done);
TestSuite(remote_error, .fini = config_rig_done);
TestSuite(remote_printed, .fini = config_rig_done);

#define PATH_107 "/run/" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "12"
#define TEN      "0123456789"

/* --net tap,vhost=on */

Test(remote, a_tap_is_served_here_unless_said)
{
	takes("-n tap -n tap,vhost=on -n tap,vhost -n tap,vhost=off");
	cr_expect_not(dev->net[0].vhost);
	cr_expect(dev->net[1].vhost);
	cr_expect(dev->net[2].vhost);
	cr_expect_not(dev->net[3].vhost);
}

Test(remote, vhost_goes_with_all_that_a_tap_has)
{
	const struct net_options *net = &dev->net[0];

	takes("-n tap,ifname=tap0,queues=4,vhost=on,poll-us=50,mtu=1400 -n tap,fd=3,vhost");
	cr_expect_eq(net->kind, NET_TAP);
	cr_expect(net->vhost);
	cr_expect_eq(net->busy_poll_us, 50);
	cr_expect_eq(net->queues, 4);
	cr_expect_str_eq(net->ifname, "tap0");
	cr_expect_eq(dev->net[1].fd, 3);
}

Test(remote, poll_time_is_none_by_default)
{
	takes("-n tap,vhost=on -n tap,vhost=on,poll-us=1000000 -n tap,vhost=off,poll-us=0");
	cr_expect_eq(dev->net[0].busy_poll_us, 0);
	cr_expect_eq(dev->net[1].busy_poll_us, 1000000);
}

Test(remote, ifname_alone_is_a_tap_with_vhost_too)
{
	takes("-n ifname=t,vhost");
	cr_expect_eq(dev->net[0].kind, NET_TAP);
	cr_expect(dev->net[0].vhost);
}

Test(remote_error, vhost_without_a_tap)
{
	refuses("-n user,vhost=on", "-n", "vhost=on", "tap", NULL);
}

Test(remote_error, rate_where_frames_do_not_cross_this_process)
{
	refuses("-n tap,vhost=on,rate=1M", "rate=", "tap and user", NULL);
	refuses("-n tap,vhost=on,rate=10p", "rate=", NULL);
	refuses("-n vhost-user,path=s,rate=1M", "rate=", NULL);
	refuses("-n vdpa,path=/dev/vhost-vdpa-0,rate=1p", "rate=", NULL);
	takes("-n tap,vhost=off,rate=1M");
}

Test(remote_error, poll_times)
{
	refuses("-n tap,poll-us=50", "poll-us=", "tap,vhost=on", NULL);
	refuses("-n user,poll-us=1", "poll-us=", "tap,vhost=on", NULL);
	refuses("-n vhost-user,path=s,poll-us=1", "poll-us=", NULL);
	refuses("-n tap,vhost,poll-us=1000001", "poll-us", "1000001", "0 and 1000000", NULL);
	refuses("-n tap,vhost,poll-us=-1", "poll-us", "-1", NULL);
	refuses("-n tap,vhost,poll-us=50us", "poll-us", "50us", NULL);
}

/* vhost-user */

static void expect_default_remote(const struct remote_options *r)
{
	cr_expect_str_eq(r->path, "/run/s");
	cr_expect_not(r->server);
	cr_expect_eq(r->wait_ms, 0);
	cr_expect_eq(r->reconnect_ms, 0);
}

Test(remote, defaults_of_vhost_user)
{
	takes("-n vhost-user,path=/run/s -d vhost-user,path=/run/s");
	cr_assert_eq(dev->nnet, 1);
	cr_expect_eq(dev->net[0].kind, NET_VHOST_USER);
	cr_expect_eq(dev->net[0].queues, 1);
	cr_expect_eq(dev->net[0].fd, -1);
	cr_expect(dev->net[0].csum && dev->net[0].tso && dev->net[0].mrg_rxbuf);
	cr_expect_not(dev->net[0].uso);
	expect_default_remote(&dev->net[0].remote);
	expect_default_virtio(&dev->net[0].virtio);
	cr_assert_eq(dev->ndisk, 1);
	cr_expect_eq(dev->disk[0].kind, DISK_VHOST_USER);
	cr_expect_null(dev->disk[0].path);
	cr_expect_eq(dev->disk[0].queues, 1);
	expect_default_remote(&dev->disk[0].remote);
	expect_default_virtio(&dev->disk[0].virtio);
}

Test(remote, every_key_of_vhost_user)
{
	takes("-n vhost-user,path=a,,b,server=on,wait=1.5s,reconnect=20ms,queues=16,mtu=9000,csum=off,packed "
	      "-d vhost-user,path=s,server,wait=2m,reconnect=1,queues=3,transport=mmio");
	cr_expect_str_eq(dev->net[0].remote.path, "a,b");
	cr_expect(dev->net[0].remote.server);
	cr_expect_eq(dev->net[0].remote.wait_ms, 1500);
	cr_expect_eq(dev->net[0].remote.reconnect_ms, 20);
	cr_expect_eq(dev->net[0].queues, 16);
	cr_expect_eq(dev->net[0].mtu, 9000);
	cr_expect(dev->net[0].virtio.packed);
	cr_expect(dev->disk[0].remote.server);
	cr_expect_eq(dev->disk[0].remote.wait_ms, 120000);
	cr_expect_eq(dev->disk[0].remote.reconnect_ms, 1000);
	cr_expect_eq(dev->disk[0].queues, 3);
	cr_expect_eq(dev->disk[0].virtio.transport, TRANSPORT_MMIO);
}

Test(remote, a_server_waits_a_minute_unless_said)
{
	takes("-n vhost-user,path=s,server -n vhost-user,path=s,server,wait=0 -n vhost-user,path=s,wait=3 "
	      "-n vhost-user,path=s,server=off -d vhost-user,path=s,server");
	cr_expect_eq(dev->net[0].remote.wait_ms, 60000);
	cr_expect_eq(dev->net[1].remote.wait_ms, 0);
	cr_expect_eq(dev->net[2].remote.wait_ms, 3000);
	cr_expect_not(dev->net[2].remote.server);
	cr_expect_eq(dev->net[3].remote.wait_ms, 0);
	cr_expect_eq(dev->disk[0].remote.wait_ms, 60000);
}

Test(remote, durations_are_up_to_a_day)
{
	takes("-n vhost-user,path=s,wait=24h,reconnect=24h -d vhost-user,path=s,wait=1440m,reconnect=1ms");
	cr_expect_eq(dev->net[0].remote.wait_ms, 86400000);
	cr_expect_eq(dev->net[0].remote.reconnect_ms, 86400000);
	cr_expect_eq(dev->disk[0].remote.reconnect_ms, 1);
}

Test(remote_error, durations)
{
	static const char *const wrong[] = {"", "-1", "soon", "1d", "0.1ms", "1s1s", " 1"};

	for (size_t i = 0; i < N(wrong); i++) {
		char line[128];

		snprintf(line, sizeof(line), "'-nvhost-user,path=s,wait=%s'", wrong[i]);
		refuses(line, "wait", wrong[i], "60s", NULL);
		snprintf(line, sizeof(line), "'-dvhost-user,path=s,reconnect=%s'", wrong[i]);
		refuses(line, "reconnect", wrong[i], "60s", NULL);
	}
	refuses("-n vhost-user,path=s,wait=86401", "wait", "86401", "a day", NULL);
	refuses("-n vhost-user,path=s,reconnect=25h", "reconnect", "25h", "a day", NULL);
	refuses("-n vhost-user,path=s,wait=99999999999999999999", "wait", "292 years", NULL);
	refuses("-n vhost-user,path=s,wait", "wait", "value", NULL);
	refuses("-n vhost-user,path=s,server=maybe", "server", "maybe", "on nor off", NULL);
}

Test(remote_error, a_socket_is_missing)
{
	refuses("-n vhost-user", "-n", "path=SOCKET", NULL);
	refuses("-n vhost-user,server", "-n", "path=SOCKET", NULL);
	refuses("-d vhost-user", "-d", "path=SOCKET", NULL);
	refuses("-n vhost-user,path=", "path", "nothing", NULL);
	refuses("-d vhost-user,path=", "path", "nothing", NULL);
	refuses("-d vhost-user,path", "path", "value", NULL);
}

Test(remote_error, a_socket_path_has_107_bytes)
{
	cr_assert_eq(strlen(PATH_107), 107);
	takes("-n vhost-user,path=" PATH_107 " -d vhost-user,path=" PATH_107);
	refuses("-n vhost-user,path=" PATH_107 "3", "-n", "107", "path=/run/", NULL);
	refuses("-d vhost-user,path=" PATH_107 "3", "-d", "107", NULL);
	takes("-d vdpa,path=" PATH_107 "3");
}

Test(remote_error, a_path_is_no_longer_than_the_kernel_takes)
{
	char line[5000] = "-n vdpa,path=";
	size_t len = strlen(line);

	memset(line + len, 'p', 4095);
	takes(line);
	line[len + 4095] = 'p';
	refuses(line, "path", "4095", NULL);
}

Test(remote_error, keys_of_vhost_user_without_it)
{
	static const char *const nets[] = {"user", "tap", "tap,vhost=on", "vdpa,path=/dev/vhost-vdpa-0"};
	static const struct {
		const char *key, *name;
	} keys[] = {{"server", "server="},
		    {"server=on", "server="},
		    {"wait=60s", "wait="},
		    {"wait=0", "wait="},
		    {"reconnect=1s", "reconnect="}};

	for (size_t i = 0; i < N(nets); i++)
		for (size_t j = 0; j < N(keys); j++) {
			char line[128];

			snprintf(line, sizeof(line), "-n %s,%s", nets[i], keys[j].key);
			refuses(line, "-n", keys[j].name, "vhost-user", NULL);
		}
	for (size_t j = 0; j < N(keys); j++) {
		char line[128];

		snprintf(line, sizeof(line), "-d vdpa,path=/dev/vhost-vdpa-0,%s", keys[j].key);
		refuses(line, "-d", keys[j].name, "vhost-user", NULL);
		snprintf(line, sizeof(line), "-d disk.img,%s", keys[j].key);
		refuses(line, "-d", keys[j].name, "vhost-user,path=SOCKET", NULL);
	}
	refuses("-n tap,path=/run/s", "path=", "vhost-user and vdpa", NULL);
	refuses("-n user,path=/run/s", "path=", "vhost-user and vdpa", NULL);
}

Test(remote_error, keys_of_a_tap_with_a_back_end)
{
	refuses("-n vhost-user,path=s,fd=3", "fd=", "tap", NULL);
	refuses("-n vhost-user,path=s,ifname=t", "ifname=", "tap", NULL);
	refuses("-n vhost-user,path=s,hostfwd=tcp::2222-:22", "hostfwd=", "user", NULL);
	refuses("-n vhost-user,path=s,vhost=on", "vhost=on", "tap", NULL);
	refuses("-n vdpa,path=s,fd=3", "fd=", "tap", NULL);
	refuses("-n vdpa,path=s,ifname=t", "ifname=", "tap", NULL);
	refuses("-n vdpa,path=s,vhost", "vhost=on", "tap", NULL);
}

Test(remote_error, what_only_the_back_end_of_a_disk_can_say)
{
	static const char *const keys[] = {"ro",       "direct",    "aio=uring", "cache=writeback",
					   "serial=x", "format=raw"};

	for (size_t i = 0; i < N(keys); i++) {
		char line[128], name[32];

		snprintf(name, sizeof(name), "%.*s=", (int)strcspn(keys[i], "="), keys[i]);
		snprintf(line, sizeof(line), "-d vhost-user,path=s,%s", keys[i]);
		refuses(line, "-d", name, "back end", NULL);
		snprintf(line, sizeof(line), "-d vdpa,path=s,%s", keys[i]);
		refuses(line, "-d", name, "back end", NULL);
	}
}

Test(remote_error, numbers)
{
	refuses("-n vhost-user,path=s,queues=17", "queues", "1 and 16", NULL);
	refuses("-n vhost-user,path=s,queues=0", "queues", "1 and 16", NULL);
	refuses("-d vhost-user,path=s,queues=17", "queues", "1 and 16", NULL);
	refuses("-n vhost-user,path=s,queue-size=16", "queue-size=16", "32", NULL);
	refuses("-d vdpa,path=s,doorbell=pio --transport mmio", "--disk (disk0)", "doorbell=pio", NULL);
}

/* vdpa */

Test(remote, vdpa)
{
	takes("-n vdpa,path=/dev/vhost-vdpa-0 -d vdpa,path=/dev/vhost-vdpa-1,queues=2,bits=all");
	cr_expect_eq(dev->net[0].kind, NET_VDPA);
	cr_expect_str_eq(dev->net[0].remote.path, "/dev/vhost-vdpa-0");
	cr_expect_eq(dev->disk[0].queues, 2);
	cr_expect_eq(dev->disk[0].kind, DISK_VDPA);
	cr_expect_str_eq(dev->disk[0].remote.path, "/dev/vhost-vdpa-1");
	cr_expect_null(dev->disk[0].path);
	cr_expect(dev->disk[0].virtio.all_bits);
}

Test(remote_error, a_vdpa_device_is_missing)
{
	refuses("-n vdpa", "-n", "path=/dev/vhost-vdpa-0", NULL);
	refuses("-d vdpa", "-d", "path=/dev/vhost-vdpa-0", NULL);
	refuses("-d vdpa,queues=2", "-d", "path=/dev/vhost-vdpa-0", NULL);
}

/* Words */

Test(remote, words_of_other_programs)
{
	takes("-n vhost-vdpa,vhostdev=/dev/vhost-vdpa-0 -d vhost-vdpa,path=/dev/vhost-vdpa-1 "
	      "-n tap,vhost-net -n tap,vhostforce=on -n mode=vhost-user,socket=s "
	      "-d vhost-user,socket=s,num_queues=2,queue_size=64");
	cr_expect_eq(dev->net[0].kind, NET_VDPA);
	cr_expect_str_eq(dev->net[0].remote.path, "/dev/vhost-vdpa-0");
	cr_expect_eq(dev->disk[0].kind, DISK_VDPA);
	cr_expect(dev->net[1].vhost);
	cr_expect(dev->net[2].vhost);
	cr_expect_eq(dev->net[3].kind, NET_VHOST_USER);
	cr_expect_str_eq(dev->net[3].remote.path, "s");
	cr_expect_str_eq(dev->disk[1].remote.path, "s");
	cr_expect_eq(dev->disk[1].queues, 2);
	cr_expect_eq(dev->disk[1].virtio.queue_size, 64);
}

Test(remote_error, other_programs_words_with_a_hint)
{
	refuses("-n vhost-net", "kind is missing", "tap,vhost=on", NULL);
	refuses("-n type=vhost-net", "tap,vhost=on", NULL);
	refuses("-n passt", "passt", "vhost-user,path=SOCKET", "csum=off", NULL);
	refuses("-n tap,vhost_user=true", "vhost_user", "vhost-user,path=SOCKET", NULL);
	refuses("-n tap,vhost_mode=server", "vhost_mode", "server", NULL);
	refuses("-n tap,vhostfd=3", "vhostfd", "vhost=on", NULL);
	refuses("-d a,vhost_user=on", "vhost_user", "vhost-user,path=SOCKET", NULL);
	refuses("-d a,socket=s", "socket", "vhost-user,path=SOCKET", NULL);
	refuses("--vdpa x", "--vdpa", "--net vdpa,path=DEVICE", "--disk vdpa,path=DEVICE", NULL);
	refuses("--vhost-user x", "--vhost-user", "--fs", "--device", NULL);
}

Test(remote_error, misspelt_words_name_the_nearest)
{
	refuses("-n vhost-usr,path=s", "\"vhost-usr\"", "vhost-user", NULL);
	refuses("-n vdap,path=s", "\"vdap\"", "vdpa", NULL);
	refuses("-n vhost-user,pth=s", "\"path\"?", NULL);
	refuses("-n tap,vhst=on", "\"vhost\"?", NULL);
	refuses("-n tap,vhost,poll_us=1", "\"poll-us\"?", NULL);
	refuses("-d vhost-user,path=s,recconect=1", "\"reconnect\"?", NULL);
	refuses("-d vhost-user,path=s,kind=x", "kind", "\"x\"", "vhost-user vdpa", NULL);
	refuses("-d a,bits=most", "bits", "\"most\"", "common all", NULL);
}

Test(remote, a_comma_behind_the_word_makes_it_a_file)
{
	takes("-d vhost-user,,x -d vdpa,,,ro -d path=vhost-user -d vhost-user2");
	cr_expect_eq(dev->disk[0].kind, DISK_FILE);
	cr_expect_str_eq(dev->disk[0].path, "vhost-user,x");
	cr_expect_str_eq(dev->disk[1].path, "vdpa,");
	cr_expect(dev->disk[1].read_only);
	cr_expect_eq(dev->disk[2].kind, DISK_FILE);
	cr_expect_eq(dev->disk[3].kind, DISK_FILE);
}

/* bits= */

Test(remote, bits_that_not_every_datapath_serves_are_off)
{
	takes("-n tap -n tap,bits=common -d a -d a,bits=common");
	for (unsigned i = 0; i < 2; i++) {
		expect_default_virtio(&dev->net[i].virtio);
		cr_expect_not(dev->net[i].uso);
		expect_default_virtio(&dev->disk[i].virtio);
	}
}

Test(remote, all_bits_are_on_together)
{
	takes("-n tap,bits=all -n vhost-user,path=s,bits=all -d a,bits=all --rng=bits=all --balloon=bits=all "
	      "--console virtio,bits=all");
	for (unsigned i = 0; i < 2; i++) {
		cr_expect(dev->net[i].virtio.all_bits);
		cr_expect(dev->net[i].virtio.packed);
		cr_expect(dev->net[i].virtio.in_order);
		cr_expect(dev->net[i].uso);
	}
	cr_expect(dev->disk[0].virtio.all_bits && dev->disk[0].virtio.packed && dev->disk[0].virtio.in_order);
	cr_expect(dev->rng.virtio.all_bits && dev->rng.virtio.packed);
	cr_expect(dev->balloon.virtio.all_bits && dev->balloon.virtio.packed);
	cr_expect(dev->console.virtio.all_bits && dev->console.virtio.packed);
}

Test(remote, single_bits_are_turned_off_after_all)
{
	takes("-n tap,bits=all,packed=off -n tap,bits=all,in_order=off,uso=off -n tap,uso=off,bits=all "
	      "-n tap,bits=common,packed -n tap,bits=all,bits=common");
	cr_expect(dev->net[0].virtio.all_bits);
	cr_expect_not(dev->net[0].virtio.packed);
	cr_expect(dev->net[0].virtio.in_order && dev->net[0].uso);
	cr_expect(dev->net[1].virtio.packed);
	cr_expect_not(dev->net[1].virtio.in_order);
	cr_expect_not(dev->net[1].uso);
	cr_expect_not(dev->net[2].uso);
	cr_expect_not(dev->net[3].virtio.all_bits);
	cr_expect(dev->net[3].virtio.packed);
	expect_default_virtio(&dev->net[4].virtio);
	cr_expect_not(dev->net[4].uso);
}

/* Printing */

static void prints(const char *line, const char *part)
{
	char text[8192];

	takes(line);
	config_print_run(&cfg, text, sizeof(text));
	cr_expect(strstr(text, part), "\"%s\" misses \"%s\" in: %s", line, part, text);
	survives_printing();
}

Test(remote_printed, with_defaults_spelt_out)
{
	prints("-n vhost-user,path=s", " --net=vhost-user,path=s,server=off,wait=0ms,reconnect=0ms,queues=1,");
	prints("-n vhost-user,path=s,server", ",server=on,wait=60000ms,reconnect=0ms,");
	prints("-d vhost-user,path=s", " --disk=vhost-user,path=s,server=off,wait=0ms,reconnect=0ms,queues=1,");
	prints("-n vdpa,path=/dev/vhost-vdpa-0", " --net=vdpa,path=/dev/vhost-vdpa-0,queues=1,");
	prints("-d vdpa,path=/dev/vhost-vdpa-0", " --disk=vdpa,path=/dev/vhost-vdpa-0,queues=1,transport=pci,");
	prints("-n tap,vhost,poll-us=50", " --net=tap,vhost=on,poll-us=50,queues=1,");
	prints("-d a,bits=all", ",bits=all,packed=on,in_order=on,");
}

Test(remote_printed, lines_that_are_hard)
{
	static const char *const lines[] = {
		"-n vhost-user,path=a,,b,server,wait=0,reconnect=1.5s,queues=4,mtu=1500,mac=02:00:00:00:00:01",
		"-d vhost-user,path=\\'\\\"$(x),,,server=on,wait=24h",
		"-n 'vdpa,path= ,bits=all,packed=off' -d 'vdpa,path=x y,pin=0-2'",
		"-n tap,bits=all,uso=off -n tap,uso -n user,csum=off,bits=all -n user,bits=all,event_idx=off",
		"-n tap,ifname=t,vhost,queues=2,transport=mmio -n tap,fd=9,vhost,poll-us=1000000",
		"-d vhost-user,,x -d vdpa,,",
		"--rng=bits=all,in_order=off --balloon=mmio,bits=all --console virtio,bits=all",
	};

	for (size_t i = 0; i < N(lines); i++) {
		takes(lines[i]);
		survives_printing();
	}
}
