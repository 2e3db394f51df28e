"""What the benches of datapaths share: back ends (started by tests/peers/lib.sh), monitors with a bare guest in them,
counters, and tables.  A guest is bench/bare_path.c."""
import ctypes
import glob
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", os.path.join(TOP, "build"))
GUEST = os.path.join(BUILD, "bench/bare_path.elf")
LAST_CPU = os.cpu_count() - 1  # where what polls is, see tests/peers/lib.sh
WARM = 0.12  # seconds
PIDFD_GETFD = 438


def tsc_hz():
    with open("/proc/cpuinfo") as f:
        return float(re.search(r"cpu MHz\s*:\s*([\d.]+)", f.read())[1]) * 1e6


def must(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def module(name):
    """Loads it.  Where the kernel has it built in, or has none, that is seen later."""
    if subprocess.run(["modprobe", "-q", name], stderr=subprocess.DEVNULL).returncode == 0:
        return
    # The lab has no /lib/modules, but what its kernel was unpacked from.
    for file in glob.glob(f"{TOP}/build/guest/*/lib/modules/{os.uname().release}/kernel/**/{name}.ko*", recursive=True):
        with tempfile.NamedTemporaryFile(suffix=".ko") as f:
            subprocess.run(["xz", "-dcf", file], stdout=f, check=True)  # -f: what is not compressed stays as it is
            subprocess.run(["insmod", f.name], stderr=subprocess.DEVNULL)


class Peer:
    """with Peer("peer_testpmd_vhost SOCK server 1 io", "SOCK") as p: it is ready; afterwards nothing of it is left."""

    def __init__(self, start, handle, cpu=None, tell=""):
        """tell: of the shell, whose value comes to be words[1]."""
        self.script = (f"cd {TOP} && . tests/peers/lib.sh && trap peer_stop_all EXIT\n{start} || exit 1\n"
                       f"echo ready $(peer_pid {handle}) {tell}\nread -r\n")
        self.cpu = cpu

    def __enter__(self):
        self.logs = tempfile.TemporaryDirectory()  # in the lab the repository cannot be written
        env = dict(os.environ, PEER_LOGS=self.logs.name)
        self.shell = subprocess.Popen(["bash", "-c", self.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True, env=env)
        for line in self.shell.stdout:
            if line.startswith("ready "):
                self.words = line.split()[1:]
                self.pid = int(self.words[0])
                if self.cpu is not None:
                    must("taskset", "-apc", str(self.cpu), str(self.pid))
                return self
        raise SystemExit(f"no back end: {self.script}")

    def __exit__(self, *_):
        self.shell.stdin.close()
        self.shell.wait(timeout=30)
        self.logs.cleanup()


class Tap:
    """One that sends back all it gets, by the kernel."""

    def __init__(self, name="rlpath0"):
        self.name = name

    def __enter__(self):
        must("ip", "tuntap", "add", "dev", self.name, "mode", "tap", "vnet_hdr")
        with open(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6", "w") as f:
            f.write("1")
        must("ip", "link", "set", self.name, "up")
        return self

    def send_back(self):
        must("tc", "qdisc", "add", "dev", self.name, "ingress")
        must("tc", "filter", "add", "dev", self.name, "parent", "ffff:", "protocol", "all", "u32", "match", "u32", "0", "0",
             "action", "mirred", "egress", "redirect", "dev", self.name)

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", self.name])


def ringlet(device, append, binary=None, more=()):
    return [binary or f"{BUILD}/ringlet", "run", "-k", GUEST, "-m", "64M", "--timeout", "60s", *more, "-a", append, *device]


def qemu(device, append):
    """Memory shared, as vhost-user wants it."""
    return ["qemu-system-x86_64", "-M", "q35,memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=64M,share=on",
            "-accel", "kvm", "-cpu", "host", "-m", "64M", "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0x5f0,iosize=4", "-kernel", GUEST,
            "-append", append + " config=port", *device]


def qemu_net(sock):
    return ["-chardev", f"socket,id=c,path={sock}", "-netdev", "vhost-user,id=n,chardev=c",
            "-device", "virtio-net-pci,netdev=n,disable-legacy=on,romfile="]


def qemu_disk(sock):
    return ["-chardev", f"socket,id=c,path={sock}", "-device", "vhost-user-blk-pci,chardev=c,disable-legacy=on"]


def workload(what, length=60, window=32, seconds=0.5, hold=0.0, irq=False):
    hz = tsc_hz() / 1e6
    return (f"what={what} len={length} window={window} mcycles={int(seconds * hz)} hold={int(hold * hz)} "
            f"warm={int(WARM * hz)}" + (" wait=irq" if irq else ""))


def kvm_stats(pid):
    """KVM's counters of a monitor's vCPUs, {name: number}; it was started with bench/kvm_stats.c."""
    seen = {}
    pidfd = os.pidfd_open(pid)
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("anon_inode:kvm-vcpu-stats"):
            continue
        stats = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(fd), 0)
        # struct kvm_stats_header, struct kvm_stats_desc
        _, name_size, n, _, descs, data = struct.unpack("<6I", os.pread(stats, 24, 0))
        for i in range(n):
            desc = os.pread(stats, 16 + name_size, descs + i * (16 + name_size))
            _, _, size, offset, _ = struct.unpack("<IhHII", desc[:16])
            if size == 1:
                name = desc[16:].split(b"\0")[0].decode()
                seen[name] = seen.get(name, 0) + struct.unpack("<Q", os.pread(stats, 8, data + offset))[0]
        os.close(stats)
    os.close(pidfd)
    return seen


class Counters:
    """What processes do from now on: system calls of each; exits and interrupts of the first, which runs a guest."""

    def __init__(self, pids):
        if not shutil.which("perf"):
            raise SystemExit("counting takes perf: install linux-perf, or give --no-counts")
        self.perfs = []
        for i, pid in enumerate(pids):
            events = "raw_syscalls:sys_enter" + ("" if i else ",kvm:kvm_userspace_exit")
            self.perfs.append(subprocess.Popen(["perf", "stat", "-x,", "-e", events, "-p", str(pid)],
                                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))
        self.pid = pids[0]
        self.before = kvm_stats(self.pid)

    def end(self):
        after = kvm_stats(self.pid)
        got = {"exits": after["exits"] - self.before["exits"],
               "interrupts": after["irq_injections"] - self.before["irq_injections"]}
        for i, p in enumerate(self.perfs):
            p.send_signal(signal.SIGINT)
            for line in p.communicate(timeout=20)[1].splitlines():
                m = re.match(r"(\d+),[^,]*,([^,]+)", line)
                if m:
                    got["to user space" if "kvm" in m[2] else f"system calls {i}"] = int(m[1])
        return got


def place(pid, others):
    """The vCPU on the first processor, the other threads of a monitor, vhost's among them, where `others` says."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm") as f:
                vcpu = "vcpu" in f.read()
            os.sched_setaffinity(int(task), {0} if vcpu else {others})
        except (ProcessLookupError, FileNotFoundError):
            pass


def run(argv, cpu=None, others=None, count=None):
    """One guest to its end.  cpu: of all that the monitor does; others: of all but the vCPU, which has the first.
    count: (seconds of nothing, seconds measured, pids of back ends): counters go into the result, each by what the guest has
    done.  Returns None if it got no processor at all."""
    env = dict(os.environ)
    if cpu is not None:
        argv = ["taskset", "-c", str(cpu), *argv]
    if count:
        env["LD_PRELOAD"] = f"{BUILD}/bench/kvm_stats.so"
    with tempfile.TemporaryFile("w+") as err:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True, env=env)
        text, counted = "", {}
        for line in p.stdout:
            text += line
            if not line.startswith("begin"):
                continue
            if others is not None:
                place(p.pid, others)
            if count:
                hold, seconds, pids = count
                time.sleep(WARM + hold * 0.1)
                counters = Counters([p.pid, *pids])
                time.sleep(hold * 1.3 + seconds)
                counted = counters.end()
        p.wait(timeout=60)
        err.seek(0)
        complaint = err.read()
    m = re.search(r"features (\w+).*done (\d+) cycles (\d+) kicks (\d+) irqs (\d+) lost (\d+) gap (\d+)", text, re.S)
    if not m:
        raise SystemExit(f"{' '.join(argv)}: {text}{complaint}")
    n, hz = int(m[2]), tsc_hz()
    if not n:
        return None
    return {"features": m[1], "n": n, "a second": n / int(m[3]) * hz, "us": int(m[3]) / n / hz * 1e6,
            "kicks": int(m[4]) / n, "irqs": int(m[5]) / n, "lost": int(m[6]), "gap ms": int(m[7]) / hz * 1e3,
            } | {k: v / n for k, v in counted.items()}


def same_features(results):
    """A comparison of unlike rings would mean nothing."""
    seen = {r["features"] for r in results if r}
    if len(seen) > 1:
        raise SystemExit(f"the sides' drivers use different features: {', '.join(sorted(seen))}")


def ratio(ours, theirs):
    """Median, quartiles and extremes of paired ratios, as text."""
    rs = sorted(a / b for a, b in zip(ours, theirs))
    q = statistics.quantiles(rs, n=4) if len(rs) > 1 else rs * 3
    return f"{q[1]:.3f} ({q[0]:.3f}-{q[2]:.3f}; {rs[0]:.3f}-{rs[-1]:.3f})"


def number(x):
    """Three figures, and nothing below what one run can tell."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}" if x >= 1e-3 else "0" if not x else "< 0.001"


COUNTS = {"kicks": "kicks", "irqs": "interrupts taken", "exits": "exits", "to user space": "exits to user space",
          "interrupts": "interrupts injected", "system calls 0": "system calls", "system calls 1": "... of the back end"}


def counts_head(*first):
    columns = [*first, *COUNTS.values()]
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|"


def counts_row(r):
    return " | ".join(number(r[k]) if k in r else "-" for k in COUNTS)
