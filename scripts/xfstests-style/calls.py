# SPDX-License-Identifier: Apache-2.0
#
# What the tests in Python share: system calls that Python does not know, calls whose outcome is
# printed, and other users.
import ctypes
import errno
import os
import signal
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x400, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32

# Of two names for one number, POSIX's.
NAMES = errno.errorcode | {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK"}
USER, OTHER = 1001, 1002  # two users that own nothing but what a test gives them

# Where the tests work, and a directory outside of the file system.
DIRECTORY = os.environ["TEST_DIR"]
OUTSIDE = os.environ["TEST_TMP"]


def attempt(what, call, *arguments, **named):
    """Prints `what: ok` or the name of the error; the call's value, or None."""
    try:
        value = call(*arguments, **named)
    except OSError as error:
        print(f"{what}: {NAMES[error.errno]}", flush=True)
        return None
    print(f"{what}: ok", flush=True)
    return value


def show(what, value):
    print(f"{what}: {value}", flush=True)


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old, new, flags):
    checked(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def fallocate(descriptor, mode, offset, length):
    checked(LIBC.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def link_descriptor(descriptor, name):
    """A name for an open file."""
    checked(LIBC.linkat(descriptor, b"", AT_FDCWD, os.fsencode(name), AT_EMPTY_PATH))


def link_by_proc(descriptor, name):
    """The same by its path in /proc, which takes no capability."""
    checked(LIBC.linkat(AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD,
                        os.fsencode(name), AT_SYMLINK_FOLLOW))


def child(work, *arguments, uid=0, gid=None, groups=()):
    """Runs `work` in a process of its own, as that user where uid is not 0; its exit status,
    negative for a signal. What is raised there is printed and gives 1."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if uid != 0:
                os.setgroups(list(groups))
                os.setresgid(*[uid if gid is None else gid] * 3)
                os.setresuid(uid, uid, uid)
            work(*arguments)
            status = 0
        except BaseException as error:  # whatever it is, the child ends here
            print(f"{type(error).__name__}: {error}")
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_once(*works):
    """Runs the functions in processes at the same time; true if all ended with status 0."""
    sys.stdout.flush()
    pids = []
    for work in works:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}")
            finally:
                sys.stdout.flush()
                os._exit(status)
        pids.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)


def put(name, data=b"", mode=0o644):
    """Makes the file, or empties it, and writes `data`."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        while data:
            data = data[os.write(descriptor, data):]
    finally:
        os.close(descriptor)


def get(name):
    with open(name, "rb") as file:
        return file.read()


def pattern(seed, length):
    """Bytes that are nowhere zero and differ from place to place and seed to seed."""
    return bytes(1 + (seed * 31 + i + i // 251) % 255 for i in range(length))


def runs(data):
    """Bytes as runs of one value: `4096*00 10*61`."""
    parts = []
    begin = 0
    for i in range(1, len(data) + 1):
        if i == len(data) or data[i] != data[begin]:
            parts.append(f"{i - begin}*{data[begin]:02x}")
            begin = i
    return " ".join(parts) or "empty"


def signal_of(work, *arguments):
    """The name of the signal that ends `work` in a process of its own, or `none`."""
    status = child(work, *arguments)
    return signal.Signals(-status).name if status < 0 else "none"


def run(*words):
    """Runs a program that must succeed; what it printed."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def remount(*words):
    """Unmounts the file system and mounts it again, with these options beside the run's own; with
    --crash as first word the daemon is killed instead."""
    sys.stdout.flush()
    os.chdir("/")
    run(os.path.join(os.path.dirname(os.path.abspath(__file__)), "remount"), *words)
    os.chdir(DIRECTORY)
