# SPDX-License-Identifier: Apache-2.0
"""T8: fsync where nothing is mapped and where all is, pinfs_msync of a part of maps of two sizes."""

import json

from bench import Result, write_file
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
    pinfs.stop()
    pinfs.check()

    # A region on tmpfs has nothing to flush, unless libpmem is told to treat it as persistent memory.
    mib = 64 if bench.quick else 1024
    pinfs = bench.scratch.pinfs(f"{mib + 256}M", environment=["PMEM_IS_PMEM_FORCE=1"])
    write_file(pinfs.root / "mapped", mib)
    answer = run(bench.tool("bench_pins"), "sync", pinfs.root / "mapped", bench.rounds)
    got = json.loads(answer.stdout)
    yield Result(
        f"fsync under an undeclared writable map of {mib} MiB",
        got["fsync"],
        "GB/s",
        f"two threads' pmem_flush {got['raw']:.1f}",
        got["fsync"] / got["raw"],
        at_least=0.8,
    )
    pinfs.stop()
    pinfs.check()
