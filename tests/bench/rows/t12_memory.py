# SPDX-License-Identifier: Apache-2.0
"""T12: the daemon's own memory follows use, and comes back."""

import os
import time

from bench import Result
from mounts import run

ROW = "T12"
TITLE = "RssAnon of the daemon (its buffers for requests counted in)"


def walk(directory):
    """Looks at every name below; how many there are."""
    count = 0
    for _, directories, files in os.walk(directory):
        count += len(directories) + len(files)
    for path, _, files in os.walk(directory):
        for name in files:
            os.stat(os.path.join(path, name))
    return count


def measure(bench):
    files = 10_000 if bench.quick else 1_000_000
    pinfs = bench.scratch.pinfs("8G", "--sparse")
    run(bench.tool("bench_names"), "fill", pinfs.root, files, 0, 1000)
    pinfs.stop()
    pinfs.start()
    mounted = pinfs.memory()
    yield Result(
        f"{files:,} files, mounted", mounted / 2**20, "MiB", "MiB", mounted / 2**20, at_most=32
    )
    seen = walk(pinfs.root)
    walked = pinfs.memory()
    yield Result(
        "after walking them",
        walked / 2**20,
        "MiB",
        "bytes more per inode",
        (walked - mounted) / seen,
        at_most=400,
    )
    with open("/proc/sys/vm/drop_caches", "w", encoding="utf-8") as switch:
        switch.write("2\n")
    # The kernel's forgets wait for no answer: the memory is what it is when it falls no more.
    walked, dropped = 0, walked
    while dropped != walked:
        time.sleep(0.5)
        walked, dropped = dropped, pinfs.memory()
    yield Result(
        "after drop_caches",
        dropped / 2**20,
        "MiB",
        f"mounted {mounted / 2**20:.1f}",
        dropped / mounted,
        at_most=1.2,
    )
    pinfs.stop()
    pinfs.check()
