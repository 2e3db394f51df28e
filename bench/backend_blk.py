#!/usr/bin/env python3
"""`ringlet backend blk` and qemu-storage-daemon, in turn, with the same small front end (backend_blk.c): medians of paired ratios.

usage: BUILD=build backend_blk.py [--rounds N] [--seconds S] [--only NAME,...] [--backend 'COMMAND...'] [--poll]

  null-read null-write        ours: a disk of memory; QEMU's: null-co, which holds nothing, zeroes what is read and drops writes
  memory-read memory-write    ours: a disk of memory; QEMU's: a file in /dev/shm
  tmpfs-read tmpfs-write      both: a file in /dev/shm
  cache-read cache-write      a file in the page cache; QEMU: aio=io_uring
  direct-read direct-write    past it
  ...-1                       one at a time, by a driver that sleeps; else 32 by one that polls
  --poll                      ours polls too, in rows of its own
  --other 'COMMAND...'        another one of ours, likewise; as often as there are others

The back end is on the last processor, the front end on the first.  Same features for both; with our in-flight buffer,
which QEMU's daemon has not (its protocol feature is not the driver's).  us: processor time of the back end a request.
best: the rate at the best tenth of all milliseconds, which is when nobody else has one of the two processors.  Ratios are
of a round's own two runs: median (quartiles).
"""
import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD", "build")
LAST = os.cpu_count() - 1
SIZE = 128 << 20
DISKS = ("null", "memory", "tmpfs", "cache", "direct")
CASES = {f"{d}-{op}{n}": (d, op, 1 if n else 32) for d in DISKS for op in ("read", "write") for n in ("", "-1")}


def front_end():
    out = f"{BUILD}/bench/backend_blk"
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["make", "-s", "--no-print-directory", f"BUILD={BUILD}", f"{BUILD}/libringlet.a", f"{BUILD}/libfakes.a"],
                   check=True)
    subprocess.run(["gcc", "-I.", "-D_GNU_SOURCE", "-std=c17", "-O2", "-g", "-Wall", "-Wextra", "-pthread", "-o", out,
                    "bench/backend_blk.c", f"{BUILD}/libfakes.a", f"{BUILD}/libringlet.a", "-luring", "-lslirp", "-ljansson",
                    "-lzstd", "-llzma", "-llz4", "-lz"], check=True)
    return out


def ours(command, sock, disk, file, poll):
    memory = f"memory,size={SIZE >> 20}M"
    what = {"null": memory, "memory": memory, "direct": f"{file},direct"}.get(disk, file)
    return command + [sock + (",poll" if poll else ""), what]


def qemus(sock, disk, file):
    if disk == "null":
        node = f"null-co,node-name=d,size={SIZE},read-zeroes=on"
    else:
        node = f"file,node-name=d,filename={file}"
        if disk in ("cache", "direct"):
            node += ",aio=io_uring"
        if disk == "direct":
            node += ",cache.direct=on"
    return ["qemu-storage-daemon", "--blockdev", node, "--export",
            f"vhost-user-blk,id=x,node-name=d,writable=on,addr.type=unix,addr.path={sock}"]


def cpu_time(pid):
    """Of all its threads, in seconds."""
    ns = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            ns += int(f.read().split()[0])
    return ns / 1e9


def run(argv, sock, args):
    """One run: a second, us of the back end's processor each, kicks each, features."""
    back_end = subprocess.Popen(["taskset", "-c", str(LAST)] + argv, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not os.path.exists(sock):
            if back_end.poll() is not None or time.monotonic() > end:
                sys.exit(f"does not start: {' '.join(argv)}")
            time.sleep(0.02)
        front = subprocess.Popen(["taskset", "-c", "0"] + args, stdout=subprocess.PIPE, text=True)
        if "begin" not in front.stdout.readline():
            sys.exit(f"no front end for: {' '.join(argv)}")
        before = cpu_time(back_end.pid)
        line = front.stdout.readline()
        used = cpu_time(back_end.pid) - before
        front.wait()
        m = re.match(r"done (\d+) ns (\d+) kicks (\d+) features (\w+) best (\d+)", line)
        if not m or front.returncode:
            sys.exit(f"it ended early, with: {' '.join(argv)}")
        done, ns, kicks = (int(m[i]) for i in (1, 2, 3))
        return {"a second": done * 1e9 / ns, "us": used * 1e6 / done, "kicks": kicks / done, "features": m[4], "best": int(m[5])}
    finally:
        back_end.send_signal(signal.SIGTERM)
        try:
            back_end.wait(10)
        except subprocess.TimeoutExpired:
            back_end.kill()
            back_end.wait()
        if os.path.exists(sock):
            os.unlink(sock)


def ratios(of):
    low, middle, high = statistics.quantiles(of, n=4) if len(of) > 1 else of * 3
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=9)
    ap.add_argument("--seconds", type=float, default=1)
    ap.add_argument("--only", default=",".join(CASES))
    ap.add_argument("--backend", default=f"{BUILD}/ringlet backend blk")
    ap.add_argument("--dir", default="/var/tmp", help="where files that are not in memory are")
    ap.add_argument("--poll", action="store_true")
    ap.add_argument("--other", action="append", default=[])
    a = ap.parse_args()
    front = front_end()
    print("| case | side | a second | best | us of back end each | kicks each | / qemu | best / qemu | us / qemu | rounds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in a.only.split(","):
        disk, op, depth = CASES[case]
        with tempfile.TemporaryDirectory(dir=a.dir if disk in ("cache", "direct") else "/dev/shm") as work:
            sock, file = f"{work}/s", f"{work}/disk"
            with open(file, "wb") as f:
                for _ in range(SIZE >> 20):
                    f.write(os.urandom(1 << 20))
                f.flush()
                os.fsync(f.fileno())
            args = [front, sock, f"depth={depth}", f"write={int(op == 'write')}", f"ms={int(a.seconds * 1000)}",
                    f"irq={int(depth == 1)}"]
            sides = {"ringlet": ours(a.backend.split(), sock, disk, file, False)}
            if a.poll:
                sides["ringlet, polling"] = ours(a.backend.split(), sock, disk, file, True)
            for i, other in enumerate(a.other):
                sides[f"ringlet, other {i + 1}"] = ours(other.split(), sock, disk, file, False)
            sides["qemu"] = qemus(sock, disk, file)
            rows = {s: [] for s in sides}
            for i in range(a.rounds):
                for name in list(sides)[::1 if i % 2 else -1]:
                    rows[name].append(run(sides[name], sock, args))
            if len({r["features"] for side in rows.values() for r in side}) > 1:
                sys.exit(f"{case}: not the same features: { {s: r[0]['features'] for s, r in rows.items()} }")
            for name in sides:
                col = {k: statistics.median(r[k] for r in rows[name]) for k in ("a second", "best", "us", "kicks")}
                told = [ratios([r[k] / q[k] for r, q in zip(rows[name], rows["qemu"])]) if name != "qemu" else ""
                        for k in ("a second", "best", "us")]
                print(f"| {case} | {name} | {col['a second']:,.0f} | {col['best']:,.0f} | {col['us']:.2f} | {col['kicks']:.3f} | "
                      f"{' | '.join(told)} | {a.rounds} |", flush=True)


if __name__ == "__main__":
    main()
