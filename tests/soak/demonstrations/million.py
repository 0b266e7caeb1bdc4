# SPDX-License-Identifier: Apache-2.0
"""A million files, in one directory and in a thousand."""

import os

from mounts import run
from soak import Clock, require

TITLE = "1,000,000 files on a sparse region of 64 GiB"


def files_below(root):
    for path, _, names in os.walk(root):
        for name in names:
            yield os.path.join(path, name)


def demonstrate(soak, directories):
    count = soak.share(1_000_000)
    pinfs = soak.pinfs("64G", "--sparse")
    root = pinfs.root / "files"
    root.mkdir()
    clock = Clock()
    run(soak.tool("bench_names"), "fill", root, count, 0, directories)
    clock.step("create")
    pinfs.stop()
    pinfs.check()
    clock.step("unmount and check")
    pinfs.start()
    clock.step("mount")
    names = list(files_below(root))
    require(len(set(names)) == count, f"{len(set(names))} names instead of {count}")
    clock.step("list")
    pinfs.stop()
    pinfs.start()
    clock.step("remount")
    inodes = {os.stat(name).st_ino for name in reversed(names)}
    require(len(inodes) == count, f"{len(inodes)} inodes instead of {count}")
    clock.step("look up")
    try:
        os.stat(root / "no such name")
        require(False, "a name that was never made is there")
    except FileNotFoundError:
        pass
    for name in names:
        os.unlink(name)
    for directory in root.iterdir():
        directory.rmdir()
    root.rmdir()
    clock.step("delete")
    require(not list(pinfs.root.iterdir()), "something is left")
    pinfs.stop()
    pinfs.check()
    pinfs.start()
    counts = pinfs.info()["counts"]
    require(counts["inodes"] == 1, f"{counts['inodes']} inodes are left")
    soak.finish(pinfs)
    return f"{count} files: {clock}"


def cases(soak):
    many = soak.share(1000, 2)
    return {
        "one directory": lambda: demonstrate(soak, 0),
        f"{many} directories": lambda: demonstrate(soak, many),
    }
