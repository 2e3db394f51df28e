/* The command line's virtio devices. */
#include <stdlib.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "tests/unit/config_rig.h"

TestSuite(devices, .fini = config_rig_done);
TestSuite(devices_error, .fini = config_rig_done);

Test(devices, none_unless_asked)
{
	takes("");
	cr_expect_eq(dev->nnet, 0);
	cr_expect_eq(dev->ndisk, 0);
	cr_expect_eq(dev->ngeneric, 0);
	cr_expect_not(dev->rng.on);
	cr_expect_not(dev->balloon.on);
	cr_expect_not(dev->console.on);
	cr_expect_eq(dev->transport, TRANSPORT_PCI);
}

Test(devices, defaults_of_a_net)
{
	const struct net_options *net = &dev->net[0];

	takes("-n user");
	cr_assert_eq(dev->nnet, 1);
	cr_expect_eq(net->kind, NET_USER);
	cr_expect_null(net->ifname);
	cr_expect_eq(net->fd, -1);
	cr_expect_eq(net->queues, 1);
	cr_expect_not(net->has_mac);
	cr_expect_eq(net->mtu, 0);
	cr_expect_eq(net->rate_bytes, 0);
	cr_expect_eq(net->rate_packets, 0);
	cr_expect(net->csum && net->tso && net->mrg_rxbuf);
	cr_expect_not(net->uso);
	cr_expect_not(net->vhost);
	cr_expect_eq(net->busy_poll_us, 0);
	cr_expect_null(net->remote.path);
	cr_expect_eq(net->nhostfwd, 0);
	expect_default_virtio(&net->virtio);
}

Test(devices, defaults_of_a_disk)
{
	const struct disk_options *disk = &dev->disk[0];

	takes("-d disk.img");
	cr_assert_eq(dev->ndisk, 1);
	cr_expect_str_eq(disk->path, "disk.img");
	cr_expect_not(disk->read_only);
	cr_expect_not(disk->direct);
	cr_expect_not(disk->writethrough);
	cr_expect_eq(disk->aio, DISK_AIO_DEFAULT);
	cr_expect_eq(disk->queues, 1);
	cr_expect_null(disk->serial);
	expect_default_virtio(&disk->virtio);
}

Test(devices, defaults_of_the_simple_ones)
{
	takes("--rng --balloon --console virtio");
	cr_expect(dev->rng.on);
	cr_expect(dev->balloon.on);
	cr_expect(dev->console.on);
	expect_default_virtio(&dev->rng.virtio);
	expect_default_virtio(&dev->balloon.virtio);
	expect_default_virtio(&dev->console.virtio);
}

Test(devices, each_option_adds_one_in_order)
{
	takes("-n user -d a --net tap --disk=b -dc");
	cr_assert_eq(dev->nnet, 2);
	cr_expect_eq(dev->net[0].kind, NET_USER);
	cr_expect_eq(dev->net[1].kind, NET_TAP);
	cr_assert_eq(dev->ndisk, 3);
	cr_expect_str_eq(dev->disk[0].path, "a");
	cr_expect_str_eq(dev->disk[1].path, "b");
	cr_expect_str_eq(dev->disk[2].path, "c");
}

Test(devices, transport_option_is_for_all_even_before_it)
{
	takes("-n user -d a,transport=pci --rng --transport mmio --balloon --console virtio -n "
	      "tap,transport=mmio");
	cr_expect_eq(dev->transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->net[0].virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->disk[0].virtio.transport, TRANSPORT_PCI);
	cr_expect_eq(dev->rng.virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->balloon.virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->console.virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->net[1].virtio.transport, TRANSPORT_MMIO);
}

Test(devices, last_transport_option_wins)
{
	takes("--transport mmio --rng --transport pci");
	cr_expect_eq(dev->rng.virtio.transport, TRANSPORT_PCI);
}

Test(devices, transport_option_comes_before_two_dashes)
{
	takes("--rng --transport mmio -- ls");
	cr_expect_eq(dev->rng.virtio.transport, TRANSPORT_MMIO);
}

static void expect_other_virtio(const struct virtio_config *v)
{
	cr_expect(v->notify_exit);
	cr_expect(v->irq_ioctl);
	cr_expect(v->doorbell_pio);
	cr_expect(v->packed);
	cr_expect(v->in_order);
	cr_expect_not(v->event_idx);
	cr_expect_not(v->indirect);
	cr_expect_eq(v->queue_size, 64);
	cr_assert_eq(v->npin, 5);
	cr_expect_eq(v->pin[3], 5);
	cr_expect_eq(v->pin[4], 8);
	cr_expect(v->has_most);
	cr_expect_eq(v->most, 0x123456789abcdef0);
}

#define OTHER                                                                                                  \
	"notify=exit,irq=ioctl,doorbell=pio,packed,in_order=on,event_idx=off,indirect=off,queue-size=64,"      \
	"pin=2-5+8,features=0x123456789abcdef0"

Test(devices, common_keys_of_every_option)
{
	takes("-n tap," OTHER " -d a," OTHER " --rng=" OTHER " --balloon=" OTHER " --console virtio," OTHER);
	expect_other_virtio(&dev->net[0].virtio);
	expect_other_virtio(&dev->disk[0].virtio);
	expect_other_virtio(&dev->rng.virtio);
	expect_other_virtio(&dev->balloon.virtio);
	expect_other_virtio(&dev->console.virtio);
}

Test(devices, transport_needs_no_key_where_there_are_no_kinds)
{
	takes("--rng=mmio --balloon=mmio,packed");
	cr_expect_eq(dev->rng.virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->balloon.virtio.transport, TRANSPORT_MMIO);
	cr_expect(dev->balloon.virtio.packed);
}

Test(devices, queue_sizes_are_powers_of_two)
{
	takes("-d a,queue-size=16 -d b,queue-size=1024 -n user,queue-size=32");
	cr_expect_eq(dev->disk[0].virtio.queue_size, 16);
	cr_expect_eq(dev->disk[1].virtio.queue_size, 1024);
	refuses("-d a,queue-size=48", "-d", "queue-size", "48", "power of two", NULL);
}

Test(devices, features_are_hexadecimal)
{
	takes("-n user,features=FF -d a,features=0x0 -d b");
	cr_expect_eq(dev->net[0].virtio.most, 0xff);
	cr_expect(dev->disk[0].virtio.has_most);
	cr_expect_eq(dev->disk[0].virtio.most, 0);
	cr_expect_not(dev->disk[1].virtio.has_most);
	for (size_t i = 0; i < 6; i++) {
		static const char *const bad[] = {"", "0x", "-1", "12g", "0x00000000000000001", "0x1z"};
		char words[64];

		snprintf(words, sizeof(words), "-d a,features=%s", bad[i]);
		refuses(words, "-d", "features", "hexadecimal", NULL);
	}
}

Test(devices, simple_options_given_again_replace)
{
	takes("--rng=mmio,packed --rng --console virtio,packed --console serial");
	cr_expect_not(dev->rng.virtio.packed);
	cr_expect_eq(dev->rng.virtio.transport, TRANSPORT_PCI);
	cr_expect_not(dev->console.on);
	cr_expect_not(dev->console.virtio.packed);
}

Test(devices, keys_of_a_tap)
{
	const struct net_options *net = &dev->net[0];

	takes("-n "
	      "tap,ifname=tap0,queues=4,mac=02:00:5e:10:FF:fe,mtu=9000,rate=12M+10000p,csum=off,mrg_rxbuf=off");
	cr_expect_str_eq(net->ifname, "tap0");
	cr_expect_eq(net->queues, 4);
	cr_expect(net->has_mac);
	cr_expect_eq(memcmp(net->mac, "\x02\x00\x5e\x10\xff\xfe", 6), 0);
	cr_expect_eq(net->mtu, 9000);
	cr_expect_eq(net->rate_bytes, 12 * MIB);
	cr_expect_eq(net->rate_packets, 10000);
	cr_expect_not(net->csum);
	cr_expect_not(net->mrg_rxbuf);
}

Test(devices, segments_go_with_checksums)
{
	takes("-n user,csum=off -n user,uso -n user,csum=off,bits=all");
	cr_expect_not(dev->net[0].tso);
	cr_expect_not(dev->net[0].uso);
	cr_expect(dev->net[1].tso);
	cr_expect(dev->net[1].uso);
	cr_expect_not(dev->net[2].tso);
	cr_expect_not(dev->net[2].uso);
}

Test(devices, tap_by_its_fd)
{
	takes("-n tap,fd=3 -n fd=17 -n ifname=t");
	cr_expect_eq(dev->net[0].fd, 3);
	cr_expect_eq(dev->net[1].kind, NET_TAP);
	cr_expect_eq(dev->net[1].fd, 17);
	cr_expect_eq(dev->net[2].kind, NET_TAP);
}

Test(devices, interface_name_of_fifteen_bytes)
{
	takes("-n tap,ifname=123456789012345");
	refuses("-n tap,ifname=1234567890123456", "-n", "ifname", "15 bytes", NULL);
}

Test(devices, forwarded_ports_add_up_in_order)
{
	takes("-n user,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:5353-:53");
	cr_assert_eq(dev->net[0].nhostfwd, 2);
	cr_expect_str_eq(dev->net[0].hostfwd[0], "tcp::2222-:22");
	cr_expect_str_eq(dev->net[0].hostfwd[1], "udp:127.0.0.1:5353-:53");
}

Test(devices, rates)
{
	static const struct {
		const char *text;
		uint64_t bytes, packets;
	} rates[] = {{"12M", 12 * MIB, 0}, {"1.5K", 1536, 0},     {"1500B", 1500, 0},
		     {"10p", 0, 10},       {"10p+1G", GIB, 10},   {"1G+4294967295p", GIB, 4294967295},
		     {"1T", GIB << 10, 0}, {"64KiB", 64 << 10, 0}};

	for (size_t i = 0; i < N(rates); i++) {
		char line[64];

		snprintf(line, sizeof(line), "-n user,rate=%s", rates[i].text);
		takes(line);
		cr_expect_eq(dev->net[0].rate_bytes, rates[i].bytes, "%s", rates[i].text);
		cr_expect_eq(dev->net[0].rate_packets, rates[i].packets, "%s", rates[i].text);
	}
}

Test(devices_error, rates)
{
	/* What a bare number would count is anybody's guess. */
	static const char *const wrong[] = {"12",   "M",      "p",     "1.5p",     "12M+",
					    "+12M", "12M+1M", "1p+1p", "1p+1p+1p", "12M+10000p+1p",
					    "1.5B", "-1M",    "12Mp",  "fast",     "1e6B"};

	for (size_t i = 0; i < N(wrong); i++) {
		char line[64];

		snprintf(line, sizeof(line), "-n user,rate=%s", wrong[i]);
		refuses(line, "-n: rate:", "12M", "10000p", NULL);
	}
	refuses("-n user,rate=0M", "rate", "left out", NULL);
	refuses("-n user,rate=0p", "rate", "left out", NULL);
	refuses("-n user,rate=1025G", "rate", "1T", NULL);
	refuses("-n user,rate=4294967296p", "rate", "4294967295p", NULL);
	refuses("-n user,rate=99999999999999999999B", "rate", "1T", NULL);
}

Test(devices, keys_of_a_disk)
{
	const struct disk_options *disk = &dev->disk[0];

	takes("-d a,ro,direct,aio=sync,queues=4,serial=root-1,cache=writethrough -d b,aio=uring,ro=off");
	cr_expect(disk->read_only);
	cr_expect(disk->direct);
	cr_expect(disk->writethrough);
	cr_expect_eq(disk->aio, DISK_AIO_SYNC);
	cr_expect_eq(disk->queues, 4);
	cr_expect_str_eq(disk->serial, "root-1");
	cr_expect_eq(dev->disk[1].aio, DISK_AIO_URING);
	cr_expect_not(dev->disk[1].read_only);
}

Test(devices, file_names_of_any_kind)
{
	takes("-d path=vdpa -d path=ro -d path=a=b -d 'x,,y z,ro' -d vdpa.img -d ./vhost-user -d vd");
	cr_expect_str_eq(dev->disk[0].path, "vdpa");
	cr_expect_str_eq(dev->disk[1].path, "ro");
	cr_expect_not(dev->disk[1].read_only);
	cr_expect_str_eq(dev->disk[2].path, "a=b");
	cr_expect_str_eq(dev->disk[3].path, "x,y z");
	cr_expect(dev->disk[3].read_only);
	cr_expect_str_eq(dev->disk[4].path, "vdpa.img");
	cr_expect_str_eq(dev->disk[5].path, "./vhost-user");
}

Test(devices, words_of_qemu)
{
	takes("-nic user,model=virtio-net-pci,hostfwd=tcp::2222-:22 -nic "
	      "tap,ifname=t,script=no,downscript=no,vhost=off "
	      "-drive file=a,if=virtio,format=raw,readonly=on,aio=io_uring,media=disk -disk b");
	cr_expect_eq(dev->net[0].nhostfwd, 1);
	cr_expect_str_eq(dev->net[1].ifname, "t");
	cr_expect_str_eq(dev->disk[0].path, "a");
	cr_expect(dev->disk[0].read_only);
	cr_expect_eq(dev->disk[0].aio, DISK_AIO_URING);
	cr_expect_str_eq(dev->disk[1].path, "b");
}

Test(devices, words_of_cloud_hypervisor)
{
	takes("--net tap=tap0,mac=02:00:00:00:00:01,offload_tso=off,queue_size=64 --net tap=,mtu=1400 "
	      "--disk path=a,readonly=on,direct=on,num_queues=2,queue_size=128,image_type=raw");
	cr_expect_str_eq(dev->net[0].ifname, "tap0");
	cr_expect_eq(dev->net[0].kind, NET_TAP);
	cr_expect_not(dev->net[0].tso);
	cr_expect_eq(dev->net[0].virtio.queue_size, 64);
	cr_expect_eq(dev->net[1].kind, NET_TAP);
	cr_expect_null(dev->net[1].ifname);
	cr_expect_eq(dev->disk[0].queues, 2);
	cr_expect(dev->disk[0].direct);
}

Test(devices, words_of_crosvm_and_lkvm)
{
	takes("--net tap-name=tap0,vq-pairs=2,packed-queue --block a,ro -n mode=user --network "
	      "mode=tap,tapif=t,guest_mac=02:00:00:00:00:01,mq=2 -d b,direct --rng --balloon --console virtio");
	cr_expect_eq(dev->net[0].queues, 2);
	cr_expect(dev->net[0].virtio.packed);
	cr_expect(dev->disk[0].read_only);
	cr_expect_eq(dev->net[1].kind, NET_USER);
	cr_expect_str_eq(dev->net[2].ifname, "t");
	cr_expect(dev->net[2].has_mac);
	cr_expect(dev->disk[1].direct);
	cr_expect(dev->console.on);
}

Test(devices_error, other_programs_words_with_a_hint)
{
	refuses("-netdev user,id=n", "-netdev", "-n user", NULL);
	refuses("-net nic", "-net", "-n user", NULL);
	refuses("-device virtio-rng-pci", "-device", "--rng", NULL);
	refuses("--device virtio-rng-pci", "--device", "vhost-user,path=SOCKET", "--rng", NULL);
	refuses("-hda x", "-hda", "-d FILE", NULL);
	refuses("-blockdev x", "-blockdev", "-d FILE", NULL);
	refuses("-n tap,num_queues=4", "num_queues", "queues=", "pairs", NULL);
	refuses("-n tap,id=n0", "id=", "numbered", NULL);
	refuses("-n user,model=e1000", "model", "e1000", "virtio", NULL);
	refuses("-n tap,script=up.sh", "script", "beforehand", NULL);
	refuses("-n tap,ip=10.0.0.1", "ip=", "addresses", NULL);
	refuses("-n tap,bw_size=1", "bw_size", "rate=", NULL);
	refuses("-nic none", "-nic", "leave", NULL);
	refuses("-d a,format=qcow2", "format", "qcow2", "qemu-storage-daemon", NULL);
	refuses("-d a,if=ide", "if", "ide", "virtio", NULL);
	refuses("-d a,media=cdrom", "media", "ro", NULL);
	refuses("-d a,cache=none", "cache", "direct,cache=writeback", NULL);
	refuses("-d a,cache=directsync", "direct,cache=writethrough", NULL);
	refuses("-d a,snapshot=on", "snapshot=", "not in this version", NULL);
	refuses("-d a,iommu=on", "iommu", NULL);
	refuses("-d a,ioeventfd=off", "notify=exit", NULL);
	refuses("--rng=src=/dev/urandom", "src=", "leave it out", NULL);
	refuses("-d a,discard=unmap", "discard=", "leave it out", NULL);
	refuses("--balloon=size=1G", "size=", "ringlet ctl NAME balloon SIZE", NULL);
	refuses("--balloon=deflate-on-oom=on", "deflate-on-oom=", "always on", NULL);
}

Test(devices_error, detached_keys_are_not_taken_for_a_kernel)
{
	refuses("--rng src=/dev/urandom", "--rng", "--rng=src=/dev/urandom", NULL);
	refuses("--balloon transport=mmio", "--balloon=transport=mmio", NULL);
	takes("--rng a=b");
	cr_expect_str_eq(cfg.run.kernel, "a=b");
	takes("-d a path=b");
	cr_expect_str_eq(cfg.run.kernel, "path=b");
	takes("--rng bzImage");
	cr_expect_str_eq(cfg.run.kernel, "bzImage");
}

Test(devices_error, misspelt_words_name_the_nearest)
{
	refuses("--net usr", "\"usr\"", "user tap", NULL);
	refuses("--net tpa", "\"tpa\"", "user tap", NULL);
	refuses("--net macc", "\"mac\"?", NULL);
	refuses("--net user,hostfw=x", "\"hostfwd\"?", NULL);
	refuses("--net tap,queue=2", "\"queues\"?", NULL);
	refuses("--disk a,serail=x", "\"serial\"?", NULL);
	refuses("--rng=packd", "\"packed\"?", NULL);
	refuses("--console vritio", "serial virtio", NULL);
	refuses("--disk a,colour=red", "unknown key \"colour\"", "path, ro, direct", "pin", NULL);
	refuses("--nett user", "--net?", NULL);
}

Test(devices_error, missing_parts)
{
	refuses("-n", "-n", "value", NULL);
	refuses("-d ''", "-d", "empty", NULL);
	refuses("-n mac=02:00:00:00:00:01", "kind", "user, tap, vhost-user or vdpa", NULL);
	refuses("-d ro", "-d", "file is missing", NULL);
	refuses("-d path=", "path", "nothing", NULL);
	refuses("--console packed", "--console", "serial or virtio", NULL);
	refuses("-d a,", "nothing", NULL);
	refuses("-n user,mac", "mac", "value", NULL);
	refuses("--rng=", "--rng", "empty", NULL);
}

Test(devices_error, card_addresses)
{
	static const char *const wrong[] = {"52:54:00:12:34",     "52:54:00:12:34:56:78", "52-54-00-12-34-56",
					    "5254.0012.3456",     "52:54:00:12:34:5g",    " 2:54:00:12:34:56",
					    "0x:54:00:12:34:56",  "2:54:00:12:34:56",     "525:4:00:12:34:56",
					    "52:54:00:12:34:+6",  "52:54:00::12:34:5",    "random",
					    "52:54:00:12:34:56 ", "2:54:00:12:34:567"};

	for (size_t i = 0; i < N(wrong); i++) {
		char line[64];

		snprintf(line, sizeof(line), "-n 'user,mac=%s'", wrong[i]);
		refuses(line, "-n: mac:", wrong[i], "52:54:00:12:34:56", NULL);
	}
	refuses("-n user,mac=01:00:5e:00:00:01", "mac", "group", NULL);
	refuses("-n user,mac=ff:ff:ff:ff:ff:ff", "mac", "group", NULL);
	refuses("-n user,mac=00:00:00:00:00:00", "mac", "nobody", NULL);
}

Test(devices_error, interface_names)
{
	static const char *const wrong[] = {"a/b", "a b", "a:b", ".", "..", "", "a\tb"};

	for (size_t i = 0; i < N(wrong); i++) {
		char line[64];

		snprintf(line, sizeof(line), "-n 'tap,ifname=%s'", wrong[i]);
		refuses(line, "-n: ifname:", wrong[i], "slash", NULL);
	}
}

Test(devices_error, file_descriptors)
{
	refuses("-n tap,fd=0", "fd", "standard input", "fd=3", NULL);
	refuses("-n tap,fd=1", "fd", "standard output", NULL);
	refuses("-n tap,fd=2", "fd", "standard error", NULL);
	refuses("-n tap,fd=-1", "fd", "-1", NULL);
	refuses("-n tap,fd=2147483648", "fd", "2147483648", NULL);
	refuses("-n tap,fd=3,queues=2", "queues=2", "fd=", "ifname=NAME", NULL);
	refuses("-n tap,fd=3,ifname=t", "fd=", "ifname=", NULL);
	refuses("-n tap,fd=3 -n user -n tap,fd=3", "net2", "fd=3", "net0", NULL);
	refuses("-n tap,fds=3:4", "fds=", "queues=N", NULL);
}

Test(devices_error, numbers)
{
	refuses("-n tap,queues=0", "queues", "0", "1 and 16", NULL);
	refuses("-n tap,queues=17", "queues", "17", "1 and 16", NULL);
	refuses("-d a,queues=17", "queues", "17", "1 and 16", NULL);
	refuses("-n user,mtu=67", "mtu", "67", "68", NULL);
	refuses("-n user,mtu=65536", "mtu", "65535", NULL);
	refuses("-d a,queue-size=8", "queue-size", "8", "16 and 1024", NULL);
	refuses("-d a,queue-size=2048", "queue-size", "16 and 1024", NULL);
	refuses("-n user,queue-size=16", "queue-size=16", "32", NULL);
	refuses("-d a,pin=0-16", "pin", "16 host CPUs", NULL);
	refuses("-d a,pin=x", "pin", "0-1+4", NULL);
	takes("-n user,mtu=68 -n tap,mtu=65535,queues=16 -d a,queues=16,pin=0-15");
}

Test(devices_error, words)
{
	refuses("--transport isa", "--transport", "isa", "pci mmio", NULL);
	refuses("-d a,transport=isa", "transport", "pci mmio", NULL);
	refuses("-d a,notify=poll", "notify", "ioeventfd exit", NULL);
	refuses("-d a,irq=msi", "irq", "irqfd ioctl", NULL);
	refuses("-d a,doorbell=bell", "doorbell", "mmio pio", NULL);
	refuses("-d a,aio=threads", "aio", "uring sync", NULL);
	refuses("-d a,cache=unsafe", "cache", "writeback writethrough", NULL);
	refuses("-d a,packed=maybe", "packed", "maybe", "on nor off", NULL);
	refuses("--console tty", "--console", "tty", "serial virtio", NULL);
}

Test(devices_error, serial_numbers)
{
	takes("-d a,serial=12345678901234567890");
	refuses("-d a,serial=123456789012345678901", "serial", "20", NULL);
	refuses("-d a,serial=", "serial", "20", NULL);
	refuses("-d a,serial=\xc3\xa4", "serial", "ASCII", NULL);
	refuses("-d a,serial=\x7f", "serial", "ASCII", NULL);
}

Test(devices_error, forwarded_ports)
{
	char line[1024] = "-n user";

	refuses("-n user,hostfwd=", "hostfwd", "tcp::2222-:22", NULL);
	refuses("-n user,hostfwd=2222", "hostfwd", "2222", NULL);
	refuses("-n user,hostfwd=tcp::0-:22", "hostfwd", "65535", NULL);
	for (int i = 0; i < CONFIG_MAX_HOSTFWD; i++)
		strcat(line, ",hostfwd=tcp::2222-:22");
	takes(line);
	strcat(line, ",hostfwd=tcp::2222-:22");
	refuses(line, "hostfwd", "16", NULL);
}

Test(devices_error, contradictions_are_named)
{
	refuses("-n tap,hostfwd=tcp::2222-:22", "hostfwd=", "user", NULL);
	refuses("-n user,ifname=t", "ifname=", "tap", NULL);
	refuses("-n user,fd=3", "fd=", "tap", NULL);
	refuses("-n user,queues=2", "queues=2", "tap", NULL);
	refuses("-n user,csum=off,tso=on", "tso=on", "csum=off", NULL);
	refuses("-n user,uso,csum=off", "uso=on", "csum=off", NULL);
	refuses("--console serial,packed", "serial", "virtio", NULL);
	refuses("-d a,doorbell=pio,transport=mmio", "--disk (disk0)", "doorbell=pio", "transport=mmio", NULL);
	refuses("-n user,doorbell=pio --transport mmio", "--net (net0)", "doorbell=pio", "--transport mmio",
		NULL);
	refuses("--rng=doorbell=pio --transport mmio", "--rng", "doorbell=pio", NULL);
	refuses("--balloon=doorbell=pio,transport=mmio", "--balloon", "doorbell=pio", NULL);
	refuses("--console virtio,doorbell=pio,transport=mmio", "--console", "doorbell=pio", NULL);
	takes("-d a,doorbell=pio,transport=pci --transport mmio");
	takes("--rng=mmio,doorbell=pio --help");
}

Test(devices_error, as_many_as_there_is_room_for)
{
	char line[1024] = "";

	for (int i = 0; i < CONFIG_MAX_NETS; i++)
		strcat(line, " -n user");
	takes(line + 1);
	strcat(line, " -n user");
	refuses(line + 1, "-n", "8", NULL);
	*line = '\0';
	for (int i = 0; i < CONFIG_MAX_DISKS; i++)
		strcat(line, " -d a");
	takes(line + 1);
	strcat(line, " -d a");
	refuses(line + 1, "-d", "16", NULL);
}

Test(devices, ports_of_the_console)
{
	takes("--console virtio,port=org.qemu.guest_agent.0:/tmp/a,,b.sock,packed,port=_:x:y");
	cr_assert_eq(dev->nport, 2);
	cr_expect_str_eq(dev->port[0].name, "org.qemu.guest_agent.0");
	cr_expect_str_eq(dev->port[0].path, "/tmp/a,b.sock");
	cr_expect_str_eq(dev->port[1].name, "_");
	cr_expect_str_eq(dev->port[1].path, "x:y");
	cr_expect(dev->console.virtio.packed);
}

Test(devices, a_port_without_a_socket_goes_with_a_name)
{
	takes("--console virtio,port=a --name vm1");
	cr_assert_eq(dev->nport, 1);
	cr_expect_null(dev->port[0].path);
	refuses("--console virtio,port=a", "--console", "port=a", "--name NAME", "port=a:PATH", NULL);
	refuses("--console virtio,port=b:x,port=a --control /tmp/c", "port=a", "--name", NULL);
}

Test(devices, ports_are_replaced_with_their_console)
{
	takes("--console virtio,port=a:x,port=b:y --console virtio,port=c:z");
	cr_assert_eq(dev->nport, 1);
	cr_expect_str_eq(dev->port[0].name, "c");
	takes("--console virtio,port=a --console serial");
	cr_expect_eq(dev->nport, 0);
}

Test(devices_error, ports_of_the_console)
{
	char line[4096] = "--console virtio", name[128] = "--console virtio,port=";

	refuses("--console virtio,port", "port", "value", NULL);
	refuses("--console virtio,port=", "port", "letters", NULL);
	refuses("--console virtio,port=:/tmp/x", "port", "letters", NULL);
	refuses("--console virtio,port=a/b:x", "\"a/b\"", "letters", NULL);
	refuses("--console virtio,port=.a:x", "\".a\"", NULL);
	refuses("--console virtio,port=a:", "port", "path", "nothing", NULL);
	refuses("--console virtio,port=a:x,port=b:y,port=a:z", "two ports named a", NULL);
	refuses("--console virtio,port=a:x,port=b:x", "x", "port a", NULL);
	refuses("--console serial,port=a:x", "serial", "virtio", NULL);
	refuses("--console virtio,prot=a", "\"port\"?", NULL);
	refuses("--console virtio,socket=x", "port=NAME:PATH", NULL);
	for (int i = 0; i <= CONFIG_MAX_PORTS; i++) {
		if (i == CONFIG_MAX_PORTS)
			takes(line);
		snprintf(line + strlen(line), 40, ",port=p%d:/s%d", i, i);
	}
	refuses(line, "port", "16", NULL);
	memset(name + strlen(name), 'n', 64);
	strcpy(line, name);
	takes(strcat(line, ":x"));
	strcpy(line, name);
	refuses(strcat(line, "n:x"), "64", NULL);
}

Test(devices_error, a_socket_path_has_107_bytes)
{
	char line[256] = "--console virtio,port=a:";

	memset(line + strlen(line), 's', 107);
	takes(line);
	strcat(line, "s");
	refuses(line, "port", "107", NULL);
}

/* Printing */
