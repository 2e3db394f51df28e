#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_values.h"

struct text {
	char *buf;
	size_t size, len; /* len: as if size were without end */
};

static void add_char(struct text *t, char c)
{
	if (t->len + 1 < t->size) {
		t->buf[t->len] = c;
		t->buf[t->len + 1] = '\0';
	}
	t->len++;
}

static void add(struct text *t, const char *s)
{
	while (*s)
		add_char(t, *s++);
}

static bool is_plain(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("_@%+=:,./-", c));
}

/* For a shell, all of it in quotes where any of it needs them. */
static void add_escaped(struct text *t, const char *s, bool in_list)
{
	const char *p = s;
	bool quotes;

	while (is_plain(*p))
		p++;
	quotes = *p || !*s;
	if (quotes)
		add_char(t, '\'');
	for (; *s; s++) {
		/* In a list a comma stands for itself only when doubled. */
		if (*s == ',' && in_list)
			add_char(t, ',');
		if (*s == '\'')
			add(t, "'\\''");
		else
			add_char(t, *s);
	}
	if (quotes)
		add_char(t, '\'');
}

static void add_quoted(struct text *t, const char *s)
{
	add_escaped(t, s, false);
}

static void add_option(struct text *t, const char *name, const char *value)
{
	add(t, " --");
	add(t, name);
	if (value) {
		add_char(t, '=');
		add_quoted(t, value);
	}
}

/* ",key=value"; value may hold anything. */
static void add_key(struct text *t, const char *key, const char *value)
{
	add_char(t, ',');
	add(t, key);
	add_char(t, '=');
	add_escaped(t, value, true);
}

static void add_switch(struct text *t, const char *key, bool on)
{
	add_key(t, key, on ? "on" : "off");
}

static void add_mem(struct text *t, const struct mem_config *mem)
{
	char size[32], page[32];

	format_size(mem->size, size, sizeof(size));
	format_size(mem->hugepage_size, page, sizeof(page));
	add_option(t, "mem", size);
	if (mem->hugepage_size)
		add_key(t, "hugepages", page);
	if (mem->path)
		add_key(t, "path", mem->path);
	add_switch(t, "share", mem->share);
	add_switch(t, "thp", mem->thp);
	add_switch(t, "prealloc", mem->prealloc);
}

static void add_number(struct text *t, const char *before, unsigned n)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%u", n);
	add(t, before);
	add(t, digits);
}

static void add_bits(struct text *t, const char *key, uint64_t bits)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "0x%" PRIx64, bits);
	add_key(t, key, digits);
}

static void add_pins(struct text *t, const uint16_t *pin, unsigned npin)
{
	for (unsigned i = 0; i < npin; i++) {
		unsigned first = i;

		while (i + 1 < npin && pin[i + 1] == pin[i] + 1)
			i++;
		add_number(t, first ? "+" : ",pin=", pin[first]);
		if (i > first)
			add_number(t, "-", pin[i]);
	}
}

static void add_cpus(struct text *t, const struct cpu_config *cpu)
{
	add_number(t, " --cpus=", cpu->n);
	add_number(t, ",sockets=", cpu->sockets);
	add_number(t, ",cores=", cpu->cores);
	add_number(t, ",threads=", cpu->threads);
	add_pins(t, cpu->pin, cpu->npin);
}

static const char *transport_name(enum transport_kind kind)
{
	return kind == TRANSPORT_MMIO ? "mmio" : "pci";
}

static void add_virtio_but_transport(struct text *t, const struct virtio_config *v)
{
	add_key(t, "notify", v->notify_exit ? "exit" : "ioeventfd");
	add_key(t, "irq", v->irq_ioctl ? "ioctl" : "irqfd");
	add_key(t, "doorbell", v->doorbell_pio ? "pio" : "mmio");
	if (v->all_bits)
		add_key(t, "bits", "all");
	if (v->has_most)
		add_bits(t, "features", v->most);
	add_switch(t, "packed", v->packed);
	add_switch(t, "in_order", v->in_order);
	add_switch(t, "event_idx", v->event_idx);
	add_switch(t, "indirect", v->indirect);
	if (v->queue_size)
		add_number(t, ",queue-size=", v->queue_size);
	add_pins(t, v->pin, v->npin);
}

static void add_remote(struct text *t, const struct remote_options *r, bool vhost_user)
{
	char ms[32];

	add_key(t, "path", r->path);
	if (!vhost_user)
		return;
	add_switch(t, "server", r->server);
	snprintf(ms, sizeof(ms), "%ums", r->wait_ms);
	add_key(t, "wait", ms);
	snprintf(ms, sizeof(ms), "%ums", r->reconnect_ms);
	add_key(t, "reconnect", ms);
}

static void add_virtio(struct text *t, const struct virtio_config *v)
{
	add_key(t, "transport", transport_name(v->transport));
	add_virtio_but_transport(t, v);
}

static void add_rate(struct text *t, const struct net_options *net)
{
	char rate[64] = "";
	size_t len = 0;

	if (net->rate_bytes && net->rate_bytes % 1024 == 0)
		format_size(net->rate_bytes, rate, sizeof(rate));
	else if (net->rate_bytes)
		snprintf(rate, sizeof(rate), "%" PRIu64 "B", net->rate_bytes);
	len = strlen(rate);
	if (net->rate_packets)
		snprintf(rate + len, sizeof(rate) - len, "%s%" PRIu64 "p", len ? "+" : "", net->rate_packets);
	if (*rate)
		add_key(t, "rate", rate);
}

static void add_net(struct text *t, const struct net_options *net)
{
	static const char *const kinds[] = {"user", "tap", "vhost-user", "vdpa"}; /* enum net_kind */
	char mac[18];

	add_option(t, "net", kinds[net->kind]);
	if (net->vhost)
		add_switch(t, "vhost", true);
	if (net->busy_poll_us)
		add_number(t, ",poll-us=", net->busy_poll_us);
	if (net->remote.path)
		add_remote(t, &net->remote, net->kind == NET_VHOST_USER);
	for (unsigned i = 0; i < net->nhostfwd; i++)
		add_key(t, "hostfwd", net->hostfwd[i]);
	if (net->ifname)
		add_key(t, "ifname", net->ifname);
	if (net->fd >= 0)
		add_number(t, ",fd=", (unsigned)net->fd);
	add_number(t, ",queues=", net->queues);
	if (net->has_mac) {
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", net->mac[0], net->mac[1],
			 net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
		add_key(t, "mac", mac);
	}
	if (net->mtu)
		add_number(t, ",mtu=", net->mtu);
	add_rate(t, net);
	add_switch(t, "csum", net->csum);
	add_switch(t, "tso", net->tso);
	add_switch(t, "uso", net->uso);
	add_switch(t, "mrg_rxbuf", net->mrg_rxbuf);
	add_virtio(t, &net->virtio);
}

static void add_disk(struct text *t, const struct disk_options *disk)
{
	if (disk->kind != DISK_FILE) {
		add_option(t, "disk", disk->kind == DISK_VHOST_USER ? "vhost-user" : "vdpa");
		add_remote(t, &disk->remote, disk->kind == DISK_VHOST_USER);
		add_number(t, ",queues=", disk->queues);
		add_virtio(t, &disk->virtio);
		return;
	}
	/* With its key, a file may be called as it likes, "ro" or "vdpa". */
	add(t, " --disk=path=");
	add_escaped(t, disk->path, true);
	add_switch(t, "ro", disk->read_only);
	add_switch(t, "direct", disk->direct);
	if (disk->aio != DISK_AIO_DEFAULT)
		add_key(t, "aio", disk->aio == DISK_AIO_SYNC ? "sync" : "uring");
	if (disk->raw)
		add_key(t, "format", "raw");
	add_key(t, "cache", disk->writethrough ? "writethrough" : "writeback");
	add_number(t, ",queues=", disk->queues);
	if (disk->serial)
		add_key(t, "serial", disk->serial);
	add_virtio(t, &disk->virtio);
}

static void add_generic(struct text *t, const struct generic_options *g)
{
	char number[16];

	switch (g->kind) {
	case GENERIC_VSOCK:
		snprintf(number, sizeof(number), "%u", g->cid);
		add_option(t, "vsock", number);
		break;
	case GENERIC_SCSI:
		add_option(t, "scsi", "vhost");
		add_key(t, "wwpn", g->wwpn);
		break;
	case GENERIC_FS:
		add_option(t, "fs", "vhost-user");
		add_key(t, "tag", g->tag);
		break;
	case GENERIC_VHOST_USER:
		add_option(t, "device", "vhost-user");
		add_number(t, ",type=", g->id);
	}
	if (g->remote.path)
		add_remote(t, &g->remote, true);
	if (g->queues)
		add_number(t, ",queues=", g->queues);
	for (unsigned i = 0; i < g->config_len; i++) {
		snprintf(number, sizeof(number), "%02x", g->config[i]);
		add(t, i ? "" : ",config=");
		add(t, number);
	}
	add_virtio(t, &g->virtio);
}

static void add_simple(struct text *t, const char *name, const struct simple_options *device)
{
	if (!device->on)
		return;
	add_option(t, name, "transport=");
	add(t, transport_name(device->virtio.transport));
	add_virtio_but_transport(t, &device->virtio);
}

static void add_console(struct text *t, const struct devices_config *dev)
{
	add_option(t, "console", dev->console.on ? "virtio" : "serial");
	for (unsigned i = 0; i < dev->nport; i++) {
		add_key(t, "port", dev->port[i].name);
		if (!dev->port[i].path)
			continue;
		add_char(t, ':');
		add_escaped(t, dev->port[i].path, true);
	}
	if (dev->console.on)
		add_virtio(t, &dev->console.virtio);
}

static void add_devices(struct text *t, const struct devices_config *dev)
{
	add_option(t, "transport", transport_name(dev->transport));
	for (unsigned i = 0; i < dev->nnet; i++)
		add_net(t, &dev->net[i]);
	for (unsigned i = 0; i < dev->ndisk; i++)
		add_disk(t, &dev->disk[i]);
	for (unsigned i = 0; i < dev->ngeneric; i++)
		add_generic(t, &dev->generic[i]);
	add_simple(t, "rng", &dev->rng);
	add_simple(t, "balloon", &dev->balloon);
	add_console(t, dev);
}

static void add_share(struct text *t, const char *option, const struct share_config *share)
{
	add_option(t, option, "path=");
	add_escaped(t, share->source, true);
	if (share->path) {
		add(t, ",at=");
		add_escaped(t, share->path, true);
	}
	add_switch(t, "rw", share->writable);
}

static void add_time(struct text *t, const char *option, uint64_t ms)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 "%s", ms % 1000 ? ms : ms / 1000, ms % 1000 ? "ms" : "s");
	add_option(t, option, ms ? text : "0");
}

static void add_word(struct text *t, const char *option, const char *word)
{
	if (word)
		add_option(t, option, word);
}

static void add_guest(struct text *t, const struct guest_config *guest)
{
	if (guest->root.source)
		add_share(t, "root", &guest->root);
	for (unsigned i = 0; i < guest->nshare; i++)
		add_share(t, "share", &guest->share[i]);
	add_word(t, "modules", guest->modules);
	for (unsigned i = 0; i < guest->nenv; i++)
		add_option(t, "env", guest->env[i]);
	add_word(t, "cwd", guest->cwd);
	add_word(t, "user", guest->user);
	if (guest->input)
		add_option(t, "stdin", NULL);
}

int config_print_run(const struct config *cfg, char *buf, unsigned long size)
{
	static const char *const panic[] = {"exit", "hang", "reboot"};
	static const char *const reboot[] = {"exit", "again"};
	static const char *const oops[] = {"ignore", "fail"};
	const struct run_config *run = &cfg->run;
	struct text t = {.buf = buf, .size = size};

	if (size)
		*buf = '\0';
	add(&t, "ringlet run");
	add_word(&t, "kernel", run->kernel);
	add_word(&t, "initrd", run->initrd);
	for (unsigned i = 0; i < run->nappend; i++)
		add_option(&t, "append", run->append[i]);
	if (!run->default_append)
		add_option(&t, "no-default-append", NULL);
	add_option(&t, "unpack", run->unpack ? "on" : "off");
	add_mem(&t, &run->mem);
	add_cpus(&t, &run->cpu);
	add_devices(&t, &run->dev);
	add_guest(&t, &run->guest);
	add_time(&t, "timeout", run->timeout_ms);
	add_time(&t, "boot-timeout", run->boot_timeout_ms);
	add_option(&t, "panic", panic[run->panic]);
	add_option(&t, "oops", oops[run->oops]);
	add_option(&t, "reboot", reboot[run->reboot]);
	add_word(&t, "name", run->name);
	add_word(&t, "control", run->control);
	add_word(&t, "log", run->log);
	if (run->stats)
		add_option(&t, "stats", run->stats_path);
	add_word(&t, "result", run->result);
	add_word(&t, "junit", run->junit);
	add_option(&t, "sandbox", run->sandbox ? "on" : "off");
	if (run->trace_control)
		add_option(&t, "trace", "control");
	if (run->dry_run)
		add_option(&t, "dry-run", NULL);
	if (cfg->verbose)
		add_option(&t, "verbose", NULL);
	if (run->argv) {
		add(&t, " --");
		for (int i = 0; i < run->argc; i++) {
			add_char(&t, ' ');
			add_quoted(&t, run->argv[i]);
		}
	}
	return (int)t.len;
}
