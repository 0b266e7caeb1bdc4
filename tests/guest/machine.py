# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with NVDIMMs, run by QEMU without any support of the processor's.

Its root is the host's, read-only, with memory over it: what is installed here is there, what it writes is
gone afterwards, but for /out and the files of the NVDIMMs.
"""

import gzip
import lzma
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import time

from packages import Unavailable, output

PROJECT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
LABEL_BYTES = 2 << 20  # of an NVDIMM, at its file's end
NO_STATUS = 99  # the guest ended without saying how the command did
BEGUN = "begun"  # what the guest says before the command
BOOTS = 3  # at most, until it says so


class Nvdimm:
    """An NVDIMM in a file, of a multiple of 16 MiB; what is in it stays."""

    def __init__(self, path, size_bytes):
        self.path = pathlib.Path(path).resolve()
        self.size_bytes = size_bytes
        if size_bytes % (16 << 20) != 0:
            raise Unavailable(f"an NVDIMM of {size_bytes} bytes: not a multiple of 16 MiB")
        if not self.path.exists():
            with open(self.path, "wb") as file:
                file.truncate(size_bytes + LABEL_BYTES)

    def words(self, number):
        bytes_in_all = self.size_bytes + LABEL_BYTES
        return [
            "-object",
            f"memory-backend-file,id=memory{number},share=on,align=2M,"
            f"mem-path={self.path},size={bytes_in_all}",
            "-device",
            f"nvdimm,id=nvdimm{number},memdev=memory{number},label-size={LABEL_BYTES}",
        ]


def modules_for(kernel, version, names):
    """The modules' files with all that they need, in the order in which they are to be loaded."""
    files = []
    for name in names:
        shown = output("modprobe", "-d", kernel, "-S", version, "--show-depends", name)
        for line in shown.splitlines():
            kind, _, path = line.strip().partition(" ")
            if kind == "insmod" and path.strip() not in files:
                files.append(path.strip())
    return files


def make_initramfs(kernel, version, command, directory):
    tree = pathlib.Path(directory) / "tree"
    for below in ("bin", "modules", "proc", "sys", "dev", "host", "upper", "root"):
        (tree / below).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Unavailable("there is no busybox")
    shutil.copy(busybox, tree / "bin/busybox")
    for number, path in enumerate(
        modules_for(kernel, version, ("virtio_pci", "9pnet_virtio", "9p", "overlay"))
    ):
        packed = pathlib.Path(path)
        name = f"{number:02}-{packed.name.removesuffix('.xz')}"
        content = lzma.open(packed) if packed.suffix == ".xz" else open(packed, "rb")
        with content, open(tree / "modules" / name, "wb") as module:
            shutil.copyfileobj(content, module)
    shutil.copy(HERE / "init", tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "settings").write_text(
        f"PROJECT={shlex.quote(str(PROJECT))}\nKERNEL={shlex.quote(str(kernel))}\n"
    )
    (tree / "command").write_text(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n"
        f"export PINFS_IN_GUEST=1\ncd {shlex.quote(os.getcwd())}\n"
        f"echo {BEGUN} >/dev/ttyS1\n"
        f"({shlex.join(command)}) </dev/null\n"
        "echo $? >/dev/ttyS1\nsync\npoweroff -f || busybox poweroff -f\n"
    )
    listed = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        input=listed.encode(),
        cwd=tree,
        check=True,
        capture_output=True,
    ).stdout
    initramfs = pathlib.Path(directory) / "initramfs"
    with gzip.open(initramfs, "wb", compresslevel=1) as file:
        file.write(archive)
    shutil.rmtree(tree)
    return initramfs


class Machine:
    """`kernel`: a directory as packages.kernel() gives it."""

    def __init__(self, kernel, nvdimms=(), memory_mib=2048, append="", out=None):
        self.kernel = pathlib.Path(kernel).resolve()
        self.nvdimms = list(nvdimms)
        self.memory_mib = memory_mib
        self.append = append
        self.out = out

    def run(self, command, timeout_seconds, cut_power=None, log=None):
        """The command's exit status, NO_STATUS if the guest did not tell. The power is cut when
        `cut_power` says True, which is asked again and again. The console goes to `log`, a file, or to
        standard output."""
        version = os.listdir(self.kernel / "lib/modules")[0]
        if not (self.kernel / "lib/modules" / version / "modules.dep").exists():
            output("depmod", "-b", self.kernel, version)
        image = self.kernel / "boot" / f"vmlinuz-{version}"
        if not image.exists():
            image = self.kernel / "lib/modules" / version / "vmlinuz"
        with tempfile.TemporaryDirectory(prefix="pinfs-guest-") as directory:
            out = pathlib.Path(self.out or f"{directory}/out").resolve()
            out.mkdir(parents=True, exist_ok=True)
            status = pathlib.Path(directory) / "status"
            initramfs = make_initramfs(self.kernel, version, command, directory)
            # The processors take turns in one thread. In two, one that waits for a lock of the kernel's
            # takes QEMU's own from the one that has it and interrupts another: minutes for seconds.
            words = ["qemu-system-x86_64", "-machine", "q35,nvdimm=on", "-accel", "tcg,thread=single"]
            # Without what software emulates slowly.
            words += ["-cpu", "max,-erms,-la57", "-smp", "2", "-nodefaults", "-no-reboot"]
            words += ["-m", f"{self.memory_mib},slots=8,maxmem=64G", "-display", "none"]
            words += ["-serial", "stdio", "-serial", f"file:{status}"]
            words += ["-kernel", str(image), "-initrd", str(initramfs), "-append"]
            words += [
                "console=ttyS0 quiet oops=panic panic=-1 mitigations=off norandmaps cryptomgr.notests "
                # On a busy machine timers are late; kernels would take that for broken hardware.
                "no_timer_check nowatchdog " + self.append
            ]
            words += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
            words += ["-virtfs", f"local,path={out},mount_tag=out,security_model=none"]
            words += ["-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0"]
            for number, nvdimm in enumerate(self.nvdimms):
                words += nvdimm.words(number)
            # An emulated processor may stumble over code that another one of the kernel's patches while
            # it boots. Nothing has been done then.
            said = []
            for boot in range(BOOTS):
                if boot > 0:
                    print("# the guest did not come up: booted again", file=log, flush=True)
                self._run(words, timeout_seconds, cut_power, log)
                said = status.read_text().split() if status.exists() else []
                if BEGUN in said:
                    break
            return int(said[-1]) if said and said[-1].isdigit() else NO_STATUS

    @staticmethod
    def _run(words, timeout_seconds, cut_power, log):
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        except FileNotFoundError:
            raise Unavailable(f"there is no {words[0]}") from None
        end = time.monotonic() + timeout_seconds
        try:
            while process.poll() is None and not (cut_power and cut_power()):
                if time.monotonic() > end:
                    raise RuntimeError(f"the guest did not end within {timeout_seconds} s")
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                process.kill()  # as a power cut: nothing more is executed
            process.wait()
