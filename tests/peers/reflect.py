#!/usr/bin/env python3
"""Sends every frame of type 0x88b5 that comes out of an interface back into it.  usage: reflect.py IFNAME"""
import socket
import sys

TYPE = 0x88B5
SO_RCVBUFFORCE = 33

s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(TYPE))
s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
s.bind((sys.argv[1], TYPE))
print("reflecting", flush=True)
while True:
    try:
        frame, address = s.recvfrom(65536)
        if address[2] != socket.PACKET_OUTGOING:
            s.send(frame)
    except OSError:  # the interface is down for a moment
        pass
