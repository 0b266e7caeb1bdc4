# SPDX-License-Identifier: Apache-2.0
"""fio reads back what it wrote, through every way of doing I/O."""

from soak import run_long

TITLE = "fio with verify"
ENGINES = {"psync": 1, "libaio": 8, "io_uring": 8, "mmap": 1}  # with the requests under way at once
# Pattern and sizes, buffered and direct: the former across pages, the latter in whole blocks.
PATTERNS = [
    ("randwrite", "--bs=3k", "--bs=4k"),
    ("randrw", "--bs=5k", "--bs=8k"),
    ("write", "--bsrange=1k-1m", "--bsrange=4k-1m"),
]


def demonstrate(soak, options):
    kib = soak.share(256 * 1024, 4096)
    pinfs = soak.pinfs("1G", options=options)
    runs = 0
    for engine, depth in ENGINES.items():
        for direct in (0,) if engine == "mmap" else (0, 1):
            for pattern, *sizes in PATTERNS:
                run_long(
                    [
                        *("fio", "--name=verify", f"--directory={pinfs.root}", f"--size={kib}k"),
                        *(f"--ioengine={engine}", f"--iodepth={depth}", f"--direct={direct}"),
                        *(f"--rw={pattern}", sizes[direct], "--numjobs=2", "--verify=crc32c"),
                        *("--verify_fatal=1", "--do_verify=1", "--fallocate=none", "--unlink=1"),
                        "--output=/dev/null",
                    ],
                    600,
                    cwd=pinfs.root,  # where fio leaves its states
                )
                runs += 1
    soak.finish(pinfs)
    return f"{runs} runs of 2 x {kib} KiB"


def cases(soak):
    return {
        f"{name} file": lambda options=options: demonstrate(soak, options)
        for name, options in soak.MODES.items()
    }
