#!/usr/bin/env python3
"""Numbered frames of all lengths out of an interface, to a card whose owner swaps the addresses and sends them back: each must
come back once, and as it was.  usage: frames.py IFNAME MAC COUNT [LONGEST]      LONGEST: with its header, default 1514"""
import random
import select
import socket
import struct
import sys
import time

ALL, PLAIN, IPV4 = 3, 0x88B5, 0x0800
WINDOW = 48  # less than a ring or a tap's queue holds, so that nothing is dropped
MARK = b"ringlet!"
PATIENCE = 30


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def make(number, length, run):
    """Every other one as UDP with a port of its own, so that they take all queues."""
    head = b""
    if number % 2:
        fields = [0x45, 0, length - 14, number & 0xFFFF, 0, 8, 17, 0, b"\x0a\x09\0\x01", b"\x0a\x09\0\x02"]
        fields[7] = checksum(struct.pack("!BBHHHBBH4s4s", *fields))
        head = struct.pack("!BBHHHBBH4s4s", *fields)
        head += struct.pack("!HHHH", 1024 + number % 1000, 9, length - 34, 0)
    body = MARK + struct.pack("!QI", run, number)
    rest = length - 14 - len(head) - len(body)
    return struct.pack("!H", IPV4 if head else PLAIN) + head + body + random.Random(number).randbytes(rest)


def number_of(frame, run):
    at = 42 if frame[12:14] == b"\x08\0" else 14
    if frame[at : at + 8] != MARK or struct.unpack("!Q", frame[at + 8 : at + 16])[0] != run:
        return None
    return struct.unpack("!I", frame[at + 16 : at + 20])[0]


def main():
    name, card, count = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), int(sys.argv[3])
    longest = int(sys.argv[4]) if len(sys.argv) > 4 else 1514
    run = time.monotonic_ns()
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    s.bind((name, ALL))
    mine = s.getsockname()[4]
    away, sent, back, octets, last = {}, 0, 0, 0, time.monotonic()
    while back < count:
        while sent < count and len(away) < WINDOW:
            frame = make(sent, 62 + sent * 37 % (longest - 61), run)
            away[sent] = frame
            s.send(card + mine + frame)
            sent += 1
        if not select.select([s], [], [], 1)[0]:
            if time.monotonic() - last > PATIENCE:
                sys.exit(f"frames: {name}: {sent} sent, {back} back; {sorted(away)[:8]} are not")
            continue
        frame, address = s.recvfrom(65536)
        number = None if address[2] == socket.PACKET_OUTGOING else number_of(frame, run)
        if number is None:
            continue
        if number not in away:
            sys.exit(f"frames: {name}: frame {number} came twice")
        if frame != mine + card + away.pop(number):
            sys.exit(f"frames: {name}: frame {number} of {len(frame)} octets has come back as another")
        back += 1
        octets += len(frame)
        last = time.monotonic()
    print(f"frames: {name}: {back} of up to {longest} octets came back, {octets} octets")


main()
