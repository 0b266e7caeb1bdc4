# SPDX-License-Identifier: Apache-2.0
"""T1: 4 KiB at random places of a DAX file, with one job and with two."""

from bench import beside, fio, missing, write_file

ROW = "T1"
TITLE = "4 KiB random read and write of a DAX file"


def measure(bench):
    transports = [("", "null")]
    if bench.uring_allowed:
        transports.append((", io_uring", "null, io_uring"))
    else:
        yield missing("over io_uring", "/sys/module/fuse/parameters/enable_uring is not Y")
    for transport, null in transports:
        ours = "pinfs" + transport
        names = [ours, null, "fuse2fs"] + ([] if transport else ["tmpfs", "ext4"])
        peers = bench.peers(*names)
        for peer in peers.values():
            if not (peer.root / "file").exists():
                write_file(peer.root / "file", bench.file_mib)
        for rw, least in (("read", 3), ("write", 5)):
            for jobs in (1, 2):
                medians = bench.medians(
                    {
                        name: lambda peer=peer: fio(
                            peer.root / "file",
                            *(bench.file_mib, "rand" + rw, "4k", jobs, 0.25 if bench.quick else 1.5),
                            bound=bool(transport),  # has a queue for each processor
                        )["iops"]
                        / 1000
                        for name, peer in peers.items()
                    }
                )
                medians["pinfs"] = medians[ours]
                what = f"{rw}, {jobs} job{'s' if jobs > 1 else ''}{transport}"
                yield beside(what, "k/s", medians, null, at_least=0.9)
                target = {"at_least": least} if jobs == 2 else {}
                yield beside(what, "k/s", medians, "fuse2fs", **target)
                for name in names[3:]:
                    yield beside(what, "k/s", medians, name)
