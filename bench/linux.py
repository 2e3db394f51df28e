#!/usr/bin/env python3
"""A Linux guest's network and disk: Ringlet beside QEMU's q35 with vhost=off, an iothread and io_uring; sides in turn.
Where KVM runs Linux, as root: tests/lab/lab exec bench/linux.py ...

usage: linux.py [--rounds N] [--seconds S] [--side NAME=BINARY]... [--kernel NAME]

One vCPU, one queue, a tap, a file in a tmpfs.  What is told is the median of paired ratios to QEMU.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TAP = "rlbench0"


def must(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def initrd(work, kernel, seconds):
    """The kernel's initramfs, and behind it what its init is to run."""
    script = f"exec >/dev/ttyS0 2>&1\nseconds={seconds}\n"  # init would have it on the second port
    for part in ("tests/lab/guest/prelude.sh", "bench/linux_guest.sh"):
        with open(os.path.join(TOP, part)) as f:
            script += f.read()
    os.makedirs(f"{work}/more/ringlet")
    with open(f"{work}/more/ringlet/command", "w") as f:
        f.write("\0".join(["sh", "-c", script]) + "\0")
    more = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=b".\nringlet\nringlet/command\n",
                          cwd=f"{work}/more", capture_output=True, check=True).stdout
    with open(f"{TOP}/build/guest/{kernel}/initramfs.cpio", "rb") as f:
        whole = f.read()
    with open(f"{work}/initrd", "wb") as f:
        f.write(whole + more)
    return f"{work}/initrd"


def argv(binary, kernel, image, work):
    tools = f"{TOP}/build/guest/tools.img"
    boot = [f"{TOP}/build/guest/{kernel}/vmlinuz", image]
    if binary:
        return [binary, "run", "-m", "256M", "-c", "1", "-k", boot[0], "-i", boot[1], "--timeout", "280s",
                "-d", tools + ",ro", "-d", f"{work}/disk", "-n", f"tap,ifname={TAP}"]
    # romfile=: no boot over the network.
    return ["qemu-system-x86_64", "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M", "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-device", "isa-debug-exit,iobase=0x5f0,iosize=4",
            "-kernel", boot[0], "-initrd", boot[1], "-append", "console=ttyS0 panic=-1 quiet",
            "-object", "iothread,id=io",
            "-drive", f"if=none,id=t,file={tools},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=t",
            "-drive", f"if=none,id=d,file={work}/disk,format=raw,aio=io_uring,cache.direct=off",
            "-device", "virtio-blk-pci,drive=d,iothread=io",
            "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
            "-device", "virtio-net-pci,netdev=n,romfile="]


def once(args):
    server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)  # one each: a guest that dies keeps it busy
    try:
        p = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        out = (p.stdout + p.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired as e:
        out = (e.stdout or b"").decode(errors="replace")
    finally:
        server.kill()
        server.wait()
    got = {k: float(v) for k, v in re.findall(r"bench (\S+) ([\d.]+)", out)}
    if "read1-iops" not in got:
        sys.stderr.write(out[-3000:])
    return got


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=int, default=3)
    ap.add_argument("--side", action="append", default=[])
    ap.add_argument("--kernel", default="6.12-cloud")
    ap.add_argument("--limit", type=float, default=1e9, help="seconds after which no round is begun")
    a = ap.parse_args()
    sides = dict(s.split("=", 1) for s in a.side) or {"ringlet": f"{TOP}/build/ringlet"}
    sides["qemu"] = None
    started = time.monotonic()
    must("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
    must("ip", "addr", "add", "10.9.0.1/24", "dev", TAP)
    must("ip", "link", "set", TAP, "up")
    rows = {s: [] for s in sides}
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") as work:
            image = initrd(work, a.kernel, a.seconds)
            with open(f"{work}/disk", "wb") as f:
                f.write(os.urandom(64 << 20))
            for i in range(a.rounds):
                if time.monotonic() - started > a.limit:
                    break
                for s, binary in sides.items():
                    rows[s].append(once(argv(binary, a.kernel, image, work)))
                    print(f"# round {i} {s}: {rows[s][-1]}", flush=True)
    finally:
        subprocess.run(["ip", "link", "del", TAP])
    print("\n| measured | side | median | / qemu: median (min-max) | rounds |\n|---|---|---|---|---|")
    for k in max(rows["qemu"], key=len):
        for s in sides:
            pairs = [(x[k], y[k]) for x, y in zip(rows[s], rows["qemu"]) if x.get(k) and y.get(k)]
            if not pairs:
                continue
            ratio = [x / y for x, y in pairs]
            rel = f"{statistics.median(ratio):.2f} ({min(ratio):.2f}-{max(ratio):.2f})" if s != "qemu" else ""
            print(f"| {k} | {s} | {statistics.median(x for x, _ in pairs):.3g} | {rel} | {len(pairs)} |")


if __name__ == "__main__":
    main()
