# SPDX-License-Identifier: Apache-2.0
"""T10: operations on names, in a directory of their own and in one of a million files."""

import json

from bench import Result, beside
from mounts import run

ROW = "T10"
TITLE = "create, stat, write 4 KiB, rename and unlink of files in one directory"


def measure(bench):
    count = 1000 if bench.quick else 100_000
    already = 10_000 if bench.quick else 1_000_000
    # Fewer files, as a rate is what counts of them: theirs would take most of the time.
    slower = {"fuse2fs": 20, "bindfs": 4}

    def phases(directory, files):
        answer = run(bench.tool("bench_names"), "time", directory, files).stdout
        return {phase: rate / 1000 for phase, rate in json.loads(answer).items()}

    peers = bench.peers("pinfs", "null", "tmpfs", "bindfs", "fuse2fs", "ext4")
    cases = {}
    for name, peer in peers.items():
        directory = peer.root / "names"
        directory.mkdir()
        files = count // slower.get(name, 1)
        cases[name] = lambda directory=directory, files=files: phases(directory, files)
    large = bench.scratch.pinfs("8G", "--sparse")
    (large.root / "names").mkdir()
    run(bench.tool("bench_names"), "fill", large.root / "names", already, 0, 0)
    cases["large"] = lambda: phases(large.root / "names", count)
    medians = bench.medians(cases, rounds=3)  # of two minutes each
    large.stop()
    large.check()

    for phase in medians["pinfs"]:
        rates = {name: of_peer[phase] for name, of_peer in medians.items()}
        yield beside(phase, "k/s", rates, "null", at_least=0.8)
        yield beside(phase, "k/s", rates, "bindfs", at_least=1)
        yield beside(phase, "k/s", rates, "fuse2fs", at_least=5)
        for name in ("tmpfs", "ext4"):
            yield beside(phase, "k/s", rates, name)
        yield Result(
            f"{phase}, beside {already:,} files",
            rates["large"],
            "k/s",
            f"time of one among {count:,}",
            rates["pinfs"] / rates["large"],
            at_most=1.5,
        )
