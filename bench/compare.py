#!/usr/bin/env python3
"""Ringlet beside QEMU: sides run in turn, and what is told is the median of paired ratios.

usage: compare.py start|boot|memory [--rounds N] [--kernel F] [--initrd F] [--out F.json]

  start   CPU and wall time from exec to the first KVM_RUN, by a preloaded library
  boot    exec to guest init, the whole kernel log on the serial console; exits to user space counted
          by the kernel's kvm_userspace_exit tracepoint (needs KVM at speed, root, tracefs)
  memory  private memory besides guest RAM once the guest is up
"""
import argparse
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRACE = "/sys/kernel/tracing/events/kvm/kvm_userspace_exit"


def sides(a):
    """name -> argv.  One vCPU, 256 MiB, the serial console on stdout."""
    append = "console=ttyS0 panic=-1"
    # The path QEMU's package installs; no other devices than each machine type brings by itself.
    qemu = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256M", "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-device", "isa-debug-exit,iobase=0x5f0,iosize=4",
            "-kernel", a.kernel, "-initrd", a.initrd, "-append", append]
    ringlet = [os.path.join(TOP, "build/ringlet"), "run", "-m", "256M", "-c", "1"]
    # A kernel of a few KiB that ends the VM at once: what is left when there is nothing to load.
    empty = os.path.join(TOP, "build/bare/debug_exit.elf")
    ringlet_empty = ringlet + ["-k", empty]
    ringlet += ["-k", a.kernel, "-i", a.initrd]
    more = {"ringlet, empty kernel": ringlet_empty} if a.what == "start" else {}
    return more | {
        "ringlet": ringlet,
        "ringlet --unpack off": ringlet + ["--unpack", "off"],
        "qemu microvm": qemu + ["-M", "microvm"],
        "qemu q35": qemu + ["-M", "q35"],
    }


def version(argv):
    out = subprocess.run([argv[0], "--version"], capture_output=True, text=True).stdout
    return out.splitlines()[0] if out else "?"


def start_once(argv):
    with tempfile.NamedTemporaryFile() as f:
        env = dict(os.environ, LD_PRELOAD=os.path.join(TOP, "build/bench/first_run.so"),
                   FIRST_RUN_OUT=f.name, FIRST_RUN_START=str(time.monotonic_ns()))
        subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)
        text = f.read().decode().split()
    if len(text) != 2:
        raise SystemExit(f"no KVM_RUN seen: {' '.join(argv)}")
    return {"cpu ms": int(text[0]) / 1e6, "wall ms": int(text[1]) / 1e6}


def tracing():
    if not os.path.exists(TRACE):
        subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"])
    if not os.path.exists(TRACE):
        raise SystemExit(f"{TRACE} is missing: run as root on a kernel with KVM's tracepoints")


def hist(write=None):
    if write is not None:
        with open(TRACE + "/trigger", "w") as f:
            f.write(write)
        return None
    with open(TRACE + "/hist") as f:
        return {int(r): int(n) for r, n in re.findall(r"reason:\s*(\d+)[^}]*}\s*hitcount:\s*(\d+)", f.read())}


def boot_once(argv):
    try:
        hist("!hist:keys=reason")
    except OSError:
        pass
    hist("hist:keys=reason")
    started = time.monotonic()
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    took = time.monotonic() - started
    exits = hist()
    hist("!hist:keys=reason")
    if b"Run /init as init process" not in p.stdout:
        sys.stderr.write(p.stdout[-2000:].decode(errors="replace") + p.stderr.decode(errors="replace"))
        raise SystemExit(f"init was not reached: {' '.join(argv)}")
    # Signals and the like (KVM_EXIT_INTR) are the host's doing, not the guest's.
    return {"s": took, "exits": sum(n for r, n in exits.items() if r != 10),
            "console bytes": len(p.stdout)}


def memory_once(argv):
    """Private_Clean + Private_Dirty of everything but guest RAM, when init runs."""
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen = b""
    limit = time.monotonic() + 240
    while b"as init process" not in seen:
        ready, _, _ = select.select([p.stdout], [], [], 1)
        if ready:
            seen += os.read(p.stdout.fileno(), 65536)
        if time.monotonic() > limit or p.poll() is not None:
            p.kill()
            raise SystemExit(f"init was not reached: {' '.join(argv)}")
    total, skip = 0, False
    with open(f"/proc/{p.pid}/smaps") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)", line)
            if m:
                size = int(m[2], 16) - int(m[1], 16)
                # Guest RAM: Ringlet's memfd, or QEMU's one anonymous mapping of just that size.
                skip = "ringlet-ram" in m[3] or (not m[3] and size == 256 << 20)
            elif not skip and line.startswith("Private_Dirty"):
                total += int(line.split()[1])
    p.kill()
    p.wait()
    return {"private MiB": total / 1024}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("what", choices=["start", "boot", "memory"])
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--kernel", default=os.path.join(TOP, "build/guest/6.12-cloud/vmlinuz"))
    ap.add_argument("--initrd", default=os.path.join(TOP, "build/bench/initramfs.cpio"))
    ap.add_argument("--out")
    a = ap.parse_args()
    if a.what == "memory":  # a guest that stays: the shell's initramfs
        a.initrd = a.initrd.replace("build/bench", "build/guest/6.12-cloud")
    once = {"start": start_once, "boot": boot_once, "memory": memory_once}[a.what]
    if a.what == "boot":
        tracing()
    rows = {name: [] for name in sides(a)}
    for i in range(a.rounds + 1):
        for name, argv in sides(a).items():
            r = once(argv)
            if i or a.rounds == 1:  # the first round warms the page cache
                rows[name].append(r)
            print(f"# round {i} {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in r.items()), flush=True)
    print(f"\n{a.what}: kernel {os.path.basename(os.path.dirname(a.kernel))}, "
          f"{os.path.getsize(a.kernel) / 1048576:.1f} MiB; {len(rows['ringlet'])} rounds in turn; "
          f"{version(sides(a)['qemu q35'])}\n")
    peers = [name for name in rows if name.startswith("qemu")]
    for k in rows["ringlet"][0]:
        print(f"| {k} | median | " + " | ".join(f"/ {p}: median (min-max)" for p in peers) + " |")
        print("|---|---|" + "---|" * len(peers))
        for name, rs in rows.items():
            cells = []
            for p in peers:
                ratios = [r[k] / o[k] for r, o in zip(rs, rows[p]) if o[k]]
                cells.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
                             if name != p and ratios else "")
            print(f"| {name} | {statistics.median(r[k] for r in rs):.2f} | " + " | ".join(cells) + " |")
        print()
    if a.out:
        with open(a.out, "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
