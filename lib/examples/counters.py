#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""counters.py FILE NUMBER: adds one to a counter in a file on a pinfs mount, and prints it.

The counters are 64-bit numbers in the mapped file itself: what is added is a store, what makes it
durable is a flush of its cache line. No read, no write, no copy.
"""

import os
import sys

import pinfs

COUNTERS = 512
LENGTH = COUNTERS * 8


def main(path, number):
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_size < LENGTH:
            file.truncate(LENGTH)
        with pinfs.Context(path) as context, \
                pinfs.Lease(context, file, pinfs.LEASE_LAYOUT, 0, LENGTH), \
                pinfs.Map(context, file, 0, LENGTH) as memory:
            with memory.view.cast("Q") as counters:
                counters[number] += 1
                memory.persist(number * 8, 8)
                print(counters[number])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    main(sys.argv[1], int(sys.argv[2]))
