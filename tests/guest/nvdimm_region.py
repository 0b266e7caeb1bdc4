# SPDX-License-Identifier: Apache-2.0
"""What a guest left in an NVDIMM's file, looked at from the machine outside."""

import pathlib
import struct
import subprocess

from machine import PROJECT

MAGIC = int.from_bytes(b"PINS", "little")
STEP = 2 << 20  # namespaces begin at a multiple of it, behind what the kernel keeps for itself
PIECE = 1 << 20


def copy_region(nvdimm, to):
    """The region inside the NVDIMM's file, as a file of its own; False if there is none."""
    with open(nvdimm.path, "rb") as memory:
        for begin in range(0, nvdimm.size_bytes, STEP):
            memory.seek(begin)
            head = memory.read(512)
            magic, own_offset = struct.unpack_from("<I4xQ", head)
            if magic != MAGIC or own_offset != 0:
                continue
            (length,) = struct.unpack_from("<Q", head, 120)
            with open(to, "wb") as region:
                memory.seek(begin)
                for at in range(0, length, PIECE):
                    piece = memory.read(min(PIECE, length - at))
                    if piece.count(0) != len(piece):
                        region.seek(at)
                        region.write(piece)
                region.truncate(length)
            return True
    return False


def judged(region, *words):
    """fsck.pinfs's exit status and what it said."""
    ran = subprocess.run(
        [PROJECT / "build/cmd/fsck.pinfs", *words, pathlib.Path(region)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return ran.returncode, ran.stdout + ran.stderr
