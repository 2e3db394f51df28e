#!/usr/bin/env python3
"""Waits for a card to announce itself by RARP, and says so.  usage: rarp.py IFNAME MAC SECONDS"""
import socket
import sys

RARP = 0x8035
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(RARP))
s.bind((sys.argv[1], RARP))
s.settimeout(float(sys.argv[3]))
card = bytes.fromhex(sys.argv[2].replace(":", ""))
print("listening", flush=True)
try:
    while True:
        frame = s.recvfrom(65536)[0]
        # operation 3, request reverse; sender's and target's hardware addresses
        if frame[6:12] == card and frame[20:22] == b"\0\x03" and frame[22:28] == card and frame[32:38] == card:
            break
except TimeoutError:
    sys.exit(f"rarp: nothing from {sys.argv[2]} within {sys.argv[3]} s")
print(f"rarp: {sys.argv[2]} has announced itself")
