#!/usr/bin/env python3
"""Ringlet and QEMU as front ends to the same back end, in turn, with the same bare guest at native speed: medians of paired ratios.

usage: peers.py [--rounds N] [--seconds S] [--only NAME,...] [--no-counts] [--side NAME=BINARY]...

  tx-64 tx-1518       frames of so many bytes (with their checksum) to DPDK's testpmd, as many as the ring takes
  loop-64 loop-1518   ... which it sends back, 64 on the way at a time
  echo-64             one at a time: latency
  read-32 read-1      4 KiB random reads from QEMU's storage daemon, so many at a time

The back end is on the last processor, monitor and guest on the first.  Counts are from runs of their own, by perf, a
frame or read each; "irq" are runs of a driver that waits for interrupts.
"""
import argparse
import os
import statistics
import tempfile

import paths

CASES = {
    "tx-64": ("tx", 60, 64), "tx-1518": ("tx", 1514, 64),
    "loop-64": ("loop", 60, 64), "loop-1518": ("loop", 1514, 64), "echo-64": ("loop", 60, 1),
    "read-32": ("read", 0, 32), "read-1": ("read", 0, 1),
}


def peer(what, work):
    sock = f"{work}/{what}.sock"
    if what == "read":
        with open(f"{work}/disk", "wb") as f:
            f.write(os.urandom(64 << 20))
        return paths.Peer(f"peer_qsd_vhost_blk {sock} {work}/disk", sock, cpu=paths.LAST_CPU), sock
    return paths.Peer(f"peer_testpmd_vhost {sock} server 1 {'rxonly' if what == 'tx' else 'io'}", sock), sock


def argv(side, what, sock, append):
    if side == "qemu":
        return paths.qemu(paths.qemu_disk(sock) if what == "read" else paths.qemu_net(sock), append)
    return paths.ringlet(["-d" if what == "read" else "-n", f"vhost-user,path={sock}"], append, binary=side)


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=15)
    ap.add_argument("--seconds", type=float, default=0.5)
    ap.add_argument("--only", default=",".join(CASES))
    ap.add_argument("--side", action="append", default=[])
    ap.add_argument("--no-counts", action="store_true")
    a = ap.parse_args()
    sides = {"ringlet": None} | dict(s.split("=", 1) for s in a.side) | {"qemu": "qemu"}
    print("| case | side | a second | us each | / qemu: median (quartiles; min-max) | rounds |\n|---|---|---|---|---|---|")
    counts = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        for case in a.only.split(","):
            what, length, window = CASES[case]
            back_end, sock = peer(what, work)
            with back_end:
                rows = {s: [] for s in sides}
                for i in range(a.rounds + 1):
                    order = list(sides.items())
                    now = {}
                    for name, side in order if i % 2 else order[::-1]:
                        append = paths.workload(what, length, window, a.seconds)
                        now[name] = paths.run(argv(side, what, sock, append), cpu=0)
                    paths.same_features(now.values())
                    if i and all(now.values()):  # the first round warms up
                        for name in sides:
                            rows[name].append(now[name])
                for name in sides:
                    rate = [r["a second"] for r in rows[name]]
                    if not rate:
                        continue
                    rel = paths.ratio(rate, [r["a second"] for r in rows["qemu"]]) if name != "qemu" else ""
                    print(f"| {case} | {name} | {paths.number(statistics.median(rate))} "
                          f"| {statistics.median(r['us'] for r in rows[name]):.3g} | {rel} | {len(rate)} |", flush=True)
                if a.no_counts:
                    continue
                for irq in (False, True):
                    for name, side in sides.items():
                        append = paths.workload(what, length, window, 1, hold=1, irq=irq)
                        r = paths.run(argv(side, what, sock, append), cpu=0, count=(1, 1, [back_end.pid]))
                        if r:
                            counts.append(f"| {case}{' irq' if irq else ''} | {name} | {paths.counts_row(r)} |")
    if counts:
        print("\n" + paths.counts_head("each", "side"))
        print("\n".join(counts))


if __name__ == "__main__":
    main()
