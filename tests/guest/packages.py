# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian, fetched by name from the mirror that this machine's apt is set up with.

Lists, settings and packages live in a directory of the caller's: nothing of the machine changes, nobody
need be root, and apt checks the signatures as ever.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess


class Unavailable(Exception):
    """It cannot be had here; the sentence says why."""


def output(*words, **options):
    try:
        return subprocess.run(
            [str(word) for word in words],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **options,
        ).stdout
    except FileNotFoundError:
        raise Unavailable(f"there is no {words[0]}") from None
    except subprocess.CalledProcessError as failure:
        last = (failure.stderr or failure.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"{words[0]} {words[1]} failed: {' '.join(last)}") from None


class Suite:
    """The packages of one suite, as `bookworm-backports`."""

    KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

    def __init__(self, name, directory):
        self._directory = pathlib.Path(directory).resolve()
        for below in ("lists/partial", "archives/partial", "packages"):
            (self._directory / below).mkdir(parents=True, exist_ok=True)
        targets = output(
            *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
            *("Created-By: Packages", "Label: Debian"),
        )
        if not targets:
            raise Unavailable("apt knows no mirror of Debian: apt-get update")
        sources = self._directory / "sources.list"
        sources.write_text(f"deb [signed-by={self.KEYRING}] {targets.splitlines()[0]} {name} main\n")
        settings = self._directory / "apt.conf"
        settings.write_text(
            f'Dir::Etc::SourceList "{sources}";\n'
            'Dir::Etc::SourceParts "-";\n'
            f'Dir::State::Lists "{self._directory}/lists";\n'
            f'Dir::Cache "{self._directory}";\n'
            'APT::Sandbox::User "root";\n'
        )
        self._environment = {**os.environ, "APT_CONFIG": str(settings)}
        self._apt("apt-get", "update", "-q")

    def _apt(self, *words):
        return output(*words, env=self._environment, cwd=self._directory / "packages")

    def what_it_needs(self, package, beginning):
        """The dependency of a package whose name begins so; it has the version in its name."""
        for line in self._apt("apt-cache", "depends", package).splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends" and name.startswith(beginning):
                return name
        raise Unavailable(f"{package} needs no {beginning}*")

    def unpack(self, names, into):
        """The files of the packages below `into`; nothing is left of what does not come whole."""
        self._apt("apt-get", "download", "-q", *names)
        partial = pathlib.Path(f"{into}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in names:
            for archive in (self._directory / "packages").glob(f"{name}_*.deb"):
                output("dpkg-deb", "--extract", archive, partial)
                archive.unlink()
        shutil.rmtree(into, ignore_errors=True)
        partial.rename(into)


# Version to be asked for: suite, the package that names the newest one, how that is called, and how what it
# needs beside it is.
KERNELS = {
    "6.1": ("bookworm", "linux-image-amd64", "linux-image-6.1", None),
    "6.12": ("bookworm-backports", "linux-image-amd64", "linux-image-6.12", None),
    "7.2": ("sid", "linux-image-amd64", "linux-image-7.2", ("linux-base-", "linux-binary-", "linux-modules-")),
}


def kernel(version, cache):
    """The directory of a kernel, with boot/ and lib/modules/ as Debian has them."""
    directory = pathlib.Path(cache) / f"linux-{version}"
    os.makedirs(cache, exist_ok=True)
    with open(pathlib.Path(cache) / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            _fetch_kernel(version, cache, directory)
    return directory


def _fetch_kernel(version, cache, directory):
    suite_name, newest, beginning, parts = KERNELS[version]
    suite = Suite(suite_name, pathlib.Path(cache) / suite_name)
    image = suite.what_it_needs(newest, beginning)
    names = [image] if parts is None else [suite.what_it_needs(image, part) for part in parts]
    suite.unpack(names, directory)
    below_usr = directory / "usr/lib/modules"
    if below_usr.exists():
        (directory / "lib").mkdir(exist_ok=True)
        below_usr.rename(directory / "lib/modules")
