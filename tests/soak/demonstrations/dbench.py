# SPDX-License-Identifier: Apache-2.0
"""dbench: what a file server's clients do."""

import re

from soak import require, run_long

TITLE = "dbench, eight clients"
LOADFILE = "/usr/share/dbench/client.txt"


def demonstrate(soak, options):
    seconds = soak.share(60, 3)
    pinfs = soak.pinfs("2G", options=options)
    words = ["dbench", "--loadfile", LOADFILE, "--directory", pinfs.root, "--timelimit", seconds]
    output = run_long([*words, "8"], seconds * 3 + 60)
    rate = re.search(r"Throughput ([0-9.]+) MB/sec", output)
    require(rate is not None, output[-2000:])
    soak.finish(pinfs)
    return f"{seconds} s, {float(rate.group(1)):.0f} MB/s"


def cases(soak):
    return {
        f"{name} files": lambda options=options: demonstrate(soak, options)
        for name, options in soak.MODES.items()
    }
