# SPDX-License-Identifier: Apache-2.0
"""T9: a large file written and made durable, in DAX mode and through the page cache."""

import os

from bench import Result, seconds_of
from mounts import run

ROW = "T9"
TITLE = "3 GiB written in pieces of 8 MiB, then fsync"
PIECE = bytes(range(256)) * (1 << 15)


def write_all(path, mib):
    file = os.open(path, os.O_WRONLY)
    for at in range(0, mib << 20, len(PIECE)):
        os.pwrite(file, PIECE, at)
    os.fsync(file)
    os.close(file)


def measure(bench):
    mib = 64 if bench.quick else 3072
    pinfs = bench.scratch.pinfs(f"{2 * mib + 256}M")
    paths = {name: pinfs.root / name for name in ("dax", "cached")}
    for name, path in paths.items():
        path.touch()
        run(bench.scratch.commands / "pinfs", "dax", "on" if name == "dax" else "off", path)

    def rate(path):
        # Every round allocates all of it, as the first one does.
        os.truncate(path, 0)
        return mib / 1024 / seconds_of(lambda: write_all(path, mib))

    medians = bench.medians({name: lambda path=path: rate(path) for name, path in paths.items()})
    yield Result(
        f"{mib} MiB to a DAX file",
        medians["dax"],
        "GiB/s",
        f"cached {medians['cached']:.2f}",
        medians["dax"] / medians["cached"],
        at_least=1,
    )
    pinfs.stop()
    pinfs.check()
