#!/usr/bin/env python3
"""A Linux guest's network by vhost-net: Ringlet beside QEMU's q35 with vhost=on, on the same tap; sides in turn.
Where KVM runs Linux, as root: tests/lab/lab exec bench/vhost.py ...

usage: vhost.py [--rounds N] [--seconds S] [--limit S] [--side NAME=BINARY]... [--kernel NAME]

One vCPU, one queue pair.  TCP by iperf3 both ways, ping.  What is told is the median of paired ratios to QEMU.  Bits
that only one of the two drivers has are told.

Guest memory has a part in it: the pages of QEMU's memfd are small unless the host's shmem_enabled says otherwise, ours and anonymous memory have
huge ones.  Ringlet shares its memory by default, QEMU does not, so both are run both ways.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import linux
import paths

# What Ringlet's card does not offer by default because not all datapaths serve it.
QEMU_OFF = "disable-legacy=on,romfile=,ctrl_guest_offloads=off,guest_ufo=off,host_ufo=off,queue_reset=off"


def initrd(work, kernel, seconds):
    """As linux.initrd(), with another script."""
    script = f"exec >/dev/ttyS0 2>&1\nseconds={seconds}\n"
    for part in ("tests/lab/guest/prelude.sh", "bench/vhost_guest.sh"):
        with open(os.path.join(linux.TOP, part)) as f:
            script += f.read()
    os.makedirs(f"{work}/more/ringlet")
    with open(f"{work}/more/ringlet/command", "w") as f:
        f.write("\0".join(["sh", "-c", script]) + "\0")
    more = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=b".\nringlet\nringlet/command\n",
                          cwd=f"{work}/more", capture_output=True, check=True).stdout
    with open(f"{linux.TOP}/build/guest/{kernel}/initramfs.cpio", "rb") as f:
        whole = f.read()
    with open(f"{work}/initrd", "wb") as f:
        f.write(whole + more)
    return f"{work}/initrd"


def argv(binary, kernel, image, shared=True):
    boot = f"{linux.TOP}/build/guest/{kernel}/vmlinuz"
    tools = f"{linux.TOP}/build/guest/tools.img"
    if binary:
        return [binary, "run", "-m", "256M" if shared else "256M,share=off", "-c", "1", "-k", boot, "-i", image, "--timeout", "200s",
                "-d", tools + ",ro", "-n", f"tap,ifname={linux.TAP},vhost=on"]
    memory = ["-M", "q35"]
    if shared:
        memory = ["-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-M", "q35,memory-backend=mem"]
    return ["qemu-system-x86_64", *memory, "-accel", "kvm", "-cpu", "host", "-m", "256M", "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-device", "isa-debug-exit,iobase=0x5f0,iosize=4",
            "-kernel", boot, "-initrd", image, "-append", "console=ttyS0 panic=-1 quiet",
            "-drive", f"if=none,id=t,file={tools},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=t",
            "-netdev", f"tap,id=n,ifname={linux.TAP},script=no,downscript=no,vhost=on",
            "-device", f"virtio-net-pci,netdev=n,{QEMU_OFF}"]


def once(args):
    server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    try:
        p = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=220)
        out = (p.stdout + p.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired as e:
        out = (e.stdout or b"").decode(errors="replace")
    finally:
        server.kill()
        server.wait()
    got = {k: float(v) for k, v in re.findall(r"bench (\S+) ([\d.]+)", out)}
    m = re.search(r"features ([01]{64})", out)
    if "end" not in got or not m:
        sys.stderr.write(out[-3000:])
        return {}
    got.pop("end")
    got["features"] = {i for i, c in enumerate(m[1]) if c == "1"}
    return got


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=int, default=4)
    ap.add_argument("--side", action="append", default=[])
    ap.add_argument("--kernel", default="6.12-cloud")
    ap.add_argument("--limit", type=float, default=1e9, help="seconds after which no round is begun")
    a = ap.parse_args()
    ours = f"{paths.BUILD}/ringlet"
    sides = {"ringlet": (ours, True), "ringlet share=off": (ours, False)}
    sides |= {name: (binary, True) for name, binary in (s.split("=", 1) for s in a.side)}
    sides |= {"qemu share=on": (None, True), "qemu": (None, False)}
    started = time.monotonic()
    paths.module("vhost_net")
    linux.must("ip", "tuntap", "add", "dev", linux.TAP, "mode", "tap", "vnet_hdr")
    linux.must("ip", "addr", "add", "10.9.0.1/24", "dev", linux.TAP)
    linux.must("ip", "link", "set", linux.TAP, "up")
    rows = {s: [] for s in sides}
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") as work:
            image = initrd(work, a.kernel, a.seconds)
            for i in range(a.rounds):
                if time.monotonic() - started > a.limit:
                    break
                order = list(sides.items())
                for s, (binary, shared) in order if i % 2 else order[::-1]:
                    rows[s].append(once(argv(binary, a.kernel, image, shared)))
                    print(f"# round {i} {s}: " + ", ".join(f"{k} {v:g}" for k, v in rows[s][-1].items()
                                                           if k != "features"), flush=True)
    finally:
        subprocess.run(["ip", "link", "del", linux.TAP])
    bits = {s: next((r.pop("features") for r in rows[s] if "features" in r), set()) for s in sides}
    for s in sides:
        if bits[s] != bits["qemu"]:
            print(f"# feature bits only {s} has: {sorted(bits[s] - bits['qemu'])}; only qemu: {sorted(bits['qemu'] - bits[s])}")
    print("\n| measured | side | median | / qemu with such memory: median (quartiles; min-max) | rounds |\n|---|---|---|---|---|")
    for k in [k for k in max(rows["qemu"], key=len) if k != "features"]:
        for s, (_, shared) in sides.items():
            beside = rows["qemu share=on" if shared else "qemu"]
            pairs = [(x[k], y[k]) for x, y in zip(rows[s], beside) if x.get(k) and y.get(k)]
            if pairs:
                rel = paths.ratio(*zip(*pairs)) if beside is not rows[s] else ""
                print(f"| {k} | {s} | {statistics.median(x for x, _ in pairs):.4g} | {rel} | {len(pairs)} |")


if __name__ == "__main__":
    main()
