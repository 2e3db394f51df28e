#!/usr/bin/env python3
"""Devices driven by bare guests in ring 3, which run at native speed wherever there is a /dev/kvm: Ringlet
beside QEMU, sides in turn in one run.  What is told is the median of paired ratios, Ringlet to QEMU.

usage: native.py [--rounds N] [--seconds S] [--only NAME,...] [--side NAME=BINARY]...

  blk-32 blk-1   4 KiB random reads of a file in a tmpfs, so many at a time
  null-32        the same of a file that is a hole in a tmpfs
  tx-64 tx-1500  frames of so many bytes (with their checksum) into a tap, as many as it takes
  echo           a frame through a tap to the guest and back, one at a time

--side adds another Ringlet, to compare two builds.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", os.path.join(TOP, "build"))
TAP = "rlbench0"


def tsc_hz():
    """Cycles a second, by a guest's own clock and ours."""
    with open("/proc/cpuinfo") as f:
        return float(re.search(r"cpu MHz\s*:\s*([\d.]+)", f.read())[1]) * 1e6


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True)


class Bench:
    def __init__(self, a, work):
        self.cycles = int(a.seconds * tsc_hz() / 1e6)
        self.files = {"blk": os.path.join(work, "disk.img"), "null": os.path.join(work, "hole.img")}
        with open(self.files["blk"], "wb") as f:
            for _ in range(64):
                f.write(os.urandom(1 << 22))
        with open(self.files["null"], "wb") as f:
            f.truncate(1 << 28)
        self.seconds = a.seconds

    def qemu(self, guest, append, extra):
        return ["qemu-system-x86_64", "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "64", "-smp", "1",
                "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0x5f0,iosize=4", "-kernel", guest,
                "-append", append + " config=port"] + extra

    def argv(self, case, binary):
        """binary: None is QEMU."""
        what, _, n = case.partition("-")
        if what in ("blk", "null"):
            guest, append = f"{BUILD}/bench/bare_blk.elf", f"depth={n} mcycles={self.cycles}"
            extra = ["-d", self.files[what]] if binary else [
                "-object", "iothread,id=io", "-drive",
                f"if=none,id=d,file={self.files[what]},format=raw,aio=io_uring,cache.direct=off",
                "-device", "virtio-blk-pci,drive=d,iothread=io,disable-legacy=on"]
        else:
            guest = f"{BUILD}/bench/bare_net.elf"
            append = f"what={what} mcycles={self.cycles}" + (f" len={int(n) - 4}" if n else "")
            extra = ["-n", f"tap,ifname={TAP}"] if binary else [
                "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
                "-device", "virtio-net-pci,netdev=n,disable-legacy=on"]
        if binary:
            return [binary, "run", "-k", guest, "-m", "64M", "--timeout", "60s", "-a", append] + extra
        return self.qemu(guest, append, extra)

    def once(self, case, binary):
        """Units a second and kicks each, or None: it got no processor."""
        argv = self.argv(case, binary)
        if case == "echo":
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            while (line := p.stdout.readline()) and "ready" not in line:
                pass
            out = run(f"{BUILD}/bench/frames", "ping", TAP, str(self.seconds * 0.7)).stdout
            _, err = p.communicate(timeout=60)
            m = re.search(r"done (\d+) ns (\d+) median (\d+)", out)
            if not m:
                raise SystemExit(f"{case}: {' '.join(argv)}: {out}{err}")
            if int(m[1]) < 10:
                return None
            return 1e9 / int(m[3]), 0
        p = run(*argv)
        m = re.search(r"done (\d+) cycles (\d+) kicks (\d+)", p.stdout)
        if not m:
            raise SystemExit(f"{case}: {' '.join(argv)}: {p.stdout}{p.stderr}")
        if int(m[1]) == 0:
            return None
        return int(m[1]) / int(m[2]) * tsc_hz(), int(m[3]) / int(m[1])


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=15)
    ap.add_argument("--seconds", type=float, default=0.7)
    ap.add_argument("--only", default="blk-32,blk-1,null-32,tx-64,tx-1500,echo")
    ap.add_argument("--side", action="append", default=[])
    ap.add_argument("--no-qemu", action="store_true")
    a = ap.parse_args()
    sides = {"ringlet": f"{BUILD}/ringlet"} | dict(s.split("=", 1) for s in a.side)
    if not a.no_qemu:
        sides["qemu"] = None
    base = list(sides)[-1]
    names = [n for n in a.only.split(",") if n]
    if any(n.startswith(("tx", "echo")) for n in names):
        run("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
        with open(f"/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6", "w") as f:
            f.write("1")
        if run("ip", "link", "set", TAP, "up").returncode:
            sys.exit("no tap can be made here")
    print(f"| case | side | a second | kicks each | / {base}: median (quartiles; min-max) | rounds |")
    print("|---|---|---|---|---|---|")
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
            b = Bench(a, work)
            for case in names:
                got = {s: [] for s in sides}
                for i in range(a.rounds + 1):
                    order = list(sides.items())
                    now = {s: b.once(case, binary) for s, binary in (order if i % 2 else order[::-1])}
                    if i and all(now.values()):  # the first round warms up
                        for s in sides:
                            got[s].append(now[s])
                for s in sides:
                    ratio = sorted(x[0] / y[0] for x, y in zip(got[s], got[base]))
                    q = statistics.quantiles(ratio, n=4) if len(ratio) > 1 else ratio * 3
                    rel = f"{q[1]:.2f} ({q[0]:.2f}-{q[2]:.2f}; {ratio[0]:.2f}-{ratio[-1]:.2f})" if s != base else ""
                    print(f"| {case} | {s} | {statistics.median(x[0] for x in got[s]):.0f} "
                          f"| {statistics.median(x[1] for x in got[s]):.3f} | {rel} | {len(ratio)} |", flush=True)
    finally:
        run("ip", "link", "del", TAP)


if __name__ == "__main__":
    main()
