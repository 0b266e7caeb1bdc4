# SPDX-License-Identifier: Apache-2.0
"""What the rows of scripts/bench share: peers, rounds, results.

A row is a module of tests/bench/rows with ROW, TITLE and measure(bench), which yields Results.
"""

import dataclasses
import functools
import json
import os
import statistics
import time

from mounts import Scratch, Unavailable, run


@dataclasses.dataclass
class Result:
    """One figure beside its target. `ratio` is what the target is about; None: no target."""

    what: str
    figure: float | None
    unit: str
    beside: str = ""  # the peer's name and figure, or what the ratio is taken of
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def mark(self):
        if self.ratio is None or (self.at_least is None and self.at_most is None):
            return ""
        met = (self.at_least is None or self.ratio >= self.at_least) and (
            self.at_most is None or self.ratio <= self.at_most
        )
        return "met" if met else "missed"

    @property
    def target(self):
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""


def missing(what, why):
    """In place of a figure that this machine cannot give."""
    return Result(what, None, "", note=str(why))


def beside(what, unit, medians, peer, **target):
    """pinfs's figure over that of `peer`; both are in `medians`, or the peer's absence is told."""
    if peer not in medians:
        return missing(f"{what}, beside {peer}", f"{peer} cannot run here")
    ours, theirs = medians["pinfs"], medians[peer]
    return Result(what, ours, unit, f"{peer} {theirs:.1f}", ours / theirs, **target)


def used_bytes(root):
    room = os.statvfs(root)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


class ManyFiles:
    """A region of 64 GiB with many files of 4 KiB. It is made when a row first asks for it and kept
    for the next row, because that takes a minute; of a million files it takes 4 GiB of memory, so
    the last row that mounts it removes it."""

    def __init__(self, build, count):
        self.count = count
        self._build = build
        self._scratch = None
        self._mount = None
        self._space = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    @property
    def mount(self):
        """Not started, and clean; to be left like this."""
        if self._mount is None:
            self._make()
        return self._mount

    @property
    def space(self):
        """Bytes in use, of the empty region and of the full one."""
        if self._space is None:
            self._make()
        return self._space

    def _make(self):
        self._scratch = Scratch(self._build).__enter__()
        mount = self._scratch.pinfs("64G", "--sparse")
        empty = used_bytes(mount.root)
        fill(self._scratch, mount.root, self.count)
        self._space = empty, used_bytes(mount.root)
        mount.stop()
        mount.check()
        self._mount = mount

    def remove(self):
        if self._scratch is not None:
            self._scratch.close()
        self._scratch = self._mount = None


def fill(scratch, root, count):
    """So many files of 4 KiB, in directories."""
    run(scratch.build / "tests/bench_names", "fill", root, count, 4096, min(count // 10, 1000))


class Bench:
    """`quick`: figures that only show that all of it works. Peers are made when first asked for;
    `many_files` is shared with other rows."""

    FILE_MIB = 512

    def __init__(self, scratch, many_files, quick, rounds):
        self.scratch = scratch
        self.many_files = many_files
        self.quick = quick
        self.rounds = rounds
        self.file_mib = 32 if quick else self.FILE_MIB
        self.unavailable = {}  # peer -> why

    @functools.cached_property
    def uring_allowed(self):
        try:
            with open("/sys/module/fuse/parameters/enable_uring", encoding="utf-8") as switch:
                return switch.read().strip() == "Y"
        except OSError:
            return False

    # --- Peers ------------------------------------------------------------------------------------

    def peers(self, *names):
        """Those of the names that this machine has, mounted, as a dictionary."""
        found = {}
        for name in names:
            try:
                found[name] = self._peer(name)
            except Unavailable as why:
                self.unavailable[name] = str(why)
            except RuntimeError as why:
                self.unavailable[name] = str(why).splitlines()[0]
        return found

    @functools.lru_cache(maxsize=None)
    def _peer(self, name):
        scratch = self.scratch
        image_mib = 2 * self.file_mib + 256
        if name == "pinfs":
            return scratch.pinfs(f"{image_mib}M")
        if name == "pinfs, io_uring":
            return scratch.pinfs(f"{image_mib}M", options=["io_uring"])
        if name in ("null", "null, io_uring"):
            words = [scratch.build / "tests/null_server"]
            if name != "null":
                words.append("--io-uring")
            return scratch.served("null", *words, scratch.image("null", self.file_mib))
        if name == "tmpfs":
            return scratch.mounted("tmpfs", "mount", "-t", "tmpfs", "-o", "size=80%", "tmpfs")
        if name == "bindfs":
            return scratch.served("bindfs", "bindfs", "-f", "--multithreaded", scratch.directory())
        if name == "fuse2fs":
            image = scratch.image("ext4", image_mib)
            run("mkfs.ext4", "-q", "-F", "-N", 400_000, image)
            return scratch.served("fuse2fs", "fuse2fs", "-f", "-o", "rw", image)
        if name == "ext4":
            image = scratch.image("ext4", image_mib)
            run("mkfs.ext4", "-q", "-F", "-N", 400_000, image)
            return scratch.mounted("ext4", "mount", "-o", "loop", image)
        raise ValueError(name)

    # --- Rounds -----------------------------------------------------------------------------------

    def medians(self, cases, rounds=None):
        """`cases`: name -> function that gives a figure, or a dictionary of figures. Every round
        calls each once, every other one from the last to the first, so that what else the machine
        does, and what one leaves behind for the next, meets all of them. Gives name ->
        median, or name -> dictionary of medians. `rounds`: at most so many."""
        figures = {name: [] for name in cases}
        for number in range(min(self.rounds, rounds or self.rounds)):
            for name in list(cases) if number % 2 == 0 else reversed(cases):
                figures[name].append(cases[name]())
        return {name: _median(values) for name, values in figures.items()}

    def tool(self, name):
        return self.scratch.build / "tests" / name


def _median(values):
    if isinstance(values[0], dict):
        return {key: statistics.median(value[key] for value in values) for key in values[0]}
    return statistics.median(values)


def fio(path, mib, rw, block, jobs, seconds, apart=False, bound=False):
    """Operations and bytes a second of fio's psync on one file that is there; of several jobs all do
    it everywhere, or each in a part of its own (`apart`). `bound`: each stays on one processor."""
    part = mib // jobs if apart else mib
    output = run(
        *("fio", "--name=bench", f"--filename={path}", f"--size={part}m", f"--rw={rw}"),
        *([f"--offset_increment={part}m"] if apart else []),
        *([f"--cpus_allowed=0-{jobs - 1}", "--cpus_allowed_policy=split"] if bound else []),
        *(f"--bs={block}", f"--numjobs={jobs}", "--thread", "--group_reporting", "--direct=1"),
        *("--ioengine=psync", "--time_based", f"--runtime={int(seconds * 1000)}ms"),
        *("--fallocate=none", "--overwrite=1", "--randrepeat=0", "--norandommap"),
        "--output-format=json",
    ).stdout
    job = json.loads(output[output.index("{") :])["jobs"][0]
    side = job["write" if rw.endswith("write") else "read"]
    return {"iops": side["iops"], "bytes": side["bw_bytes"]}


def write_file(path, mib):
    """A file of that size, every byte written."""
    piece = bytes(1 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(piece)


def seconds_of(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began
