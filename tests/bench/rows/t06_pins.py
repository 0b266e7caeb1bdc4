# SPDX-License-Identifier: Apache-2.0
"""T6 and T7: pinning, and truncation of what is not pinned, beside few and beside many pins."""

import json

from bench import Result, write_file
from mounts import run

ROW = "T6"
TITLE = "pins, and T7: truncation beside them"


def measure(bench):
    count = 10_000 if bench.quick else 1_000_000
    mounts = [bench.scratch.pinfs("1G") for _ in range(2)]
    for pinfs in mounts:
        write_file(pinfs.root / "f", 64)
    few, many = (pinfs.root / "f" for pinfs in mounts)
    answer = run(bench.tool("bench_pins"), "pins", few, many, count, bench.rounds)
    got = json.loads(answer.stdout)
    yield Result(
        "pin and unpin",
        got["pin_unpin"],
        "us",
        f"round trips of {got['round_trip']:.1f} us",
        got["pin_unpin"] / got["round_trip"],
        at_most=2.5,
    )
    for what, name in (("pin and unpin", "pin_unpin"), ("T7: truncate", "truncate")):
        yield Result(
            f"{what}, {count:,} live pins",
            got[f"{name}_many"],
            "us",
            f"10 pins {got[name]:.1f}",
            got[f"{name}_many"] / got[name],
            at_most=1.3,
        )
    yield Result(f"making {count:,} pins", got["filling_seconds"], "s")
    for pinfs in mounts:
        pinfs.stop()
        pinfs.check()
