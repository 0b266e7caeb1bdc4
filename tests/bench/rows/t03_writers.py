# SPDX-License-Identifier: Apache-2.0
"""T3: two writers to different ranges of one file, and how long they wait for locks."""

import time

from bench import Result, beside, fio, write_file

ROW = "T3"
TITLE = "two writers to different ranges of one DAX file"
WHAT = "4 KiB writes, two halves"


def waited(root):
    """Seconds that the daemon's threads ever waited for its locks."""
    text = (root / ".pinfs/metrics").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("pinfs_lock_wait_seconds_total")]
    return sum(float(line.split()[-1]) for line in lines)


def measure(bench):
    seconds = 0.25 if bench.quick else 1.5
    peers = bench.peers("pinfs", "null", "tmpfs", "ext4")
    for peer in peers.values():
        if not (peer.root / "file").exists():
            write_file(peer.root / "file", bench.file_mib)
    shares = []

    def rate(name, jobs):
        root = peers[name].root
        measured = name == "pinfs" and jobs == 2
        before, began = waited(root) if measured else 0, time.monotonic()
        figure = fio(root / "file", bench.file_mib, "randwrite", "4k", jobs, seconds, apart=True)["iops"] / 1000
        if measured:
            shares.append((waited(root) - before) / (time.monotonic() - began) / jobs)
        return figure

    medians = bench.medians(
        {(name, jobs): lambda name=name, jobs=jobs: rate(name, jobs) for name in peers for jobs in (1, 2)}
    )
    of_two = {name: figure for (name, jobs), figure in medians.items() if jobs == 2}
    yield beside(WHAT, "k/s", of_two, "null", at_least=0.9)
    for name in ("tmpfs", "ext4"):
        yield beside(WHAT, "k/s", of_two, name)
    gains = {name: of_two[name] / medians[name, 1] for name in peers}
    yield beside("two writers, of what one does", "x", gains, "null", at_least=0.9)
    share = sorted(shares)[len(shares) // 2]
    yield Result("of their time they wait for locks", share * 100, "%", "share", share, at_most=0.02)
