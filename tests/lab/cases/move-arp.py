#!/usr/bin/env python3
"""Prints the announcements (ARP from an address about itself) that come in at interfaces: interface, MAC, address.
usage: move-arp.py IFNAME..."""
import ctypes
import select
import socket
import struct
import sys

ETH_P_ALL, ETH_P_ARP = 3, 0x0806
SO_ATTACH_FILTER = 26

# Without it every frame of a stream would wake this up: load the type, is it ARP, take all, take nothing.
code = b"".join(struct.pack("HBBI", *i) for i in ((0x28, 0, 0, 12), (0x15, 0, 1, ETH_P_ARP), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)))
instructions = ctypes.create_string_buffer(code)
only_arp = struct.pack("HL", len(code) // 8, ctypes.addressof(instructions))

ports = {}
for name in sys.argv[1:]:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, only_arp)
    s.bind((name, ETH_P_ALL))
    ports[s] = name
print("watching", flush=True)
while True:
    for s in select.select(list(ports), [], [])[0]:
        try:
            frame, address = s.recvfrom(2048)
        except OSError:  # the interface is down for a moment
            continue
        sender, target = frame[28:32], frame[38:42]
        if address[2] != socket.PACKET_OUTGOING and sender == target:
            print(ports[s], frame[22:28].hex(":"), socket.inet_ntoa(sender), flush=True)
