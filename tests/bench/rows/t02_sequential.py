# SPDX-License-Identifier: Apache-2.0
"""T2: 1 MiB after 1 MiB of a DAX file."""

from bench import beside, fio, write_file

ROW = "T2"
TITLE = "1 MiB sequential read and write of a DAX file"


def measure(bench):
    peers = bench.peers("pinfs", "null", "tmpfs", "fuse2fs", "ext4")
    for peer in peers.values():
        if not (peer.root / "file").exists():
            write_file(peer.root / "file", bench.file_mib)
    for rw in ("read", "write"):
        medians = bench.medians(
            {
                name: lambda peer=peer: fio(
                    peer.root / "file", bench.file_mib, rw, "1m", 1, 0.25 if bench.quick else 1.5
                )["bytes"]
                / 1e9
                for name, peer in peers.items()
            }
        )
        yield beside(rw, "GB/s", medians, "null", at_least=0.9)
        for name in ("tmpfs", "fuse2fs", "ext4"):
            yield beside(rw, "GB/s", medians, name)
