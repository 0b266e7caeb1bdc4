# SPDX-License-Identifier: Apache-2.0
"""T5: pinfs_map of a file that was written in order."""

import json

from bench import Result, write_file
from mounts import run

ROW = "T5"
TITLE = "making a direct map"


def measure(bench):
    mib = 64 if bench.quick else 1024
    pinfs = bench.scratch.pinfs(f"{4 * mib}M")
    write_file(pinfs.root / "f", mib)
    got = json.loads(run(bench.tool("bench_pins"), "map", pinfs.root / "f", bench.rounds).stdout)
    yield Result(
        f"a map of {mib} MiB", got["pieces"], "pieces", "pieces", got["pieces"], at_most=16
    )
    trips = (got["microseconds"] - 5 * got["pieces"]) / got["round_trip"]
    yield Result(
        "its time, without 5 us a piece",
        got["microseconds"],
        "us",
        f"round trips of {got['round_trip']:.1f} us",
        trips,
        at_most=3,
    )
    pinfs.stop()
    pinfs.check()
