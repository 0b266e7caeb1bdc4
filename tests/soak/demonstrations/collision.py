# SPDX-License-Identifier: Apache-2.0
"""Old mappings and devices without owner beside files that take every freed block."""

import os

from soak import run_long

TITLE = "10,000 collisions of an old mapping with other files, 500 of a device"


def collide(soak, case, rounds):
    left_out = ("PINFS_TEST_RESULTS",)
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    seconds = 60 + rounds * 2
    environment |= {"PINFS_ROUNDS": str(rounds), "PINFS_TEST_ALARM": str(seconds)}
    run_long([soak.tool("mount-collision"), case], seconds + 10, env=environment)
    return f"{rounds} rounds"


def cases(soak):
    return {
        "a mapping, without and with a pin": lambda: collide(soak, "3.8*", soak.share(10_000)),
        "an io_uring whose owner was killed": lambda: collide(soak, "3.9*", soak.share(500)),
    }
