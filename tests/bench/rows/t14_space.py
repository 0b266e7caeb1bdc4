# SPDX-License-Identifier: Apache-2.0
"""T14: how much of a region the file system takes for itself."""

import os

from bench import Result
from mounts import run

ROW = "T14"
TITLE = "space for metadata"


def used_bytes(root):
    room = os.statvfs(root)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


def measure(bench):
    files = 10_000 if bench.quick else 1_000_000
    pinfs = bench.scratch.pinfs("64G", "--sparse")
    empty = used_bytes(pinfs.root)
    yield Result(
        "empty region of 64 GiB", empty / 2**20, "MiB", "% of it", empty / 2**36 * 100, at_most=1
    )
    run(bench.tool("bench_names"), "fill", pinfs.root, files, 4096, 1000)
    full = used_bytes(pinfs.root)
    yield Result(
        f"{files:,} files of 4 KiB",
        (full - empty) / 2**20,
        "MiB",
        "of the data",
        (full - empty) / (files * 4096),
        at_most=1.2,
    )
    pinfs.stop()
    pinfs.check()
