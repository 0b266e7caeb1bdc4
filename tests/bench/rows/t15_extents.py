# SPDX-License-Identifier: Apache-2.0
"""T15: a file that grows slowly beside another stays in few pieces, and many pieces read fast."""

import json
import multiprocessing
import os

from bench import Result, fio, missing
from mounts import run

ROW = "T15"
TITLE = "extents"


def append(path, mib):
    piece = bytes(4096)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(mib * 256):
        os.write(file, piece)
    os.close(file)


def write_in_pieces(path, blocks):
    """Every other block first: each is an extent of its own."""
    piece = bytes(4096)
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    for first in (0, 1):
        for block in range(first, blocks, 2):
            os.pwrite(file, piece, block * 4096)
    os.close(file)


def extents_of(bench, path):
    answer = json.loads(run(bench.scratch.commands / "pinfs", "extents", "--json", path).stdout)
    answer = answer[0] if isinstance(answer, list) else answer
    return len(answer["extents"])


def measure(bench):
    mib = 32 if bench.quick else 1024
    blocks = 1000 if bench.quick else 10_000
    pinfs = bench.scratch.pinfs(f"{3 * mib + 256}M", "--sparse")
    writers = [
        multiprocessing.Process(target=append, args=(pinfs.root / f"grown{i}", mib))
        for i in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        if writer.exitcode != 0:
            raise RuntimeError("a writer failed")
    pieces, whole = pinfs.root / "pieces", pinfs.root / "whole"
    write_in_pieces(pieces, blocks)
    with open(whole, "wb") as file:
        file.write(bytes(blocks * 4096))
    try:
        extents = extents_of(bench, pinfs.root / "grown0")
        yield Result(
            f"{mib} MiB of 4 KiB appends beside another such writer",
            extents,
            "extents",
            "extents",
            extents,
            at_most=64,
        )
        many = extents_of(bench, pieces)
        note = f"{many:,} extents beside {extents_of(bench, whole)}"
    except RuntimeError as why:
        yield missing("extents of a grown file", f"they cannot be counted: {why}")
        note = "extents not counted"
    medians = bench.medians(
        {
            name: lambda path=path: fio(
                path, blocks * 4096 >> 20, "read", "1m", 1, 0.25 if bench.quick else 2
            )["bytes"]
            / 1e9
            for name, path in (("pieces", pieces), ("whole", whole))
        }
    )
    yield Result(
        f"reading a file of {blocks:,} pieces",
        medians["pieces"],
        "GB/s",
        f"time; whole {medians['whole']:.1f}",
        medians["whole"] / medians["pieces"],
        at_most=1.3,
        note=note,
    )
    pinfs.stop()
    pinfs.check()
