# SPDX-License-Identifier: Apache-2.0
"""T14: how much of a region the file system takes for itself."""

from bench import Result

ROW = "T14"
TITLE = "space for metadata"


def measure(bench):
    files = bench.many_files.count
    empty, full = bench.many_files.space
    yield Result(
        "empty region of 64 GiB", empty / 2**20, "MiB", "% of it", empty / 2**36 * 100, at_most=1
    )
    yield Result(
        f"{files:,} files of 4 KiB",
        (full - empty) / 2**20,
        "MiB",
        "of the data",
        (full - empty) / (files * 4096),
        at_most=1.2,
    )
