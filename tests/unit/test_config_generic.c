/* The command line of devices whose model is their back end's: --vsock, --scsi, --fs, --device. */
#include <linux/virtio_ids.h>

#include "tests/unit/config_rig.h"

TestSuite(generic, .fini = config_rig_done);
TestSuite(generic_error, .fini = config_rig_done);
TestSuite(generic_printed, .fini = config_rig_done);

static const struct generic_options *const first = &cfg.run.dev.generic[0];

/* --vsock */

Test(generic, vsock)
{
	takes("--vsock 42");
	cr_assert_eq(dev->ngeneric, 1);
	cr_expect_eq(first->kind, GENERIC_VSOCK);
	cr_expect_eq(first->cid, 42);
	cr_expect_null(first->remote.path);
	expect_default_virtio(&first->virtio);
}

Test(generic, vsock_by_its_key_and_other_programs_words)
{
	takes("--vsock cid=3,transport=mmio,packed");
	cr_expect_eq(first->cid, 3);
	cr_expect_eq(first->virtio.transport, TRANSPORT_MMIO);
	cr_expect(first->virtio.packed);
	takes("--vsock guest-cid=3");
	takes("--vsock guest_cid=3");
	cr_expect_eq(first->cid, 3);
}

Test(generic, guest_numbers_go_from_3_to_the_last_but_one)
{
	takes("--vsock 3");
	takes("--vsock 4294967294");
	cr_expect_eq(first->cid, 4294967294u);
}

Test(generic_error, guest_numbers)
{
	static const char *const wrong[] = {"0", "1", "2", "4294967295", "4294967296", "18446744073709551619"};

	for (size_t i = 0; i < N(wrong); i++) {
		char line[64];

		snprintf(line, sizeof(line), "--vsock %s", wrong[i]);
		refuses(line, "--vsock: cid:", wrong[i], "3 and 4294967294", NULL);
	}
	refuses("--vsock -1", "cid", "-1", NULL);
	refuses("--vsock 3.5", "cid", "3.5", NULL);
	refuses("--vsock 0x10", "cid", "0x10", NULL);
	refuses("--vsock any", "cid", "any", NULL);
	refuses("--vsock cid=", "cid", NULL);
	refuses("--vsock transport=mmio", "--vsock", "missing", "3 or more", NULL);
	refuses("--vsock", "--vsock", "value", NULL);
	refuses("--vsock 3,path=s", "unknown key \"path\"", NULL);
}

Test(generic_error, a_guest_has_one_vsock)
{
	refuses("--vsock 3 --vsock 4", "--vsock", "twice", NULL);
	refuses("--vsock 3 --fs vhost-user,path=s,tag=t --vsock 3", "--vsock", "twice", NULL);
}

/* --scsi */

Test(generic, scsi)
{
	takes("--scsi vhost,wwpn=naa.5001405a2b3c4d5e");
	cr_expect_eq(first->kind, GENERIC_SCSI);
	cr_expect_str_eq(first->wwpn, "naa.5001405a2b3c4d5e");
	cr_expect_eq(first->queues, 0);
	expect_default_virtio(&first->virtio);
}

Test(generic, keys_of_scsi)
{
	takes("--scsi vhost,wwpn=eui.02004567a425678d,queues=62,queue-size=64 "
	      "--scsi wwpn=iqn.2003-01.org.example:disk,num_queues=1");
	cr_expect_eq(first->queues, 62);
	cr_expect_eq(first->virtio.queue_size, 64);
	cr_expect_str_eq(dev->generic[1].wwpn, "iqn.2003-01.org.example:disk");
	cr_expect_eq(dev->generic[1].queues, 1);
}

Test(generic_error, scsi)
{
	static const char *const wrong[] = {"",   "naa.", "5001405a2b3c4d5e", "NAA.5", "/sys/kernel/config",
					    "naa"};
	char line[512] = "--scsi vhost,wwpn=naa.";
	size_t len = strlen(line);

	for (size_t i = 0; i < N(wrong); i++) {
		char text[64];

		snprintf(text, sizeof(text), "--scsi vhost,wwpn=%s", wrong[i]);
		refuses(text, "--scsi: wwpn:", wrong[i], "naa.5001405a2b3c4d5e", NULL);
	}
	memset(line + len, '5', 223 - 4);
	takes(line);
	line[len + 223 - 4] = '5';
	refuses(line, "wwpn", NULL);
	refuses("--scsi vhost", "--scsi", "wwpn=naa.", NULL);
	refuses("--scsi vhost-user,path=s", "kind", "vhost-user", "say vhost", NULL);
	refuses("--scsi vhost,wwpn=naa.5,path=s", "unknown key \"path\"", NULL);
	refuses("--scsi vhost,wwpn=naa.5,queues=0", "queues", "1 and 62", NULL);
	refuses("--scsi vhost,wwpn=naa.5,queues=63", "queues", "1 and 62", NULL);
	refuses("--scsi vhost,wpn=naa.5", "\"wwpn\"?", NULL);
}

/* --fs */

Test(generic, fs)
{
	takes("--fs vhost-user,path=/run/fs,tag=shared");
	cr_expect_eq(first->kind, GENERIC_FS);
	cr_expect_str_eq(first->tag, "shared");
	cr_expect_str_eq(first->remote.path, "/run/fs");
	cr_expect_not(first->remote.server);
	cr_expect_eq(first->remote.wait_ms, 0);
	cr_expect_eq(first->remote.reconnect_ms, 0);
	cr_expect_eq(first->queues, 0);
	expect_default_virtio(&first->virtio);
}

Test(generic, keys_of_fs)
{
	takes("--fs vhost-user,path=s,tag=a,server,reconnect=2s,queues=4,transport=mmio "
	      "--fs socket=s,tag=b,num_queues=2,queue_size=128,wait=1s");
	cr_expect(first->remote.server);
	cr_expect_eq(first->remote.wait_ms, 60000);
	cr_expect_eq(first->remote.reconnect_ms, 2000);
	cr_expect_eq(first->queues, 4);
	cr_expect_str_eq(dev->generic[1].remote.path, "s");
	cr_expect_eq(dev->generic[1].remote.wait_ms, 1000);
	cr_expect_eq(dev->generic[1].queues, 2);
	cr_expect_eq(dev->generic[1].virtio.queue_size, 128);
}

Test(generic, a_tag_has_36_bytes)
{
	takes("--fs vhost-user,path=s,tag=123456789012345678901234567890123456");
	refuses("--fs vhost-user,path=s,tag=1234567890123456789012345678901234567", "tag", "36 bytes", NULL);
	refuses("--fs vhost-user,path=s,tag=", "tag", "36 bytes", NULL);
	takes("--fs vhost-user,path=s,tag=x");
}

Test(generic_error, fs)
{
	refuses("--fs vhost-user,path=s", "--fs", "tag=NAME", NULL);
	refuses("--fs vhost-user,tag=t", "--fs", "path=SOCKET", NULL);
	refuses("--fs /srv", "kind", "/srv", "say vhost-user", NULL);
	refuses("--fs vdpa,path=s,tag=t", "kind", "vdpa", NULL);
	refuses("--fs vhost-user,path=s,tag=t,queues=63", "queues", "1 and 62", NULL);
	refuses("--fs vhost-user,path=s,tag=t,wait=x", "wait", "60s", NULL);
	refuses("--fs vhost-user,path=s,tag=t,type=fs", "unknown key \"type\"", NULL);
	refuses("--fs vhost-user,path=s,tag=t,doorbell=pio,transport=mmio", "--fs", "doorbell=pio", NULL);
}

/* --device */

Test(generic, any_device)
{
	takes("--device vhost-user,path=s,type=gpu");
	cr_expect_eq(first->kind, GENERIC_VHOST_USER);
	cr_expect_eq(first->id, VIRTIO_ID_GPU);
	cr_expect_eq(first->queues, 0);
	cr_expect_eq(first->config_len, 0);
	cr_expect_str_eq(first->remote.path, "s");
	expect_default_virtio(&first->virtio);
}

Test(generic, types_by_name)
{
	static const struct {
		const char *name;
		uint32_t id;
	} types[] = {{"net", 1}, {"blk", 2},   {"console", 3}, {"rng", 4},    {"scsi", 8},
		     {"9p", 9},  {"gpu", 16},  {"input", 18},  {"vsock", 19}, {"crypto", 20},
		     {"fs", 26}, {"pmem", 27}, {"sound", 25},  {"i2c", 34},   {"gpio", 41}};

	for (size_t i = 0; i < N(types); i++) {
		char line[64];

		snprintf(line, sizeof(line), "--device vhost-user,path=s,type=%s", types[i].name);
		takes(line);
		cr_expect_eq(first->id, types[i].id, "%s", types[i].name);
	}
}

Test(generic, types_by_number)
{
	takes("--device vhost-user,path=s,type=1 --device vhost-user,path=s,type=63");
	cr_expect_eq(first->id, 1);
	cr_expect_eq(dev->generic[1].id, 63);
}

Test(generic_error, types)
{
	refuses("--device vhost-user,path=s", "--device", "type=", NULL);
	refuses("--device vhost-user,path=s,type=0", "type", "1 and 63", NULL);
	refuses("--device vhost-user,path=s,type=64", "type", "64", "1 and 63", NULL);
	refuses("--device vhost-user,path=s,type=9q", "type", "9q", NULL);
	refuses("--device vhost-user,path=s,type=", "type", "number", NULL);
	refuses("--device vhost-user,path=s,type=-1", "type", "-1", "number", NULL);
	refuses("--device vhost-user,path=s,type=disk", "type", "\"disk\"", "blk", "9p", "gpio", NULL);
	refuses("--device vhost-user,path=s,type=FS", "type", "\"FS\"", NULL);
}

Test(generic, bytes_of_the_configuration)
{
	takes("--device vhost-user,path=s,type=5,queues=62,config=00ffAb1c,server,wait=0");
	cr_assert_eq(first->config_len, 4);
	cr_expect_eq(memcmp(first->config, "\x00\xff\xab\x1c", 4), 0);
	cr_expect_eq(first->queues, 62);
	cr_expect(first->remote.server);
	cr_expect_eq(first->remote.wait_ms, 0);
}

Test(generic, the_configuration_has_256_bytes)
{
	char line[1024] = "--device vhost-user,path=s,type=5,config=";
	size_t len = strlen(line);

	memset(line + len, 'f', 512);
	takes(line);
	cr_expect_eq(first->config_len, 256);
	cr_expect_eq(first->config[255], 0xff);
	survives_printing();
	strcat(line, "ff");
	refuses(line, "config", "256", "514 digits", NULL);
}

Test(generic_error, bytes_of_the_configuration)
{
	refuses("--device vhost-user,path=s,type=5,config=", "config", "256 bytes", "0 digits", NULL);
	refuses("--device vhost-user,path=s,type=5,config=0", "config", "1 digits", NULL);
	refuses("--device vhost-user,path=s,type=5,config=00f", "config", "3 digits", NULL);
	refuses("--device vhost-user,path=s,type=5,config=0g", "config", "\"0g\"", NULL);
	refuses("--device vhost-user,path=s,type=5,config=00g0", "config", "\"g0\"", NULL);
	refuses("--device vhost-user,path=s,type=5,config=0x00", "config", "\"0x\"", NULL);
	refuses("--device vhost-user,path=s,type=5,config=+1", "config", "\"+1\"", NULL);
}

Test(generic_error, device)
{
	refuses("--device vhost-user,type=fs", "--device", "path=SOCKET", NULL);
	refuses("--device vhost,path=s,type=fs", "kind", "\"vhost\"", NULL);
	refuses("--device vhost-user-fs-pci,tag=x", "vhost-user,path=SOCKET", "--fs", NULL);
	refuses("--device vhost-user,path=s,type=5,queues=0", "queues", "1 and 62", NULL);
	refuses("--device vhost-user,path=s,type=5,queues=63", "queues", "1 and 62", NULL);
	refuses("-device vhost-vsock-pci", "-device", "--vsock", "--device", NULL);
}

/* All of them */

#define OTHER "transport=mmio,notify=exit,irq=ioctl,bits=all,packed=off,event_idx=off,queue-size=64,pin=1+0"

static void expect_other(const struct virtio_config *v)
{
	cr_expect_eq(v->transport, TRANSPORT_MMIO);
	cr_expect(v->notify_exit && v->irq_ioctl && v->all_bits && v->in_order && v->indirect);
	cr_expect_not(v->packed);
	cr_expect_not(v->event_idx);
	cr_expect_eq(v->queue_size, 64);
	cr_assert_eq(v->npin, 2);
	cr_expect_eq(v->pin[0], 1);
}

Test(generic, common_keys_of_each)
{
	takes("--vsock 3," OTHER " --scsi vhost,wwpn=naa.5," OTHER " --fs vhost-user,path=s,tag=t," OTHER
	      " --device vhost-user,path=s,type=5," OTHER);
	cr_assert_eq(dev->ngeneric, 4);
	for (unsigned i = 0; i < 4; i++)
		expect_other(&dev->generic[i].virtio);
}

Test(generic, transport_option_is_for_all_even_before_it)
{
	takes("--vsock 3 --fs vhost-user,path=s,tag=t,transport=pci --transport mmio");
	cr_expect_eq(first->virtio.transport, TRANSPORT_MMIO);
	cr_expect_eq(dev->generic[1].virtio.transport, TRANSPORT_PCI);
	refuses("--vsock 3,doorbell=pio --transport mmio", "--vsock", "doorbell=pio", "--transport mmio", NULL);
}

Test(generic_error, as_many_as_there_is_room_for)
{
	char line[1024] = "--vsock 3";

	for (int i = 1; i < CONFIG_MAX_GENERIC; i++)
		strcat(line, " --fs vhost-user,path=s,tag=t");
	takes(line);
	strcat(line, " --scsi vhost,wwpn=naa.5");
	refuses(line, "--scsi", "8", "--vsock, --scsi, --fs and --device", NULL);
}

Test(generic_error, socket_paths_have_107_bytes)
{
	char line[256] = "--fs vhost-user,tag=t,path=";

	memset(line + strlen(line), 's', 107);
	takes(line);
	strcat(line, "s");
	refuses(line, "--fs", "107", NULL);
}

Test(generic_printed, with_defaults_spelt_out)
{
#define COMMON                                                                                                 \
	",transport=pci,notify=ioeventfd,irq=irqfd,doorbell=mmio,packed=off,in_order=off,event_idx=on,"        \
	"indirect=on "
#define BACKEND ",path=s,server=off,wait=0ms,reconnect=0ms"
	static const char *const parts[] = {
		" --vsock=3" COMMON,
		" --scsi=vhost,wwpn=naa.5" COMMON,
		" --fs=vhost-user,tag=t" BACKEND COMMON,
		" --device=vhost-user,type=26" BACKEND ",queues=2,config=00ff" COMMON,
	};
	char text[8192];

	takes("--vsock 3 --scsi vhost,wwpn=naa.5 --fs vhost-user,path=s,tag=t "
	      "--device vhost-user,path=s,type=fs,queues=2,config=00FF");
	config_print_run(&cfg, text, sizeof(text));
	for (size_t i = 0; i < N(parts); i++)
		cr_expect(strstr(text, parts[i]), "\"%s\" is not in: %s", parts[i], text);
	survives_printing();
}

Test(generic_printed, lines_that_are_hard)
{
	static const char *const lines[] = {
		"--vsock 4294967294,bits=all,packed=off --fs 'vhost-user,path=a b,tag=x,,y,server'",
		"--scsi 'vhost,wwpn=iqn.a=b,,c,queues=62' --fs vhost-user,path=,,,tag=\\'",
		"--device vhost-user,path=s,type=63,config=00 --device vhost-user,path=s,type=9p,server,wait=0",
		"--fs vhost-user,path=s,tag==,queues=1,pin=3-4+1 --transport mmio",
	};

	for (size_t i = 0; i < N(lines); i++) {
		takes(lines[i]);
		survives_printing();
	}
}
