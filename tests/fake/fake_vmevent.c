#include "tests/fake/fake_vmevent.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"

static struct fake_vmevent *fake_of(struct vmevent *v)
{
	struct fake_vmevent *f = container_of(v, struct fake_vmevent, event);

	pthread_mutex_lock(&f->lock);
	return f;
}

static int done(struct fake_vmevent *f, int rc)
{
	pthread_mutex_unlock(&f->lock);
	return rc;
}

static bool spend(int *left)
{
	if (*left < 0)
		return true;
	return *left ? (*left)-- : false;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1 && p.revents & POLLIN;
}

static uint64_t take(int fd)
{
	uint64_t n = 0;

	return readable(fd) && read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void give(int fd, uint64_t n)
{
	if (n && write(fd, &n, sizeof(n)) < 0)
		return;
}

static bool same(const struct doorbell *a, const struct doorbell *b)
{
	return a->pio == b->pio && a->addr == b->addr && (a->len == b->len || !a->len || !b->len) &&
	       (a->match == b->match || a->match < 0 || b->match < 0);
}

static int doorbell_add(struct vmevent *v, const struct doorbell *d, int fd)
{
	struct fake_vmevent *f = fake_of(v);
	struct fake_doorbell *slot = NULL;

	if (!spend(&f->doorbells_left))
		return done(f, -ENOSPC);
	if (fd < 0 || (!d->len && d->match >= 0)) {
		f->misuse++;
		return done(f, -EINVAL);
	}
	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		if (!f->doorbell[i].used)
			slot = slot ? slot : &f->doorbell[i];
		else if (same(&f->doorbell[i].at, d)) {
			f->misuse++;
			return done(f, -EEXIST);
		}
	}
	if (!slot)
		return done(f, -ENOSPC);
	*slot = (struct fake_doorbell){.used = true, .at = *d, .fd = fd};
	return done(f, 0);
}

static void doorbell_del(struct vmevent *v, const struct doorbell *d, int fd)
{
	struct fake_vmevent *f = fake_of(v);
	bool found = false;

	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		struct fake_doorbell *b = &f->doorbell[i];

		if (b->used && b->fd == fd && b->at.pio == d->pio && b->at.addr == d->addr &&
		    b->at.len == d->len && b->at.match == d->match) {
			b->used = false;
			found = true;
		}
	}
	f->misuse += !found;
	done(f, 0);
}

static int msi_alloc(struct vmevent *v)
{
	struct fake_vmevent *f = fake_of(v);

	if (!spend(&f->msis_left))
		return done(f, -ENOSPC);
	for (int i = FAKE_FIRST_MSI; i < FAKE_GSIS; i++)
		if (!f->msi_used[i]) {
			f->msi_used[i] = true;
			return done(f, i);
		}
	return done(f, -ENOSPC);
}

static bool is_msi(struct fake_vmevent *f, int gsi)
{
	bool ok = gsi >= FAKE_FIRST_MSI && gsi < FAKE_GSIS && f->msi_used[gsi];

	f->misuse += !ok;
	return ok;
}

static void msi_free(struct vmevent *v, int gsi)
{
	struct fake_vmevent *f = fake_of(v);

	if (is_msi(f, gsi))
		f->msi_used[gsi] = f->msi_set[gsi] = false;
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		f->misuse += f->irqfd[i].used && f->irqfd[i].gsi == gsi;
	done(f, 0);
}

static int msi_set(struct vmevent *v, int gsi, const struct msi_msg *m)
{
	struct fake_vmevent *f = fake_of(v);

	if (!spend(&f->sets_left))
		return done(f, -EINVAL);
	if (!is_msi(f, gsi))
		return done(f, -EINVAL);
	f->msi_set[gsi] = true;
	f->msi[gsi] = *m;
	f->msi_sets++;
	return done(f, 0);
}

static int irq_attach(struct vmevent *v, int gsi, int fd)
{
	struct fake_vmevent *f = fake_of(v);
	struct fake_irqfd *slot = NULL;

	if (!spend(&f->attaches_left))
		return done(f, -ENOSPC);
	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		if (!f->irqfd[i].used)
			slot = slot ? slot : &f->irqfd[i];
		else if (f->irqfd[i].fd == fd) {
			f->misuse++;
			return done(f, -EBUSY);
		}
	}
	if (!slot)
		return done(f, -ENOSPC);
	if (gsi < 0 || gsi >= FAKE_GSIS || (gsi >= FAKE_FIRST_MSI && !f->msi_set[gsi])) {
		f->misuse++;
		return done(f, -EINVAL);
	}
	*slot = (struct fake_irqfd){.used = true, .gsi = gsi, .fd = fd, .stale = take(fd)};
	if (slot->stale)
		f->injected[gsi]++;
	give(fd, slot->stale);
	return done(f, 0);
}

static unsigned pump(struct fake_vmevent *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		struct fake_irqfd *q = &f->irqfd[i];
		uint64_t count = q->used ? take(q->fd) : 0;

		if (count > q->stale) {
			f->injected[q->gsi]++;
			q->stale = 0;
			n++;
		} else {
			give(q->fd, count);
		}
	}
	return n;
}

static void irq_detach(struct vmevent *v, int gsi, int fd)
{
	struct fake_vmevent *f = fake_of(v);
	bool found = false;

	pump(f); /* an irqfd takes what is written at once */
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (f->irqfd[i].used && f->irqfd[i].fd == fd && f->irqfd[i].gsi == gsi) {
			f->irqfd[i].used = false;
			take(fd);
			found = true;
		}
	f->misuse += !found;
	done(f, 0);
}

static int irq_line(struct vmevent *v, int gsi, bool level)
{
	struct fake_vmevent *f = fake_of(v);

	if (gsi < 0 || gsi >= FAKE_FIRST_MSI) {
		f->misuse++;
		return done(f, -EINVAL);
	}
	f->lines++;
	f->injected[gsi] += level && !f->level[gsi];
	f->level[gsi] = level;
	return done(f, 0);
}

static int msi_send(struct vmevent *v, const struct msi_msg *m)
{
	struct fake_vmevent *f = fake_of(v);

	f->sent++;
	f->last_sent = *m;
	return done(f, 0);
}

void fake_vmevent_init(struct fake_vmevent *f)
{
	static const struct vmevent_ops ops = {
		.doorbell_add = doorbell_add,
		.doorbell_del = doorbell_del,
		.msi_alloc = msi_alloc,
		.msi_free = msi_free,
		.msi_set = msi_set,
		.irq_attach = irq_attach,
		.irq_detach = irq_detach,
		.irq_line = irq_line,
		.msi_send = msi_send,
	};

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	f->event.ops = &ops;
	f->doorbells_left = f->msis_left = f->attaches_left = f->sets_left = -1;
}

void fake_vmevent_fini(struct fake_vmevent *f)
{
	pthread_mutex_destroy(&f->lock);
}

bool fake_vmevent_ring(struct fake_vmevent *f, bool pio, uint64_t addr, unsigned len, uint64_t value)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_SLOTS && fd < 0; i++) {
		const struct fake_doorbell *b = &f->doorbell[i];

		if (b->used && b->at.pio == pio && b->at.addr == addr && (!b->at.len || b->at.len == len) &&
		    (b->at.match < 0 || (uint64_t)b->at.match == value))
			fd = b->fd;
	}
	give(fd, fd >= 0);
	pthread_mutex_unlock(&f->lock);
	return fd >= 0;
}

unsigned fake_vmevent_pump(struct fake_vmevent *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = pump(f);
	pthread_mutex_unlock(&f->lock);
	return n;
}

unsigned fake_vmevent_doorbells(struct fake_vmevent *f)
{
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		n += f->doorbell[i].used;
	pthread_mutex_unlock(&f->lock);
	return n;
}

unsigned fake_vmevent_irqfds(struct fake_vmevent *f)
{
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		n += f->irqfd[i].used;
	pthread_mutex_unlock(&f->lock);
	return n;
}

unsigned fake_vmevent_msis(struct fake_vmevent *f)
{
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_GSIS; i++)
		n += f->msi_used[i];
	pthread_mutex_unlock(&f->lock);
	return n;
}

int fake_vmevent_gsi_of(struct fake_vmevent *f, int fd)
{
	int gsi = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (f->irqfd[i].used && f->irqfd[i].fd == fd)
			gsi = f->irqfd[i].gsi;
	pthread_mutex_unlock(&f->lock);
	return gsi;
}
