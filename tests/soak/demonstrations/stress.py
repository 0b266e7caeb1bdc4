# SPDX-License-Identifier: Apache-2.0
"""stress-ng's file-system class, all of it at once, with its own verification."""

import re

from mounts import run
from soak import require, run_long

TITLE = "stress-ng --class filesystem --verify"

# Left out, since they are not about the file system that is tested, whichever it is:
WITHOUT = {
    "binderfs": "mounts a file system of that kind",
    "eventfd": "of the kernel",
    "procfs": "reads /proc",
}
# By itself: events that it has not read keep names alive, and inotify, which waits for their end,
# reports a failure, on tmpfs too.
ALONE = "fanotify"


def demonstrate(soak, options):
    seconds = soak.share(120, 5)
    run("stress-ng", "--version")
    pinfs = soak.pinfs("12G", "--sparse", options=options)
    common = ["--verify", "--temp-path", pinfs.root, "--metrics-brief", "--timeout"]
    words = ["stress-ng", "--class", "filesystem", "--all", "2"]
    words += ["--exclude", ",".join([*WITHOUT, ALONE]), *common, seconds]
    output = run_long(words, seconds + 300, cwd=pinfs.root)
    words = ["stress-ng", f"--{ALONE}", "2", *common, max(2, seconds // 10)]
    output += run_long(words, seconds + 300, cwd=pinfs.root)
    failures = [line for line in output.splitlines() if re.search(r"\bfail:", line)]
    require(not failures, "\n".join(failures[:20]))
    skipped = sorted(set(re.findall(r"\] (\S+): [^\n]*skipping", output)))
    worked = set(re.findall(r"\] (\S+) +[1-9]\d* +[\d.]+", output))
    require(len(worked) > 20, f"only {sorted(worked)} did anything")
    soak.finish(pinfs)
    return f"{seconds} s, {len(worked)} stressors; skipped by stress-ng: {', '.join(skipped)}"


def cases(soak):
    return {
        f"{name} files": lambda options=options: demonstrate(soak, options)
        for name, options in soak.MODES.items()
    }
