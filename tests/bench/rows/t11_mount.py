# SPDX-License-Identifier: Apache-2.0
"""T11: a mount after the daemon was killed does not take longer for more files."""

import re

from bench import Result, fill

ROW = "T11"
TITLE = "mount after kill -9, of many files and of few"


def measure(bench):
    few, many = (100 if bench.quick else 10_000), bench.many_files.count
    null = bench.scratch.served(
        "null", bench.tool("null_server"), bench.scratch.image("null", 1), start=False
    )
    pinfs = {few: bench.scratch.pinfs("64G", "--sparse"), many: bench.many_files.mount}
    fill(bench.scratch, pinfs[few].root, few)
    pinfs[few].kill()
    pinfs[many].start()
    pinfs[many].kill()
    read_bytes = {}

    def started_null():
        seconds = null.start()
        null.stop()
        return seconds * 1000

    def remounted(files):
        seconds = pinfs[files].start()
        log = pinfs[files].log.read_text(encoding="utf-8")
        read_bytes[files] = int(re.search(r"(\d+) bytes read", log).group(1))
        # Something is under way when it is killed again.
        (pinfs[files].root / "touched").write_bytes(bytes(100_000))
        pinfs[files].kill()
        return seconds * 1000

    medians = bench.medians(
        {
            "null": started_null,
            few: lambda: remounted(few),
            many: lambda: remounted(many),
        }
    )
    for files in (few, many):
        yield Result(
            f"{files:,} files",
            medians[files],
            "ms",
            f"null starts in {medians['null']:.1f} ms; ms more",
            medians[files] - medians["null"],
            at_most=20,
            note=f"{read_bytes[files]:,} bytes read",
        )
        pinfs[files].check()
    # Clean again, for the next row.
    pinfs[many].start()
    pinfs[many].stop()
