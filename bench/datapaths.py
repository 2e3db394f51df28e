#!/usr/bin/env python3
"""The datapaths beside each other: the same bare guest, the same feature bits, the paths in turn; medians of paired ratios
to this process.  What this machine's kernel lacks is left out, and said: all of it is there in the lab.

usage: datapaths.py [--rounds N] [--seconds S] [--only NAME,...] [--no-counts]

  tx-64 tx-1518     frames of so many bytes (with their checksum), as many as the ring takes: into a tap, where the kernel
                    drops them, by this process and by vhost-net; to DPDK's testpmd by vhost-user
  loop-64 echo-64   64 and one at a time, there and back: the tap's are sent back by the kernel, testpmd sends its own back
  read-32 read-1    4 KiB random reads, so many at a time, of the same file in a tmpfs: by this process; by QEMU's storage
                    daemon as vhost-user and as vDPA (VDUSE)

The vCPU is on the first processor, who serves it on the last.  Counts are from runs of their own, by a driver that waits
for interrupts, a frame or read each.
"""
import argparse
import contextlib
import os
import statistics
import tempfile

import paths

CASES = {
    "tx-64": ("tx", 60, 64), "tx-1518": ("tx", 1514, 64), "loop-64": ("loop", 60, 64), "echo-64": ("loop", 60, 1),
    "read-32": ("read", 0, 32), "read-1": ("read", 0, 1),
}
TAP = "rlpath0"


class Path:
    """device: what Ringlet is given; pids: of the back end; others: where Ringlet's other threads are."""

    def __init__(self, device, pids=(), others=paths.LAST_CPU):
        self.device, self.pids, self.others = device, pids, others


def net(stack, work, what):
    sock = f"{work}/{what}.sock"
    tap = stack.enter_context(paths.Tap(TAP))
    if what == "loop":
        tap.send_back()
    yield "this process", Path(["-n", f"tap,ifname={TAP}"])
    if os.path.exists("/dev/vhost-net"):
        yield "vhost-net", Path(["-n", f"tap,ifname={TAP},vhost=on"])
    else:
        print("# no /dev/vhost-net here: no vhost-net")
    peer = stack.enter_context(
        paths.Peer(f"peer_testpmd_vhost {sock} server 1 {'rxonly' if what == 'tx' else 'io'}", sock))
    # testpmd's processor is full.
    yield "vhost-user", Path(["-n", f"vhost-user,path={sock}"], [peer.pid], others=0)


def disk(stack, work, _):
    image, sock = f"{work}/disk", f"{work}/blk.sock"
    with open(image, "wb") as f:
        f.write(os.urandom(64 << 20))
    yield "this process", Path(["-d", image])
    shared = image + ",locking=off"
    peer = stack.enter_context(paths.Peer(f"peer_qsd_vhost_blk {sock} {shared}", sock, cpu=paths.LAST_CPU))
    yield "vhost-user", Path(["-d", f"vhost-user,path={sock}"], [peer.pid], others=0)
    if os.path.exists("/dev/vduse/control"):
        peer = stack.enter_context(paths.Peer(f"peer_qsd_vduse rlpath {shared}", "rlpath", cpu=paths.LAST_CPU,
                                              tell="$(peers_vdpa rlpath)"))
        yield "vDPA", Path(["-d", f"vdpa,path={peer.words[1]}"], [peer.pid], others=0)
    else:
        print("# no /dev/vduse/control here: no vDPA")


def once(path, append, count=None):
    # In turn means that nobody else has the file: the daemons do not lock it, and Ringlet's lock goes with it.
    return paths.run(paths.ringlet(path.device, append), others=path.others, count=count)


def measure(case, a, work, counts):
    what, length, window = CASES[case]
    with contextlib.ExitStack() as stack:
        # A tap has one user at a time, so no two guests run at once.
        sides = dict((disk if what == "read" else net)(stack, work, what))
        rows = {s: [] for s in sides}
        for i in range(a.rounds + 1):
            order = list(sides.items())
            now = {name: once(path, paths.workload(what, length, window, a.seconds))
                   for name, path in (order if i % 2 else order[::-1])}
            paths.same_features(now.values())
            if i and all(now.values()):  # the first round warms up
                for name in sides:
                    rows[name].append(now[name])
        base = [r["a second"] for r in rows["this process"]]
        for name in sides:
            rate = [r["a second"] for r in rows[name]]
            if not rate:
                continue
            rel = paths.ratio(rate, base) if name != "this process" else ""
            print(f"| {case} | {name} | {paths.number(statistics.median(rate))} "
                  f"| {statistics.median(r['us'] for r in rows[name]):.3g} | {rel} | {len(rate)} |", flush=True)
        if a.no_counts:
            return
        for name, path in sides.items():
            r = once(path, paths.workload(what, length, window, 1, hold=1, irq=True), count=(1, 1, path.pids))
            if r:
                counts.append(f"| {case} | {name} | {paths.counts_row(r)} |")


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=15)
    ap.add_argument("--seconds", type=float, default=0.5)
    ap.add_argument("--only", default=",".join(CASES))
    ap.add_argument("--no-counts", action="store_true")
    a = ap.parse_args()
    for module in ("vhost_net", "vduse", "vhost_vdpa", "cls_u32", "act_mirred", "sch_ingress"):
        paths.module(module)
    print("| case | path | a second | us each | / this process: median (quartiles; min-max) | rounds |\n"
          "|---|---|---|---|---|---|")
    counts = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as work:
        for case in a.only.split(","):
            measure(case, a, work, counts)
    if counts:
        print("\n" + paths.counts_head("each", "path"))
        print("\n".join(counts))


if __name__ == "__main__":
    main()
