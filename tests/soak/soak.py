# SPDX-License-Identifier: Apache-2.0
"""What the demonstrations of scripts/soak share.

A demonstration is a module of tests/soak/demonstrations with TITLE and cases(), which gives name ->
function(soak). A function that returns has shown what it is to show; one that raises Failure, or
anything else, has not; Unavailable says that this machine cannot.
"""

import os
import pwd
import re
import subprocess
import time

from mounts import Scratch, Unavailable


class Failure(Exception):
    """What should hold does not."""


def require(condition, sentence):
    if not condition:
        raise Failure(sentence)


class Soak(Scratch):
    """`fraction`: everything takes one part in so many of its full size."""

    # A file in DAX mode, and one that the kernel caches.
    MODES = {"DAX": ["dax=always"], "cached": ["dax=never"]}

    def __init__(self, build, fraction):
        super().__init__(build)
        self.fraction = fraction

    def share(self, whole, least=1):
        """Of a number or a time at full size, what is to be done in this run."""
        return max(least, whole // self.fraction)

    def finish(self, pinfs):
        """Unmounts, and requires that fsck finds nothing."""
        pinfs.stop()
        pinfs.check()

    def tool(self, name):
        return self.build / "tests" / name


def as_user(user):
    """Words before a command that make it that user's; none for who is not root."""
    if os.geteuid() != 0:
        return []
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Unavailable(f"there is no user {user}") from None
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]


def run_long(words, seconds, **options):
    """A program that should be done by then; Failure with the end of what it printed."""
    words = [str(word) for word in words]
    try:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{words[0]} was not done after {seconds:.0f} s") from None
    if done.returncode != 0:
        lines = [line[:300] for line in done.stdout.splitlines()]
        complaints = [line for line in lines[:-15] if re.search(r"\b(fail|error)", line)]
        end = "\n".join(complaints[:20] + lines[-15:])
        raise Failure(f"{' '.join(words)}: status {done.returncode}\n{end}")
    return done.stdout


class Clock:
    """Seconds of the steps of a demonstration, for its line."""

    def __init__(self):
        self._began = time.monotonic()
        self.steps = []

    def step(self, name):
        now = time.monotonic()
        self.steps.append(f"{name} {now - self._began:.1f} s")
        self._began = now

    def __str__(self):
        return ", ".join(self.steps)


