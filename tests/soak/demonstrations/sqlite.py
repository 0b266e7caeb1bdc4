# SPDX-License-Identifier: Apache-2.0
"""SQLite: writers are killed at random; nothing whose commit had returned is lost."""

import os
import random
import selectors
import sqlite3
import subprocess
import sys
import time

from soak import require

TITLE = "SQLite: four writers, killed at random"
INSERTS = 100_000
WRITERS = 4

# One writer: a transaction per row, whose number goes to the pipe when the commit has returned.
WRITER = """
import sqlite3, sys
path, writer, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
base = sqlite3.connect(path, timeout=120, isolation_level=None)
base.execute("PRAGMA synchronous = FULL")
number = 0
while True:
    base.execute("INSERT INTO rows VALUES (?, ?, ?)", (writer, number, str(number) * 20))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


class Writer:
    """A process; `reported` is how many of its rows were committed, as far as it told."""

    def __init__(self, path, number, mode):
        self.number = number
        self.reported = 0
        self._unread = b""
        words = [sys.executable, "-c", WRITER, path, str(number), mode]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)

    def take(self):
        """What it told since; False at the end."""
        data = self.process.stdout.read(1 << 16)
        if data is None:
            return True
        lines = (self._unread + data).split(b"\n")
        self._unread = lines.pop()
        self.reported += len(lines)
        return data != b""

    def kill(self):
        self.process.kill()
        while True:  # what it told before its end counts
            data = self.process.stdout.read(1 << 16)
            if data is None:
                time.sleep(0.001)
                continue
            if data == b"":
                break
            self.reported += data.count(b"\n")
        self.process.wait()
        words = self.process.stderr.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        return words


def demonstrate(soak, mode, options):
    pinfs = soak.pinfs("1G", options=options)
    path = str(pinfs.root / "base.sqlite")
    base = sqlite3.connect(path, timeout=120)
    base.execute(f"PRAGMA journal_mode = {mode}")
    base.execute("CREATE TABLE rows (writer INT, number INT, text TEXT, UNIQUE (writer, number))")
    base.commit()
    base.close()

    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    wanted = soak.share(INSERTS, 500)
    writers, ended, kills = [], [], 0
    words = ""
    selector = selectors.DefaultSelector()

    def add():
        writer = Writer(path, len(writers) + len(ended), mode)
        writers.append(writer)
        selector.register(writer.process.stdout, selectors.EVENT_READ, writer)

    def remove(writer):
        selector.unregister(writer.process.stdout)
        writers.remove(writer)
        ended.append(writer)
        return writer.kill()

    try:
        for _ in range(WRITERS):
            add()
        deadline = time.monotonic() + 60 + wanted / 50
        next_kill = chance.randint(1, 200)
        while (reported := sum(writer.reported for writer in writers + ended)) < wanted:
            require(time.monotonic() < deadline, f"too slow: seed {seed}")
            for key, _ in selector.select(timeout=0.05):
                if not key.data.take():
                    words = remove(key.data)
                    require(False, f"a writer ended by itself: {words}")
            if reported >= next_kill:
                time.sleep(chance.uniform(0, 0.003))  # wherever it may be by then
                remove(chance.choice(writers))
                kills += 1
                add()
                next_kill = reported + chance.randint(1, 400)
    finally:
        while writers:
            remove(writers[0])
        selector.close()

    require(kills > 0, "it was over before a writer was killed")

    def judge():
        base = sqlite3.connect(path, timeout=120)
        answer = base.execute("PRAGMA integrity_check").fetchall()
        require(answer == [("ok",)], f"seed {seed}: integrity_check: {answer[:5]}")
        there = dict(base.execute("SELECT writer, count(*) FROM rows GROUP BY writer"))
        highest = dict(base.execute("SELECT writer, max(number) FROM rows GROUP BY writer"))
        for writer in ended:
            rows = there.get(writer.number, 0)
            require(
                rows in (writer.reported, writer.reported + 1),
                f"seed {seed}: writer {writer.number} told of {writer.reported} rows, {rows} there",
            )
            require(rows == highest.get(writer.number, -1) + 1, "a row in the middle is missing")
        base.close()
        return sum(there.values())

    rows = judge()
    pinfs.stop()
    pinfs.check()
    pinfs.start()
    require(judge() == rows, "another number of rows after a remount")
    soak.finish(pinfs)
    return f"{rows} rows, {kills} writers killed, seed {seed}"


def cases(soak):
    return {
        f"{mode}, {name} file": lambda mode=mode, options=options: demonstrate(soak, mode, options)
        for mode in ("WAL", "DELETE")
        for name, options in soak.MODES.items()
    }
