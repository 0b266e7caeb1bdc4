# SPDX-License-Identifier: Apache-2.0
"""Mounts that a benchmark or a long demonstration makes, and takes away again however it ends.

A Scratch owns a directory on tmpfs for regions and images, and one elsewhere for mount points. What is
mounted through it goes with it: use it as a context manager, in a program that calls
`end_on_signals()` first. Who is not root mounts through fusermount3, and only pinfs.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """This machine cannot do it; the sentence says why."""


def end_on_signals():
    """SIGTERM and SIGHUP end the program as an exception does: with everything taken away."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def run(*words, **options):
    """A program to its end, its output captured; CalledProcessError with its words if it fails."""
    options = {"check": True, "text": True, "capture_output": True, **options}
    words = [str(word) for word in words]
    try:
        return subprocess.run(words, **options)
    except FileNotFoundError:
        raise Unavailable(f"there is no {words[0]}") from None
    except subprocess.CalledProcessError as failure:
        text = f"{' '.join(words)}: status {failure.returncode}: {failure.stdout}{failure.stderr}"
        raise RuntimeError(text.strip()) from None


def wait_until(condition, what, seconds=60.0, step=0.002):
    """Until `condition()` holds; RuntimeError after that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(step)


def is_mounted(directory):
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return any(line.split()[4] == str(directory) for line in table)


def unmount(directory, lazily=False):
    """Whether it is mounted no more."""
    if os.geteuid() == 0:
        words = ["umount", "-i", "-l"] if lazily else ["umount", "-i"]
    else:
        words = ["fusermount3", "-u", "-z"] if lazily else ["fusermount3", "-u"]
    return subprocess.run([*words, directory], capture_output=True, check=False).returncode == 0


class Mount:
    """Something mounted on `root`."""

    def __init__(self, name, root):
        self.name = name
        self.root = root

    def stop(self):
        # Programs that just ended may hold it for a moment.
        wait_until(
            lambda: not is_mounted(self.root) or unmount(self.root),
            f"unmounting {self.root}",
            seconds=20,
            step=0.1,
        )

    def abandon(self):
        """Takes it away whatever its state; never fails."""
        unmount(self.root, lazily=True)


class Served(Mount):
    """A FUSE mount whose server runs in the foreground, as a child."""

    def __init__(self, name, root, words, log):
        super().__init__(name, root)
        self.words = [str(word) for word in words]
        self.log = log
        self.server = None

    def start(self):
        """Returns when the mount answers; the seconds that took."""
        with open(self.log, "w", encoding="utf-8") as log:
            began = time.monotonic()
            try:
                self.server = subprocess.Popen(
                    self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            except FileNotFoundError:
                raise Unavailable(f"there is no {self.words[0]}") from None
        outside = os.stat(self.root.parent).st_dev
        while os.stat(self.root).st_dev == outside:
            if self.server.poll() is not None:
                raise RuntimeError(f"{self.name} does not mount: {self.log.read_text().strip()}")
            time.sleep(0.0002)
        return time.monotonic() - began

    def stop(self):
        super().stop()
        if self.server is not None:
            self.server.wait(timeout=60)
            self.server = None

    def kill(self):
        """SIGKILL for the server; then the dead mount is taken away."""
        self.server.kill()
        self.server.wait()
        self.server = None
        if not unmount(self.root, lazily=True):
            raise RuntimeError(f"the dead mount on {self.root} stays")

    def abandon(self):
        super().abandon()
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def memory(self, key="RssAnon"):
        """Bytes of the server's memory of that kind."""
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text(encoding="utf-8")
        return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) * 1024


class Pinfs(Served):
    """A region and its mount, with the project's own programs."""

    def __init__(self, name, root, region, log, commands, options=(), environment=()):
        words = ["env", *environment, commands / "pinfs", "mount", "-f", region, root]
        for option in options:
            words += ["-o", option]
        super().__init__(name, root, words, log)
        self.region = region
        self.commands = commands

    def make(self, size, *options):
        """mkfs; `size` as its --size takes it."""
        run(self.commands / "mkfs.pinfs", "--force", "--size", size, *options, self.region)

    def info(self):
        return json.loads(run(self.commands / "pinfs", "info", "--json", self.region).stdout)

    def check(self):
        """RuntimeError with what fsck finds. Not while it is mounted."""
        run(self.commands / "fsck.pinfs", "-n", self.region)


class Scratch(contextlib.ExitStack):
    def __init__(self, build):
        super().__init__()
        self.build = PROJECT / build
        self.commands = self.build / "cmd"
        self._count = 0

    def __enter__(self):
        super().__enter__()
        if not os.path.exists("/dev/fuse"):
            raise Unavailable("there is no /dev/fuse")
        for program in ("pinfs", "mkfs.pinfs", "fsck.pinfs"):
            if not (self.commands / program).exists():
                raise Unavailable(f"{self.commands / program} is not built")
        self.memory = self._directory("/dev/shm")
        self.disk = self._directory(None)
        return self

    def _directory(self, parent):
        path = pathlib.Path(tempfile.mkdtemp(prefix="pinfs-", dir=parent)).resolve()
        self.callback(shutil.rmtree, path, ignore_errors=True)
        path.chmod(0o755)
        return path

    def directory(self):
        """An empty directory on tmpfs."""
        self._count += 1
        path = self.memory / f"directory{self._count}"
        path.mkdir()
        return path

    def _mountpoint(self, name):
        self._count += 1
        path = self.disk / f"{name}{self._count}"
        path.mkdir()
        return path

    def image(self, name, mib):
        """A file on tmpfs, of that size, its memory taken."""
        self._count += 1
        path = self.memory / f"{name}{self._count}"
        run("fallocate", "-l", f"{mib}M", path)
        return path

    def pinfs(self, size, *mkfs_options, options=(), environment=(), start=True):
        """A region of that size (as 512M or 64G), and its mount; `environment` as NAME=VALUE."""
        root = self._mountpoint("pinfs")
        region = self.memory / f"region{self._count}"
        log = self.disk / f"log{self._count}"
        mount = Pinfs("pinfs", root, region, log, self.commands, options, environment)
        self.callback(lambda: region.unlink(missing_ok=True))
        self.callback(mount.abandon)
        mount.make(size, *mkfs_options)
        if start:
            mount.start()
        return mount

    def served(self, name, *words, start=True):
        """A FUSE server by its command; the mount point is added to it."""
        root = self._mountpoint(name)
        mount = Served(name, root, [*words, root], self.disk / f"log{self._count}")
        self.callback(mount.abandon)
        if start:
            mount.start()
        return mount

    def mounted(self, name, *words):
        """What a command mounts that ends then; the mount point is added to it."""
        mount = Mount(name, self._mountpoint(name))
        self.callback(mount.abandon)
        run(*words, mount.root)
        return mount
