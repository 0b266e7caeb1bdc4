# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: killed, and the file system under it killed, while pgbench is at work.

After each recovery every transaction that pgbench had logged is there, the sums agree, and amcheck finds
every heap tuple in every index.
"""

import contextlib
import glob
import os
import signal
import subprocess
import time

from mounts import Unavailable, run
from soak import Clock, Failure, as_user, require, run_long

TITLE = "PostgreSQL: kill -9 of it, and of the daemon, under pgbench"
CLIENTS = 4


class Cluster:
    """A server whose data, and whose socket, are on the mount."""

    def __init__(self, soak, pinfs):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            raise Unavailable("there is no PostgreSQL in /usr/lib/postgresql")
        self.programs = found[-1]
        self.data = pinfs.root / "data"
        self.outside = soak.directory()  # pgbench's logs: what was committed, whatever happens
        self.server_log = self.outside / "server.log"
        self.user = as_user("postgres")
        if self.user:
            for directory in (pinfs.root, self.outside):
                run("chown", "postgres", directory)
        self._server = None

    def words(self, program, *arguments):
        return [*self.user, f"{self.programs}/{program}", *(str(word) for word in arguments)]

    def make(self):
        words = ["--pgdata", self.data, "--data-checksums", "--auth=trust", "--locale=C"]
        run_long(self.words("initdb", *words), 300)

    def start(self):
        options = ["-D", self.data, "-k", self.data, "-h", ""]
        # In its directory: of what it has in /dev/shm it leaves two files when it is killed.
        options += ["-c", "dynamic_shared_memory_type=mmap"]
        with open(self.server_log, "ab") as log:
            self._server = subprocess.Popen(
                self.words("postgres", *options), stdout=log, stderr=log
            )
        end = time.monotonic() + 120
        ready = self.words("pg_isready", "-h", self.data, "-q")
        while subprocess.run(ready, check=False).returncode != 0:
            if self._server.poll() is not None or time.monotonic() > end:
                log = self.server_log.read_text(errors="replace")
                raise Failure(f"postgres does not start: {log[-2000:]}")
            time.sleep(0.05)

    def kill(self):
        """SIGKILL for the server and all its processes, which are its children."""
        if self._server is None:
            return
        words = ["ps", "-o", "pid=", "--ppid", str(self._server.pid)]
        children = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        self._server.kill()
        for child in children.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._server.wait()
        self._server = None

    def stop(self):
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # fast shutdown
            self._server.wait(timeout=120)
            self._server = None

    def ask(self, question):
        words = ["-h", self.data, "-d", "postgres", "-At", "-v", "ON_ERROR_STOP=1"]
        return run_long(self.words("psql", *words, "-c", question), 120).strip()

    def fill(self, scale):
        words = ["-h", self.data, "-i", "-q", "-s", scale, "postgres"]
        run_long(self.words("pgbench", *words), 300)

    def load(self, name):
        """pgbench, logging each transaction that returned; ends when it is killed."""
        words = ["-h", self.data, "-c", CLIENTS, "-j", 2, "-T", 3600, "-n", "--log"]
        words += [f"--log-prefix={self.outside / name}", "postgres"]
        return subprocess.Popen(
            self.words("pgbench", *words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.outside,
        )

    def logged(self):
        """Transactions whose end pgbench wrote down."""
        return sum(file.read_bytes().count(b"\n") for file in self.outside.glob("load*"))

    def judge(self):
        """Transactions that are there."""
        logged, there = self.logged(), int(self.ask("SELECT count(*) FROM pgbench_history"))
        require(there >= logged, f"{logged} transactions were committed, {there} are there")
        sums = self.ask(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts),"
            " (SELECT sum(bbalance) FROM pgbench_branches),"
            " (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        ).split("|")
        require(len(set(sums)) == 1, f"accounts, branches, tellers, history: {sums}")
        words = ["-h", self.data, "--install-missing", "--heapallindexed", "--parent-check"]
        run_long(self.words("pg_amcheck", *words, "-d", "postgres"), 600)
        return there


def demonstrate(soak, options):
    seconds = soak.share(60, 3)
    pinfs = soak.pinfs("4G", "--sparse", options=options)
    cluster = Cluster(soak, pinfs)
    clock = Clock()
    cluster.make()
    clock.step("initdb")
    load = None
    try:
        cluster.start()
        cluster.fill(max(1, 10 // soak.fraction))
        clock.step("fill")
        load = cluster.load("load1")
        time.sleep(seconds)
        require(load.poll() is None, "pgbench ended early")
        cluster.kill()
        load.wait()
        clock.step("pgbench")
        cluster.start()
        first = cluster.judge()
        clock.step("kill of postgres, recovery, amcheck")

        load = cluster.load("load2")
        time.sleep(seconds)
        require(load.poll() is None, "pgbench ended early")
        pinfs.kill()
        cluster.kill()
        load.wait()
        pinfs.check()
        pinfs.start()
        clock.step("pgbench")
        cluster.start()
        second = cluster.judge()
        require(second > first, "pgbench did nothing after the recovery")
        clock.step("kill of the daemon, mount, recovery, amcheck")
        cluster.stop()
    finally:
        if load is not None and load.poll() is None:
            load.kill()
            load.wait()
        cluster.kill()
    soak.finish(pinfs)
    return f"{second} transactions; {clock}"


def cases(soak):
    return {
        f"{name} files": lambda options=options: demonstrate(soak, options)
        for name, options in soak.MODES.items()
    }
