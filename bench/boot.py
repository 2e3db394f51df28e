#!/usr/bin/env python3
"""exec to exit of a guest that runs "true", with the small kernel: Ringlet beside QEMU; sides in turn.
Where KVM runs Linux, as root: tests/lab/lab exec bench/boot.py ...

usage: boot.py [--rounds N] [--only SIDE,...] [--side NAME=BINARY]... [--arg=OPTION]... [--ringlet F] [--list] [--no-exits] [--out F.json]

  ringlet          ringlet run -k vmlinux -i INITRD -- true        as it is: the kernel's whole log on a console
  ringlet quiet    with the words that virtme-ng adds: quiet loglevel=1
  ringlet private  quiet, and memory that is not shared (-m 512M,share=off)
  microvm          virtme-ng's recipe (vng -r bzImage -- true): its machine, devices, ports and kernel command line
  microvm log      the same with the whole log on the console, as with --show-boot-console
  microvm least    nothing that can be left out: no watchdog, no ports, vmlinux by PVH, ended by isa-debug-exit
  q35              virtme-ng's recipe without microvm
  ringlet root     ringlet run -k vmlinux --root / -- true          what a host directory as root costs

--side adds another Ringlet with the --arg options, to compare two builds or options ("same" is the first one's binary):
--side=x=same --arg=-a --arg="quiet panic_print=0x20"

The same for all: kernel, initramfs (busybox), 512 MiB, one vCPU, wall clock around fork, exec and wait.  virtme-ng's root is left out, as a
host directory takes a daemon; instead all boot an initramfs, Ringlet's with its own init and QEMU's with bench/boot_init.c, which
does the same.  Memory of QEMU is private, which is the faster for it.
"cpu" is of the monitor, in user space (without the guest) and in the kernel.  Exits to user space are counted in the round before the first.
"""
import argparse
import json
import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import compare
import paths

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUEST = os.path.join(TOP, "build/guest/small")
MEMORY = "512M"
QUIET = "quiet loglevel=1"
VIRTIOFSD = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"]
MADV_POPULATE_WRITE = 23
TICK = os.sysconf("SC_CLK_TCK")


def archive(work, name, init):
    """A cpio with busybox, as bin/true as well, and an init where there is one."""
    root = os.path.join(work, name)
    os.makedirs(f"{root}/bin")
    busybox = shutil.which("busybox") or sys.exit("busybox is missing; run: sudo apt-get install busybox-static")
    shutil.copy(busybox, f"{root}/bin/busybox")
    for applet in ("sh", "true"):
        os.symlink("busybox", f"{root}/bin/{applet}")
    for d in ("dev", "proc", "sys", "run", "tmp"):
        os.mkdir(f"{root}/{d}")
    if init:
        shutil.copy(init, f"{root}/init")
    names = subprocess.run(["find", ".", "-mindepth", "1"], cwd=root, capture_output=True, check=True).stdout
    with open(f"{work}/{name}.cpio", "wb") as f:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=names, cwd=root, stdout=f, check=True)
    return f"{work}/{name}.cpio"


def make_init(work):
    out = f"{work}/init"
    subprocess.run(["musl-gcc", "-std=gnu17", "-static", "-Os", "-s", "-idirafter", "/usr/include", "-idirafter",
                    "/usr/include/x86_64-linux-gnu", "-o", out, f"{TOP}/bench/boot_init.c"], check=True)
    return out


def port(kind, name, chardev):
    """What virtme-ng's add_serial_port() adds: a device for each."""
    ident = re.search(r"id=(\w+)", chardev)[1]
    return ["-chardev", chardev, "-device", f"virtio-serial-{kind}", "-device", f"virtserialport,name={name},chardev={ident}"]


def recipe(machine, initrd, work, log):
    """virtme-ng 1.41+, virtme/commands/run.py and architectures.py: what "vng -r bzImage -- true" gives QEMU."""
    kind = "device" if machine == "microvm" else "pci"
    qemu = ["qemu-system-x86_64", "-m", MEMORY]
    if machine == "microvm":
        qemu += ["-M", "microvm,accel=kvm,pcie=on,rtc=on"]
    else:
        qemu += ["-M", "q35,accel=kvm"]
    qemu += ["-device", "i6300esb,id=watchdog0", "-cpu", "host,topoext=on", "-parallel", "none", "-net", "none",
             "-vga", "none", "-display", "none", "-serial", "chardev:console",
             "-chardev", "file,id=console,path=" + ("/proc/self/fd/2" if log else "/dev/null")]
    qemu += port(kind, "virtme.stdin", "stdio,id=stdin,signal=on,mux=off")
    for name, fd in (("stdout", 1), ("stderr", 2), ("dev_stdout", 1), ("dev_stderr", 2)):
        qemu += port(kind, f"virtme.{name}", f"file,id={name},path=/proc/self/fd/{fd}")
    qemu += port(kind, "virtme.ret", f"file,id=ret,path={work}/ret")
    words = ["virtme_console=ttyS0", "console=ttyS0", "earlyprintk=serial,ttyS0,115200"]
    words += [] if log else ["quiet", "loglevel=0"]
    words += ["panic=-1"] + ([] if log else QUIET.split()) + ["--", "true"]
    return qemu + ["-smp", "1", "-no-reboot", "-kernel", f"{GUEST}/bzImage", "-initrd", initrd, "-append", " ".join(words)]


def least(initrd):
    return ["qemu-system-x86_64", "-m", MEMORY, "-M", "microvm,accel=kvm", "-cpu", "host", "-smp", "1", "-nodefaults",
            "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-device", "isa-debug-exit,iobase=0x5f0,iosize=4", "-kernel", f"{GUEST}/vmlinux", "-initrd", initrd,
            "-append", f"console=ttyS0 panic=-1 {QUIET} bench_end=port -- true"]


def usage(binary):
    text = subprocess.run([binary, "run", "--help"], capture_output=True, text=True)
    return text.stdout + text.stderr


def root_missing(binary):
    """Why there can be no --root here, or None."""
    if "--root" not in usage(binary):
        return f"{binary} knows no --root"
    if not any(os.access(p, os.X_OK) for p in VIRTIOFSD) and not shutil.which("virtiofsd"):
        return "there is no virtiofsd; run: sudo apt-get install qemu-system-common"
    return None


def all_sides(a, work):
    """name -> (argv, what its status is when all is well)."""
    init = make_init(work)
    ours, theirs = archive(work, "ours", None), archive(work, "theirs", init)

    def ringlet(binary, *options, memory=MEMORY, initrd=("-i", ours)):
        result = ("--result", f"{work}/result") if "--result" in usage(binary) else ()
        return [binary, "run", "-m", memory, "-c", "1", "-k", f"{GUEST}/vmlinux", *initrd, "--timeout", "200s",
                f"--stats={work}/stats", *result, *options, "--", "true"], 0

    sides = {
        "ringlet": ringlet(a.ringlet),
        "ringlet quiet": ringlet(a.ringlet, "-a", QUIET),
        "ringlet private": ringlet(a.ringlet, "-a", QUIET, memory=MEMORY + ",share=off"),
    }
    for s in a.side:
        name, binary = s.split("=", 1)
        sides[name] = ringlet(a.ringlet if binary == "same" else binary, *a.arg)
    sides |= {
        "microvm": (recipe("microvm", theirs, work, False), 0),
        "microvm log": (recipe("microvm", theirs, work, True), 0),
        "microvm least": (least(theirs), 1),  # isa-debug-exit makes 2 * status + 1 of it
        "q35": (recipe("q35", theirs, work, False), 0),
    }
    if why := root_missing(a.ringlet):
        print(f"# ringlet root: NOT MEASURED: {why}")
    else:
        sides["ringlet root"] = ringlet(a.ringlet, "-a", QUIET, "--root", "/", initrd=())
    return sides


def scrub():
    """Writes to the pages that the guest before has left.  An emulator that runs all this keeps what it made of that guest's code, and lets
    whoever gets such a page next pay for throwing it away."""
    child = os.fork()
    if child == 0:
        for advice in (mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE):
            m = mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            m.madvise(advice)
            m.madvise(MADV_POPULATE_WRITE)
        os._exit(0)
    os.waitpid(child, 0)


def once(name, argv, good, work):
    scrub()
    for f in ("ret", "stats", "result"):
        try:
            os.unlink(f"{work}/{f}")
        except FileNotFoundError:
            pass
    with open(f"{work}/out", "w+b") as out:
        started = time.monotonic_ns()
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
        took = time.monotonic_ns() - started
        with open(f"/proc/{p.pid}/stat") as f:  # of all its threads; the guest's time is in the user's
            field = f.read().rpartition(")")[2].split()
        p.wait()
        out.seek(0)
        said = out.read()
    user, system, guest = (int(field[i]) / TICK * 1e3 for i in (11, 12, 40))
    status = None
    if os.path.exists(f"{work}/ret"):
        with open(f"{work}/ret") as f:
            status = f.read().strip()
    if p.returncode != good or status not in (None, "0", ""):
        tail = said[-3000:].decode(errors="replace")
        raise SystemExit(f"{name}: status {p.returncode}, the guest's {status}: {' '.join(argv)}\n{tail}")
    if status == "":  # the machine was off before the port's bytes were taken; virtme-ng says 255 then
        print(f"# {name}: the guest's status was lost on its way", flush=True)
    row = {"ms": took / 1e6, "cpu user ms": user - guest, "cpu kernel ms": system}
    if os.path.exists(f"{work}/stats"):
        with open(f"{work}/stats") as f:
            stats = json.load(f)
        first, run = stats["first_run_ns"] / 1e6, stats["run_ns"] / 1e6
        row |= {"main to first KVM_RUN": first, "first KVM_RUN to end": run, "exec and tear-down": row["ms"] - first - run}
    if os.path.exists(f"{work}/result"):
        with open(f"{work}/result") as f:
            row |= {f"{k} at": v for k, v in json.load(f)["times_ms"].items() if v is not None}
    return row


def exits_of(name, argv, good, work):
    """Exits to user space, by reason."""
    compare.tracing()
    try:
        compare.hist("!hist:keys=reason")
    except OSError:
        pass
    compare.hist("hist:keys=reason")
    once(name, argv, good, work)
    exits = compare.hist()
    compare.hist("!hist:keys=reason")
    return {r: n for r, n in exits.items() if r != 10}  # signals are the host's doing


def table(rows, key, bases):
    have = {s: r for s, r in rows.items() if all(key in x for x in r) and r}
    if not have:
        return
    print(f"\n| {key} | median | " + " | ".join(f"/ {b}: median (quartiles; min-max)" for b in bases) + " |")
    print("|---|---|" + "---|" * len(bases))
    for s, r in have.items():
        cells = []
        for b in bases:
            pairs = [(x[key], y[key]) for x, y in zip(r, rows[b]) if y.get(key)] if b != s and b in have else []
            cells.append(paths.ratio(*zip(*pairs)) if pairs else "")
        print(f"| {s} | {statistics.median(x[key] for x in r):.1f} | " + " | ".join(cells) + " |")


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("--rounds", type=int, default=9)
    ap.add_argument("--only", default="")
    ap.add_argument("--side", action="append", default=[])
    ap.add_argument("--arg", action="append", default=[])
    ap.add_argument("--ringlet", default=f"{TOP}/build/ringlet")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--no-exits", action="store_true")
    ap.add_argument("--out")
    a = ap.parse_args()
    if not os.path.exists(f"{GUEST}/version"):
        sys.exit("build/guest/small is missing; run: guest-images/build-kernel.sh small")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") as work:
        sides = all_sides(a, work)
        if a.only:
            missing = set(a.only.split(",")) - set(sides)
            if missing:
                sys.exit(f"no side {', '.join(missing)}; there are {', '.join(sides)}")
            sides = {s: v for s, v in sides.items() if s in a.only.split(",")}
        if a.list:
            for s, (argv, _) in sides.items():
                print(f"{s}: {' '.join(argv)}")
            return
        rows = {s: [] for s in sides}
        with open(f"{GUEST}/version") as f:
            print(f"# kernel {f.read().strip()}, {os.path.getsize(GUEST + '/vmlinux') >> 10} KiB, packed "
                  f"{os.path.getsize(GUEST + '/bzImage') >> 10} KiB; {compare.version(['qemu-system-x86_64'])}", flush=True)
        for s, (argv, good) in sides.items():  # warms the page cache as well
            if a.no_exits:
                once(s, argv, good, work)
            else:
                exits = exits_of(s, argv, good, work)
                print(f"# exits to user space, {s}: {sum(exits.values())}, by KVM_EXIT_ reason: {exits}", flush=True)
        for i in range(a.rounds):
            order = list(sides.items())
            for s, (argv, good) in order if i % 2 else order[::-1]:
                rows[s].append(once(s, argv, good, work))
                print(f"# round {i} {s}: " + ", ".join(f"{k} {v:.1f}" for k, v in rows[s][-1].items()), flush=True)
    print(f"\n{a.rounds} rounds in turn")
    bases = [b for b in ("microvm", "q35", "microvm log", "microvm least", "ringlet quiet") if b in rows]
    keys = list(dict.fromkeys(k for r in rows.values() for x in r for k in x))
    for key in keys:
        table(rows, key, bases if key == "ms" else bases[:2] if key.startswith("cpu") else [])
    if a.out:
        with open(a.out, "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
