# SPDX-License-Identifier: Apache-2.0
"""T12: the daemon's own memory follows use, and comes back."""

import contextlib
import os
import subprocess
import time

from bench import Result
from mounts import wait_until

ROW = "T12"
TITLE = "RssAnon of the daemon, without its threads' buffers for requests"


def walk(directory):
    """Looks at every name below; how many there are."""
    count = 0
    for _, directories, files in os.walk(directory):
        count += len(directories) + len(files)
    for path, _, files in os.walk(directory):
        for name in files:
            os.stat(os.path.join(path, name))
    return count


def all_threads_work(directory):
    """Lists and looks at the same few names many times at once, so that every thread of the daemon
    has its buffers."""
    words = ["ls", "-lU", "--time-style=+", directory]
    for _ in range(5):
        programs = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(16)]
        for program in programs:
            program.wait()


def measure(bench):
    files = bench.many_files.count
    pinfs = bench.many_files.mount
    pinfs.start()
    mounted = pinfs.memory()
    all_threads_work(pinfs.root / "directory1")
    buffers = pinfs.memory() - mounted
    yield Result(
        f"{files:,} files, mounted", mounted / 2**20, "MiB", "MiB", mounted / 2**20, at_most=32
    )
    seen = walk(pinfs.root)
    walked = pinfs.memory() - buffers
    yield Result(
        "after walking them",
        walked / 2**20,
        "MiB",
        "bytes more per inode",
        (walked - mounted) / seen,
        at_most=400,
        note=f"buffers {buffers / 2**20:.1f} MiB",
    )
    # The kernel drops what was in use lately at the second time only, its forgets wait for no
    # answer, and the daemon gives memory back every few seconds.
    def is_small():
        with open("/proc/sys/vm/drop_caches", "w", encoding="utf-8") as switch:
            switch.write("2\n")
        return pinfs.memory() - buffers <= 1.2 * mounted

    began = time.monotonic()
    with contextlib.suppress(RuntimeError):
        wait_until(is_small, "", seconds=15 if bench.quick else 40, step=1)
    dropped = pinfs.memory() - buffers
    yield Result(
        "after drop_caches",
        dropped / 2**20,
        "MiB",
        f"mounted {mounted / 2**20:.1f}",
        dropped / mounted,
        at_most=1.2,
        note=f"within {time.monotonic() - began:.0f} s",
    )
    pinfs.stop()
    pinfs.check()
    bench.many_files.remove()
