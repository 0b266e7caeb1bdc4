# SPDX-License-Identifier: Apache-2.0
"""T8: fsync where nothing is mapped, and pinfs_msync of a part of maps of two sizes."""

import json

from bench import Result, missing, write_file
from mounts import run

ROW = "T8"
TITLE = "flushing"


def measure(bench):
    small_mib, large_mib = (16, 64) if bench.quick else (64, 4096)
    pinfs = bench.scratch.pinfs(f"{small_mib + large_mib + 256}M", "--sparse")
    for name, mib in (("small", small_mib), ("large", large_mib)):
        write_file(pinfs.root / name, mib)
    answer = run(
        *(bench.tool("bench_pins"), "flush", pinfs.root / "small", pinfs.root / "large"),
        bench.rounds,
    )
    got = json.loads(answer.stdout)
    yield Result(
        "fsync, nothing mapped",
        got["fsync"],
        "us",
        f"round trip {got['round_trip']:.1f}",
        got["fsync"] / got["round_trip"],
        at_most=1.2,
    )
    yield Result(
        f"pinfs_msync of 64 KiB, map of {large_mib} MiB",
        got["msync_large"],
        "us",
        f"map of {small_mib} MiB {got['msync_small']:.1f}",
        got["msync_large"] / got["msync_small"],
        at_most=1.5,
    )
    yield missing(
        "fsync under an undeclared writable map",
        "a region on tmpfs has nothing to flush; counted in tests/unit/pin_flush.cc",
    )
    pinfs.stop()
    pinfs.check()
