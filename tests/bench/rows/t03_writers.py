# SPDX-License-Identifier: Apache-2.0
"""T3: two writers to different ranges of one file, and what else two programs do side by side."""

from bench import beside, fio, write_file

ROW = "T3"
TITLE = "two writers to different ranges of one DAX file"


def measure(bench):
    peers = bench.peers("pinfs", "null", "tmpfs", "ext4")
    for peer in peers.values():
        if not (peer.root / "file").exists():
            write_file(peer.root / "file", bench.file_mib)

    def rate(peer, jobs):
        seconds = 0.25 if bench.quick else 3
        return fio(peer.root / "file", bench.file_mib, "randwrite", "4k", jobs, seconds, apart=True)["iops"] / 1000

    cases = {
        (name, jobs): lambda peer=peer, jobs=jobs: rate(peer, jobs)
        for name, peer in peers.items()
        for jobs in (1, 2)
    }
    medians = bench.medians(cases)
    of_two = {name: figure for (name, jobs), figure in medians.items() if jobs == 2}
    yield beside("4 KiB writes, two halves", "k/s", of_two, "null", at_least=0.9)
    for name in ("tmpfs", "ext4"):
        yield beside("4 KiB writes, two halves", "k/s", of_two, name)
    gains = {name: of_two[name] / medians[name, 1] for name in peers}
    yield beside("two writers, of what one does", "x", gains, "null", at_least=0.9)
