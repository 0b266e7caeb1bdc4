# SPDX-License-Identifier: Apache-2.0
"""T13: how much of a new file lies in whole aligned runs of 2 MiB after years of use; ext4 beside, by FIEMAP."""

import json
import os
import sys

from bench import Result, missing
from mounts import PROJECT, Unavailable, run

ROW = "T13"
TITLE = "a new file of 1 GiB in an aged file system"
RUN = 2 << 20
FULL, WRITTEN = 0.75, 5


def share_in_runs(extents, length):
    """Of a file of `length` bytes; `extents`: file offset, place, bytes."""
    joined = []
    for offset, place, size in sorted(extents):
        if joined and joined[-1][0] + joined[-1][2] == offset and joined[-1][1] + joined[-1][2] == place:
            joined[-1][2] += size
        else:
            joined.append([offset, place, size])
    runs = 0
    for offset, place, size in joined:
        if (place - offset) % RUN == 0:
            runs += max(0, (offset + size) // RUN - -(-offset // RUN))
    return runs * RUN / length


def of_pinfs(bench, path):
    answer = json.loads(run(bench.scratch.commands / "pinfs", "extents", "--json", path).stdout)
    answer = answer[0] if isinstance(answer, list) else answer
    return [(each["file_offset"], each["region_offset"], each["bytes"]) for each in answer["extents"]]


def of_ext4(path):
    """filefrag's lines: number, logical first..last, physical first..last, length, ..., in blocks."""
    extents = []
    for line in run("filefrag", "-v", "-b4096", path).stdout.splitlines():
        words = line.replace(":", " ").replace("..", " ").split()
        if words and words[0].isdigit():
            extents.append(tuple(int(word) * 4096 for word in (words[1], words[3], words[5])))
    return extents


def age(root, capacity):
    words = [sys.executable, PROJECT / "tests/bench/aging.py", root, capacity, FULL, WRITTEN]
    return json.loads(run(*words).stdout)


def new_file(path, mib):
    piece = os.urandom(1 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(piece)
        os.fsync(file.fileno())


def measure(bench):
    mib = 256 if bench.quick else 8192
    new_mib = mib // 8
    what = f"{new_mib} MiB in aligned runs"

    def aged(mount, extents_of):
        """The share, and a note."""
        room = os.statvfs(mount.root)
        done = age(mount.root, room.f_bavail * room.f_frsize)
        path = mount.root / "new"
        new_file(path, new_mib)
        extents = extents_of(path)
        note = f"{len(extents):,} extents; {done['made']:,} files made, {done['files']:,} left"
        return share_in_runs(extents, new_mib << 20), note

    pinfs = bench.scratch.pinfs(f"{mib}M", "--sparse")
    share, note = aged(pinfs, lambda path: of_pinfs(bench, path))
    yield Result(what, share * 100, "%", "share", share, at_least=0.8, note=note)
    pinfs.stop()
    pinfs.check()
    pinfs.region.unlink()
    try:
        image = bench.scratch.image("aged", mib)
        run("mkfs.ext4", "-q", "-F", "-m", 0, image)
        ext4 = bench.scratch.mounted("ext4", "mount", "-o", "loop", image)
        share, note = aged(ext4, of_ext4)
        yield Result(f"{what}, ext4", share * 100, "%", note=note)
    except (Unavailable, RuntimeError) as why:
        yield missing(f"{what}, ext4", str(why).splitlines()[0])
