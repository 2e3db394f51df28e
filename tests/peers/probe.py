#!/usr/bin/python3
# A vhost-user front end that only asks. Prints what a back end offers, a line each.
# usage: probe.py connect|listen SOCK [net|blk|fs [QUIRK]]
#   QUIRK: a number; does instead what a careless front end does, and tells how that is taken
import os
import select
import socket
import struct
import sys
import time

FEATURES = {
    "net": "CSUM GUEST_CSUM CTRL_GUEST_OFFLOADS MTU . MAC GSO GUEST_TSO4 GUEST_TSO6 GUEST_ECN GUEST_UFO HOST_TSO4 HOST_TSO6"
    " HOST_ECN HOST_UFO MRG_RXBUF STATUS CTRL_VQ CTRL_RX CTRL_VLAN CTRL_RX_EXTRA GUEST_ANNOUNCE MQ CTRL_MAC_ADDR",
    "blk": "BARRIER SIZE_MAX SEG_MAX . GEOMETRY RO BLK_SIZE SCSI . FLUSH TOPOLOGY CONFIG_WCE MQ DISCARD WRITE_ZEROES",
    "fs": "NOTIFICATION",
}
COMMON = {24: "NOTIFY_ON_EMPTY", 26: "LOG_ALL", 27: "ANY_LAYOUT", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 30: "PROTOCOL_FEATURES",
          32: "VERSION_1", 33: "ACCESS_PLATFORM", 34: "RING_PACKED", 35: "IN_ORDER", 36: "ORDER_PLATFORM", 37: "SR_IOV",
          38: "NOTIFICATION_DATA", 40: "RING_RESET", 41: "ADMIN_VQ", 55: "GUEST_USO6?", 56: "HOST_USO", 57: "HASH_REPORT",
          59: "GUEST_HDRLEN", 60: "RSS", 63: "STANDBY"}
PROTOCOL = ("MQ LOG_SHMFD RARP REPLY_ACK MTU BACKEND_REQ CROSS_ENDIAN CRYPTO_SESSION PAGEFAULT CONFIG BACKEND_SEND_FD HOST_NOTIFIER"
            " INFLIGHT_SHMFD RESET_DEVICE INBAND_NOTIFICATIONS CONFIGURE_MEM_SLOTS STATUS XEN_MMAP SHARED_OBJECT DEVICE_STATE").split()
GET_FEATURES, SET_FEATURES, SET_OWNER, GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES = 1, 2, 3, 15, 16, 17
GET_CONFIG, GET_INFLIGHT, GET_SLOTS, GET_STATUS, GET_VRING_BASE, SET_VRING_ENABLE = 24, 31, 36, 40, 11, 18
PF = 1 << 30


class Gone(Exception):
    pass


class Peer:
    def __init__(self, sock):
        self.sock = sock
        self.need_reply = 0

    def send(self, request, payload=b""):
        self.sock.sendall(struct.pack("=III", request, 1 | self.need_reply, len(payload)) + payload)

    def receive(self, size, seconds):
        data = b""
        while len(data) < size:
            if not select.select([self.sock], [], [], seconds)[0]:
                raise TimeoutError
            try:
                part, _, _, _ = socket.recv_fds(self.sock, size - len(data), 8)
            except ConnectionError:
                raise Gone from None
            if not part:
                raise Gone
            data += part
        return data

    def ask(self, request, payload=b"", seconds=2):
        try:
            self.send(request, payload)
        except OSError:
            raise Gone from None
        _, _, size = struct.unpack("=III", self.receive(12, seconds))
        return self.receive(size, seconds)

    def u64(self, request, payload=b""):
        return struct.unpack("=Q", self.ask(request, payload)[:8])[0]


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Gone:
        return "closes the connection"
    except TimeoutError:
        return "no answer"
    except OSError:
        return "closes the connection"


def bits(value, name):
    return " ".join(name(i) for i in range(64) if value >> i & 1) or "none"


def features_of(kind):
    own = FEATURES.get(kind, "").split()
    return lambda i: COMMON.get(i) or (own[i] if i < len(own) else "bit%d" % i)


def config_of(kind, data):
    if kind == "blk":
        capacity, size_max, seg_max = struct.unpack_from("<QII", data)
        blk_size, = struct.unpack_from("<I", data, 20)
        queues, = struct.unpack_from("<H", data, 34)
        return "capacity=%d size_max=%d seg_max=%d blk_size=%d num_queues=%d" % (capacity, size_max, seg_max, blk_size, queues)
    if kind == "fs":
        return "tag=%s num_request_queues=%d" % (data[:36].rstrip(b"\0").decode(), *struct.unpack_from("<I", data, 36))
    return data.hex()


def offers(peer, kind):
    features = peer.u64(GET_FEATURES)
    print("features 0x%x: %s" % (features, bits(features, features_of(kind))))
    if not features & PF:
        return
    protocol = peer.u64(GET_PROTOCOL)
    print("protocol 0x%x: %s" % (protocol, bits(protocol, lambda i: PROTOCOL[i] if i < len(PROTOCOL) else "bit%d" % i)))
    peer.send(SET_OWNER)
    # Those that the probe understands: none that changes what a message is answered with.
    peer.send(SET_PROTOCOL, struct.pack("=Q", protocol & ~(1 << 3 | 1 << 5 | 1 << 14)))
    if protocol & 1:
        print("queues: %s" % outcome(peer.u64, GET_QUEUES))
    if protocol >> 15 & 1:
        print("memory slots: %s" % outcome(peer.u64, GET_SLOTS))
    if protocol >> 16 & 1:
        print("status: %s" % outcome(peer.u64, GET_STATUS))
    if protocol >> 9 & 1:
        size = {"blk": 60, "fs": 40, "net": 12}[kind]
        answer = outcome(peer.ask, GET_CONFIG, struct.pack("=III", 0, size, 0) + bytes(size))
        if isinstance(answer, bytes):
            answer = config_of(kind, answer[12:]) if len(answer) >= 12 + size else "refused (%d bytes)" % len(answer)
        print("config: %s" % answer)


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return Peer(sock)


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    if os.path.exists(path):
        os.unlink(path)
    server.bind(path)
    server.listen(1)
    server.settimeout(20)
    try:
        return Peer(server.accept()[0])
    finally:
        server.close()
        os.unlink(path)


def second(peer):
    peer.u64(GET_FEATURES)
    other = connect(peer.sock.getpeername())
    try:
        return other.u64(GET_FEATURES)
    finally:
        other.sock.close()


def fine(peer):
    return peer.u64(GET_FEATURES)


def owner(peer):
    peer.send(SET_OWNER)


def vring_base(queue):
    return lambda peer: peer.ask(GET_VRING_BASE, struct.pack("=II", queue, 0))


def half(peer):
    peer.sock.sendall(b"\1\0\0\0\1\0")


def rest(peer):
    time.sleep(0.2)
    peer.sock.sendall(bytes(6))
    return peer.receive(20, 2)


# What is done, and in what steps; the last one's result is told.
QUIRKS = [
    ("a second connection beside the first", second),
    ("a second connection, the first gone", fine),
    ("connect and close", lambda peer: "done"),
    ("unknown request 99, then GET_FEATURES", lambda peer: peer.send(99, bytes(8)), fine),
    ("GET_VRING_BASE of a queue that never ran", owner, vring_base(0)),
    ("GET_VRING_BASE of queue 200", owner, vring_base(200)),
    ("SET_VRING_ENABLE first, then GET_FEATURES", lambda peer: peer.send(SET_VRING_ENABLE, struct.pack("=II", 0, 1)), fine),
    ("half a header, then close", half, lambda peer: "done"),
    ("GET_FEATURES in two pieces", half, rest),
    ("4096 bytes of payload too many, then GET_FEATURES", lambda peer: peer.send(SET_FEATURES, bytes(4104)), fine),
]


def quirk(path, what, *steps):
    peer = connect(path)
    result = outcome(lambda: [step(peer) for step in steps][-1])
    peer.sock.close()
    time.sleep(0.3)
    print("%s: %s" % (what, result if isinstance(result, str) else "answers"))


def main():
    role, path = sys.argv[1:3]
    kind = sys.argv[3] if len(sys.argv) > 3 else "net"
    if len(sys.argv) > 4:
        quirk(path, *QUIRKS[int(sys.argv[4])])
        return
    peer = listen(path) if role == "listen" else connect(path)
    try:
        offers(peer, kind)
    except Gone:
        sys.exit("probe: the back end closed the connection")
    except TimeoutError:
        sys.exit("probe: the back end does not answer")
    peer.sock.close()


main()
