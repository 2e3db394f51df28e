/* The console device: the talk about ports, text out, and what is typed comes in. */
#include <linux/virtio_console.h>

#include "lib/virtio.h"

#define TEXT  "hello from the console device\n"
#define LINES 200
#define IN    6000 /* bytes, as run.sh types them */

enum { RX, TX, CONTROL_RX, CONTROL_TX };

static struct vdev console;
static struct vq *vq[4];

struct message {
	struct virtio_console_control control;
	uint8_t rest[64];
};

static void control(uint16_t event, uint16_t value)
{
	struct virtio_console_control *c = alloc(sizeof(*c), 64);

	*c = (struct virtio_console_control){.id = 0, .event = event, .value = value};
	vq_do(vq[CONTROL_TX], &(struct seg){(uint64_t)c, sizeof(*c), false}, 1);
}

/* The next control message, whose buffer goes back. */
static struct virtio_console_control heard(void)
{
	struct virtio_console_control c = {0};
	struct message *m;
	uint32_t len = 0;

	if (!vq_wait(vq[CONTROL_RX]))
		finish();
	m = vq_get(vq[CONTROL_RX], &len);
	CHECK(len >= sizeof(c));
	c = m->control;
	REQUIRE(vq_add(vq[CONTROL_RX], &(struct seg){(uint64_t)m, sizeof(*m), true}, 1, m));
	vq_kick(vq[CONTROL_RX]);
	return c;
}

static void open_port(void)
{
	bool is_console = false, opened = false;

	control(VIRTIO_CONSOLE_DEVICE_READY, 1);
	CHECK_EQ(heard().event, VIRTIO_CONSOLE_PORT_ADD);
	control(VIRTIO_CONSOLE_PORT_READY, 1);
	while (!is_console || !opened) {
		struct virtio_console_control c = heard();

		CHECK_EQ(c.id, 0);
		is_console |= c.event == VIRTIO_CONSOLE_CONSOLE_PORT;
		opened |= c.event == VIRTIO_CONSOLE_PORT_OPEN && c.value == 1;
	}
	control(VIRTIO_CONSOLE_PORT_OPEN, 1);
}

static void write_lines(void)
{
	char *line = alloc(64, 64);

	for (unsigned i = 0; i < LINES; i++) {
		for (unsigned k = 0; k < sizeof(TEXT); k++)
			line[k] = TEXT[k];
		vq_do(vq[TX],
		      (struct seg[]){{(uint64_t)line, 7, false}, {(uint64_t)line + 7, sizeof(TEXT) - 8, false}},
		      2);
	}
}

/* Eight buffers of odd size, again and again */
static void read_input(void)
{
	unsigned got = 0;

	for (unsigned i = 0; i < 8; i++) {
		uint8_t *p = alloc(101, 64);

		REQUIRE(vq_add(vq[RX], &(struct seg){(uint64_t)p, 101, true}, 1, p));
	}
	vq_kick(vq[RX]);
	print("ready\n");
	while (got < IN) {
		uint32_t len;
		uint8_t *p;

		if (!vq_wait(vq[RX]))
			finish();
		p = vq_get(vq[RX], &len);
		CHECK(len && len <= 101);
		for (unsigned i = 0; i < len; i++, got++)
			if (p[i] != 65 + got % 23) {
				FAIL("byte %u of the input is 0x%x", got, p[i]);
				finish();
			}
		REQUIRE(vq_add(vq[RX], &(struct seg){(uint64_t)p, 101, true}, 1, p));
		vq_kick(vq[RX]);
	}
}

int main(void)
{
	vdev_open(&console, VIRTIO_ID_CONSOLE, 0);
	vdev_begin(&console, BIT(VIRTIO_CONSOLE_F_MULTIPORT));
	REQUIRE(vdev_has(&console, VIRTIO_CONSOLE_F_MULTIPORT));
	for (unsigned q = 0; q < 4; q++)
		vq[q] = vq_new(&console, q, 0);
	for (unsigned i = 0; i < 8; i++) {
		struct message *m = alloc(sizeof(*m), 64);

		REQUIRE(vq_add(vq[CONTROL_RX], &(struct seg){(uint64_t)m, sizeof(*m), true}, 1, m));
	}
	vdev_driver_ok(&console);
	vq_kick(vq[CONTROL_RX]);
	open_port();
	write_lines();
	if (option("input", 0))
		read_input();
	return 0;
}
