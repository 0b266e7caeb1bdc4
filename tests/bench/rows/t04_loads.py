# SPDX-License-Identifier: Apache-2.0
"""T4: loads and stores through pinfs_map, beside those through mmap of the region."""

import json

from bench import Result, write_file
from mounts import run

ROW = "T4"
TITLE = "loads and stores through a direct map"


def measure(bench):
    pinfs = bench.peers("pinfs")["pinfs"]
    write_file(pinfs.root / "f", bench.file_mib)
    answer = run(bench.tool("bench_pins"), "loads", pinfs.root / "f", pinfs.region, bench.rounds)
    for what, (ours, raw) in json.loads(answer.stdout).items():
        yield Result(what, ours, "GB/s", f"region {raw:.1f}", ours / raw, at_least=0.95)
