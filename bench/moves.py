#!/usr/bin/env python3
"""How long a live change takes: a bare guest under load, its device moved there and back again and again.

usage: moves.py [--moves N] [--only disk,net] [--every S]

  disk   a file in this process, and QEMU's storage daemon by vhost-user; the guest reads 4 KiB, 8 at a time
  net    a tap in this process, which sends back what it gets, and DPDK's testpmd by vhost-user, which does so too; 8 frames on
         the way

--moves is both ways together.  "stood still" and "nobody served it" is what ringlet ctl says; "longest gap" is what the
guest has seen: the longest time without anything done, of all its time.
"""
import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

import paths

RINGLET = f"{paths.BUILD}/ringlet"
TAP = "rlpath0"
GUEST_SECONDS = 10


def disk(stack, work):
    image, sock = f"{work}/disk", f"{work}/blk.sock"
    with open(image, "wb") as f:
        f.write(os.urandom(64 << 20))
    stack.enter_context(paths.Peer(f"peer_qsd_vhost_blk {sock} {image},locking=off", sock, cpu=paths.LAST_CPU))
    return "disk0", "read", ["-d", image], [f"vhost-user,path={sock}", image]


def net(stack, work):
    sock = f"{work}/net.sock"
    stack.enter_context(paths.Tap(TAP)).send_back()
    stack.enter_context(paths.Peer(f"peer_testpmd_vhost {sock} server 1 io", sock))
    return "net0", "loop", ["-n", f"tap,ifname={TAP}"], [f"vhost-user,path={sock}", f"tap,ifname={TAP}"]


def one_guest(work, device, what, options, targets, left, every):
    """Moves it until its time is nearly over: (who, ms stood still, ms without service) each, longest gap in ms, frames lost."""
    control = f"{work}/control"
    append = paths.workload(what, 60, 8, seconds=GUEST_SECONDS)
    p = subprocess.Popen(paths.ringlet(options, append, more=["--control", control]), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    try:
        text = p.stdout.readline()
        end = time.monotonic() + GUEST_SECONDS - 1
        seen = []
        while len(seen) < left and time.monotonic() < end or len(seen) % 2:
            who = targets[len(seen) % 2]
            time.sleep(every)
            out = subprocess.run([RINGLET, "ctl", control, "datapath", device, who], capture_output=True, text=True)
            m = re.search(r"stood still for (\d+) us, nobody served it for (\d+)", out.stdout)
            if out.returncode or not m:
                raise SystemExit(f"{device} to {who}: {out.stdout}{out.stderr}")
            seen.append((who.split(",")[0], int(m[1]) / 1e3, int(m[2]) / 1e3))
        text += p.stdout.read()
        p.wait()
    finally:
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            p.wait()
    m = re.search(r"done (\d+) cycles \d+ kicks \d+ irqs \d+ lost (\d+) gap (\d+)", text)
    if not m or not int(m[1]):
        raise SystemExit(f"the guest did not work on: {text}")
    return seen, int(m[3]) / paths.tsc_hz() * 1e3, int(m[2])


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--moves", type=int, default=200)
    ap.add_argument("--only", default="disk,net")
    ap.add_argument("--every", type=float, default=0.05)
    a = ap.parse_args()
    print("| device | to | moves | vCPUs stood still, ms: median | 99 of 100 | worst | nobody served it, ms: median | 99 of 100 | worst |\n"
          "|---|---|---|---|---|---|---|---|---|")
    for name in a.only.split(","):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as work, contextlib.ExitStack() as stack:
            device, what, options, targets = {"disk": disk, "net": net}[name](stack, work)
            seen, gaps, lost = [], [], 0
            while len(seen) < a.moves:
                more, gap, gone = one_guest(work, device, what, options, targets, a.moves - len(seen), a.every)
                seen += more
                gaps.append(gap)
                lost += gone
            for who in dict.fromkeys(s[0] for s in seen):
                cells = []
                for i in (1, 2):
                    v = sorted(s[i] for s in seen if s[0] == who)
                    cells += [statistics.median(v), v[min(len(v) - 1, int(len(v) * 0.99))], v[-1]]
                label = who if who == "vhost-user" else "this process"
                print(f"| {device} | {label} | {len(v)} | " + " | ".join(f"{c:.2f}" for c in cells) + " |", flush=True)
            print(f"# {device}: longest gap that a guest saw, ms: " + ", ".join(f"{g:.1f}" for g in gaps) +
                  (f"; frames lost: {lost}" if device == "net0" else ""), flush=True)


if __name__ == "__main__":
    main()
