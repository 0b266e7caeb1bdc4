# SPDX-License-Identifier: Apache-2.0
"""The other demonstrations by an unprivileged user, whose mounts go through fusermount3.

In a mount namespace of their own, where /dev/fuse opens for everybody, and from a copy of what they need:
the project itself may lie where the user cannot look.
"""

import os
import shutil

from mounts import PROJECT, Unavailable
from soak import as_user, run_long

TITLE = "the same as an unprivileged user, through fusermount3"
USER = "nobody"
DEMONSTRATIONS = ["dbench", "fio", "million", "postgres", "sqlite", "stress"]

# Arguments: a node that is made for the device, then the command.
PREPARE = """
set -eu
node=$1
shift
mknod "$node" c 10 229
chmod 0666 "$node"
mount --bind "$node" /dev/fuse
exec "$@"
"""


def copy(soak):
    to = soak.disk / "project"
    commands = ["cmd/pinfs", "cmd/mkfs.pinfs", "cmd/fsck.pinfs", "tests/bench_names"]
    files = {f"build/{command}": soak.build / command for command in commands}
    for file in ("scripts/soak", "tests/support/mounts.py"):
        files[file] = PROJECT / file
    for name, file in files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to / name)
    shutil.copytree(PROJECT / "tests/soak", to / "tests/soak")
    return to


def demonstrate(soak, name):
    if os.geteuid() != 0:
        raise Unavailable("only root may become another user")
    project = copy(soak)
    words = ["unshare", "--mount", "bash", "-c", PREPARE, "prepare", soak.disk / "fuse"]
    words += [*as_user(USER), "--reset-env", "python3", project / "scripts/soak"]
    words += ["--user", "--build", "build", "--fraction", soak.fraction]
    output = run_long([*words, name], 3600, cwd="/").splitlines()
    return "; ".join(line.strip() for line in output[1:])


def cases(soak):
    return {name: lambda name=name: demonstrate(soak, name) for name in DEMONSTRATIONS}
