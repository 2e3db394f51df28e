#!/usr/bin/python3
# The smallest vhost-user front end that reads a disk: one ring, one request. Writes what was read to stdout.
# usage: read_blk.py SOCK OFFSET BYTES [no-enable]      OFFSET: a multiple of 512
#   no-enable: leaves SET_VRING_ENABLE out, to see what a back end makes of that
import mmap
import os
import select
import socket
import struct
import sys

SIZE = 8  # of the ring
DESC, AVAIL, USED, HEADER, DATA = 0, 0x1000, 0x2000, 0x3000, 0x10000
path, offset, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
length = DATA + count + 4096
gpa = 1 << 32  # so that a mix-up with offsets or virtual addresses shows
hva = 1 << 44

memory_fd = os.memfd_create("guest")
os.ftruncate(memory_fd, length)
memory = mmap.mmap(memory_fd, length)
kick, call = os.eventfd(0), os.eventfd(0)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(5)
sock.connect(path)


def send(request, payload=b"", *fds):
    socket.send_fds(sock, [struct.pack("=III", request, 1, len(payload)) + payload], list(fds))


def ask(request):
    send(request)
    sock.recv(12, socket.MSG_WAITALL)
    return struct.unpack("=Q", sock.recv(8, socket.MSG_WAITALL))[0]


features = ask(1)
send(16, struct.pack("=Q", ask(15) & 1 << 9))  # CONFIG, for what libvhost-user thinks of a blk without
send(3)
send(2, struct.pack("=Q", features & (1 << 32 | 1 << 30)))
send(5, struct.pack("=IIQQQQ", 1, 0, gpa, length, hva, 0), memory_fd)
send(8, struct.pack("=II", 0, SIZE))
send(10, struct.pack("=II", 0, 0))
send(9, struct.pack("=IIQQQQ", 0, 0, hva + DESC, hva + USED, hva + AVAIL, 0))
send(13, struct.pack("=Q", 0), call)
send(12, struct.pack("=Q", 0), kick)
if "no-enable" not in sys.argv:
    send(18, struct.pack("=II", 0, 1))

struct.pack_into("<IIQ", memory, HEADER, 0, 0, offset // 512)
memory[DATA + count] = 0xff
for i, (address, size, flags) in enumerate(((HEADER, 16, 1), (DATA, count, 3), (DATA + count, 1, 2))):
    struct.pack_into("<QIHH", memory, DESC + 16 * i, gpa + address, size, flags, i + 1)
struct.pack_into("<HHH", memory, AVAIL, 0, 1, 0)
os.eventfd_write(kick, 1)
used = 0
while used == 0:  # a back end may interrupt for nothing
    if not select.select([call], [], [], 5)[0]:
        sys.exit("read_blk: nothing used within 5 s")
    os.eventfd_read(call)
    used, = struct.unpack_from("<H", memory, USED + 2)
head, written = struct.unpack_from("<II", memory, USED + 4)
if (used, head) != (1, 0) or memory[DATA + count] != 0:
    sys.exit("read_blk: used index %d, head %d, %d bytes, status %d" % (used, head, written, memory[DATA + count]))
sys.stdout.buffer.write(memory[DATA:DATA + count])
