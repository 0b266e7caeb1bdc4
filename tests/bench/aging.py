# SPDX-License-Identifier: Apache-2.0
"""Ages a file system: files of realistic sizes come and go until many times its size was written.

Sizes are those of Agrawal, Arpaci-Dusseau and Arpaci-Dusseau, "Generating Realistic Impressions for File-System
Benchmarking" (FAST 2009): a lognormal body, mu 9.48 and sigma 2.46 of the logarithm of bytes, and a Pareto tail, of
one file in 17,000, k 0.91. Here a file has at most a 32nd of the capacity, and the tail begins at a 64th, not at 512
MiB. Most files die young: of those that are removed, half are among the last tenth that was made.

    aging.py DIRECTORY BYTES FULL WRITTEN [SEED]    # FULL: share in use; WRITTEN: times BYTES
"""

import argparse
import json
import os
import random

MU, SIGMA = 9.48, 2.46
TAIL, SHAPE = 1 - 0.99994, 0.91
PER_DIRECTORY = 200
PIECE = os.urandom(1 << 20)


class Aging:
    def __init__(self, root, capacity, seed):
        self.root = root
        self.capacity = capacity
        self.random = random.Random(seed)
        self.files = []  # (path, bytes in blocks of 4 KiB), oldest first
        self.used = 0
        self.written = 0
        self.made = 0

    def size(self):
        largest = self.capacity // 32
        if self.random.random() < TAIL:
            size = largest / 2 * self.random.paretovariate(SHAPE)
        else:
            size = self.random.lognormvariate(MU, SIGMA)
        return max(1, min(int(size), largest))

    def make(self):
        directory = f"{self.root}/{self.made // PER_DIRECTORY}"
        if self.made % PER_DIRECTORY == 0:
            os.mkdir(directory)
        path = f"{directory}/{self.made}"
        self.made += 1
        size = self.size()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for at in range(0, size, len(PIECE)):
            os.write(file, PIECE[: min(len(PIECE), size - at)])
        os.close(file)
        blocks = (size + 4095) // 4096 * 4096
        self.files.append((path, blocks))
        self.used += blocks
        self.written += blocks

    def remove(self):
        young = self.random.random() < 0.5
        first = len(self.files) * 9 // 10 if young else 0
        path, blocks = self.files.pop(self.random.randrange(first, len(self.files)))
        os.unlink(path)
        self.used -= blocks

    def run(self, full, written):
        """Until `full` of the capacity is in use and `written` times the capacity was written."""
        limit = int(self.capacity * full)
        while self.used < limit or self.written < written * self.capacity:
            while self.used >= limit:
                self.remove()
            self.make()
        while self.used > limit:
            self.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("directory")
    parser.add_argument("bytes", type=int)
    parser.add_argument("full", type=float)
    parser.add_argument("written", type=float)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    words = parser.parse_args()
    aging = Aging(words.directory, words.bytes, words.seed)
    aging.run(words.full, words.written)
    print(json.dumps({"files": len(aging.files), "made": aging.made, "written": aging.written}))


if __name__ == "__main__":
    main()
