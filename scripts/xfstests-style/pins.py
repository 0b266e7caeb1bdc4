# SPDX-License-Identifier: Apache-2.0
#
# Leases, maps and pins as lib/pinfs/protocol.h has them, made without the library: what the tests
# of the subject `pins` share. Their names are the numbers of the rules they check.
import ctypes
import hashlib
import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time
from calls import DIRECTORY, LIBC, NAMES, checked, run

MOUNT = os.environ["TEST_MNT"]
REGION = os.environ["TEST_REGION"]
PINFS = os.path.join(os.environ["PINFS_BIN"], "pinfs")
CONTEXT = MOUNT + "/.pinfs/context"
BLOCK = 4096
KIB, MIB = 1024, 1 << 20

LAYOUT, EXCLUSIVE, SHARED = 1, 3, 7  # the three sets of flags that a lease may have
OF_CONTEXT, OF_PROCESS = 0, 1
PIN_READ = 1
MAP_NOALLOC, MAP_SELF_FLUSH, MAP_WRITE = 1, 2, 1 << 16
GONE, REVOKING, REVOKED, MEDIA_ERROR, SHUTDOWN = 1, 2, 3, 4, 5

(HELLO, GUARD, REGION_INFO, EVENT, UNMAP, RELOAD, CLEAN, UNPIN, PIN_EXTENTS, ADOPT, RECEIVE, REVOKE,
 RELEASE_HOLD) = range(1, 14)
LEASE_SET, LEASE_GET, LEASE_DROP, MAP, LAYOUT_GET, PIN, DAX_ACTIVE = range(32, 39)


class Refused(OSError):
    """A request that failed, with the daemon's sentence."""


def request(descriptor, number, head, size=320):
    """The buffer as it came back."""
    buffer = ctypes.create_string_buffer(head.ljust(size, b"\0"), size)
    code = 3 << 30 | size << 16 | 0xF5 << 8 | number
    if LIBC.ioctl(descriptor, ctypes.c_ulong(code), buffer) < 0:
        error = ctypes.get_errno()
        told, _, message = struct.unpack_from("II312s", buffer.raw)
        sentence = message.split(b"\0")[0].decode() if told == error else os.strerror(error)
        raise Refused(error, sentence)
    return buffer.raw


def extents_at(buffer, offset, count):
    return [struct.unpack_from("QQQ", buffer, offset + 24 * i) for i in range(count)]


class Pin:
    def __init__(self, buffer):
        (self.offset, self.length, self.user_data, self.id, self.generation, self.count,
         self.secret) = struct.unpack_from("6Q16s", buffer, 32)


class Map:
    """A map's record, and the mapping itself, one piece per extent; none for a user who may not
    open the region."""

    def __init__(self, context, buffer, writable):
        self.context = context
        self.offset, self.length = struct.unpack_from("QQ", buffer, 24)
        self.id, self.generation, self.total, count = struct.unpack_from("QQQI", buffer, 56)
        self.extents = extents_at(buffer, 120, count)
        assert count == self.total, (count, self.total)
        self.pieces = []
        if not os.access(REGION, os.W_OK if writable else os.R_OK):
            return
        with open(REGION, "r+b" if writable else "rb") as region:
            access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            self.pieces = [mmap.mmap(region.fileno(), length, mmap.MAP_SHARED, access, offset=at)
                           for _, at, length in self.extents]

    def read(self):
        return b"".join(piece[:] for piece in self.pieces)

    def forget(self):
        """Takes the mapping away, and leaves the record."""
        for piece in self.pieces:
            piece.close()
        self.pieces = []

    def unmap(self):
        self.forget()
        request(self.context.fd, UNMAP, struct.pack("QQQ", self.id, self.offset, self.length))


class Context:
    def __init__(self):
        self.fd = os.open(CONTEXT, os.O_RDWR | os.O_CLOEXEC)
        self.guard_id = 0
        self.guard_page = None
        self.hello()

    def hello(self):
        answer = request(self.fd, HELLO, struct.pack("IIQ", 1, 0, 0))
        self.id, self.token = struct.unpack_from("Q16s", answer, 16)

    def close(self):
        os.close(self.fd)

    def guard(self):
        """One page of the context's file, mapped as long as there are maps."""
        if self.guard_page is None:
            descriptor = os.open(CONTEXT, os.O_RDWR | os.O_CLOEXEC)
            answer = request(descriptor, GUARD, self.token)
            self.guard_id, = struct.unpack_from("Q", answer, 16)
            call = LIBC.mmap
            call.restype = ctypes.c_void_p
            page = call(None, ctypes.c_size_t(BLOCK), 0, mmap.MAP_PRIVATE, descriptor,
                        ctypes.c_long(0))
            assert page != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
            LIBC.madvise(ctypes.c_void_p(page), ctypes.c_size_t(BLOCK), mmap.MADV_DONTFORK)
            os.close(descriptor)
            self.guard_page = page
        return self.guard_id

    def end_guard(self):
        LIBC.munmap(ctypes.c_void_p(self.guard_page), ctypes.c_size_t(BLOCK))
        self.guard_page = None

    def lease(self, file, flags, offset=0, length=0, user_data=0):
        """(offset, length, id, holders) of what is held then."""
        answer = request(file, LEASE_SET,
                         struct.pack("16sIIQQQ", self.token, flags, 0, offset, length, user_data))
        at, length, _, number, holders = struct.unpack_from("5Q", answer, 24)
        return at, length, number, holders

    def lease_of(self, file, offset=0, length=0):
        """(flags, offset, length, holders) of the first lease in the range."""
        answer = request(file, LEASE_GET,
                         struct.pack("16sIIQQ", self.token, 0, 0, offset, length))
        flags, _, at, length, _, _, holders = struct.unpack_from("II5Q", answer, 16)
        return flags, at, length, holders

    def drop(self, file, offset=0, length=0):
        request(file, LEASE_DROP, struct.pack("16sIIQQ", self.token, 0, 0, offset, length))

    def pin(self, file, offset, length, owner=OF_CONTEXT, owner_fd=-1, flags=0, user_data=0):
        return Pin(request(file, PIN, struct.pack("16sIiIIQQQ", self.token, owner, owner_fd, flags,
                                                  0, offset, length, user_data)))

    def unpin(self, pin, generation=None):
        request(self.fd, UNPIN,
                struct.pack("QQ", pin.id, pin.generation if generation is None else generation))

    def pin_extents(self, pin):
        extents = []
        while True:
            answer = request(self.fd, PIN_EXTENTS,
                             struct.pack("5Q", pin.id, pin.generation, 0, 0, len(extents)), 4096)
            total, _, count = struct.unpack_from("QQI", answer, 40)
            extents += extents_at(answer, 96, count)
            if len(extents) >= total:
                return extents

    def map(self, file, offset, length, flags=0, writable=True):
        head = struct.pack("16sQQQQIi", self.token, self.guard(), offset, length, 0,
                           flags | (MAP_WRITE if writable else 0), file)
        return Map(self, request(file, MAP, head, 16000), writable)

    def reload(self, a_map, offset, length):
        """(size of the file, extents): where that part of the map lies now."""
        answer = request(self.fd, RELOAD, struct.pack("5Q", a_map.id, 0, offset, length, 0), 4096)
        size, count = struct.unpack_from("QI", answer, 48)
        return size, extents_at(answer, 96, count)

    def layout(self, file, offset, length):
        """(size, extents) of a file, as the daemon has them at this moment: the kernel may not know
        yet of a truncation that is about to return."""
        answer = request(file, LAYOUT_GET, struct.pack("5Q", 0, 0, offset, length, 0), 4096)
        size, count = struct.unpack_from("QI", answer, 48)
        return size, extents_at(answer, 96, count)

    def adopt(self, pin, secret=None):
        request(self.fd, ADOPT, struct.pack("QQ16s", pin.id, pin.generation, secret or bytes(16)))

    def receive(self, pin, token):
        request(self.fd, RECEIVE, struct.pack("QQ16s", pin.id, pin.generation, token))

    def event(self, seconds=0):
        """(type, id, offset, length) of the next event, or None."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return None
        kind, _, number, _, offset, length, _ = struct.unpack_from(
            "II5Q", request(self.fd, EVENT, b""))
        return (kind, number, offset, length) if kind else None

    def events(self, seconds=0):
        found = []
        while (event := self.event(0 if found else seconds)) is not None:
            found.append(event)
        return found


def opened(name, flags=os.O_RDWR | os.O_CREAT):
    return os.open(name, flags, 0o644)


def fresh(name, data):
    """A file with this content; its descriptor."""
    descriptor = opened(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert os.write(descriptor, data) == len(data)
    return descriptor


def extents_of(name):
    """(file block, region block, blocks, state) of a file, as user.pinfs.extents has them."""
    text = os.getxattr(name, "user.pinfs.extents").decode()
    return [(int(a), int(b), int(c), state)
            for a, b, c, state in (line.split() for line in text.splitlines())]


def place_of(name, block):
    """The region's block under a block of a file; None in a hole."""
    for at, region, count, _ in extents_of(name):
        if at <= block < at + count:
            return region + block - at
    return None


def state_of(name):
    """Size, blocks, extents and content of a file, without changing anything."""
    status = os.stat(name)
    with open(name, "rb") as file:
        content = hashlib.sha256(file.read()).hexdigest()
    return status.st_size, status.st_blocks, extents_of(name), content


def act(what, name, call, *arguments):
    """Prints `what: ok` or the name of the error; after an error also whether `name` is no longer
    as it was."""
    before = state_of(name)
    try:
        value = call(*arguments)
    except OSError as error:
        changed = "" if state_of(name) == before else ", but the file CHANGED"
        print(f"{what}: {NAMES[error.errno]}{changed}", flush=True)
        return None
    print(f"{what}: ok", flush=True)
    return value


def items(kind=None, name=None):
    """What pins.json lists, all or of one kind, of all files or one."""
    with open(MOUNT + "/.pinfs/pins.json", encoding="utf-8") as file:
        report = json.load(file)
    path = None if name is None else os.path.join(DIRECTORY, name).removeprefix(MOUNT)
    return [item for item in report["items"] if kind in (None, item["kind"])
            and path in (None, item["file"])]


def count(kind, name=None):
    return len(items(kind, name))


def becomes_true(condition, seconds=10):
    """Whether it came true before the time was over."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true


def soon(what, condition, seconds=10):
    """Prints whether it came true before the time was over."""
    print(f"{what}: {'yes' if becomes_true(condition, seconds) else 'NO'}", flush=True)


def free_blocks():
    return os.statvfs(MOUNT).f_bfree


def settled_free_blocks():
    """When nothing is freed in the background any more."""
    free = None
    while free != free_blocks():
        free = free_blocks()
        time.sleep(0.3)
    return free


def region_bytes(offset, length):
    with open(REGION, "rb") as region:
        region.seek(offset)
        return region.read(length)


class Partner:
    """Runs `work(partner)` in a process of its own; both sides say and hear what JSON can hold."""

    def __init__(self, work):
        to_child, to_parent = os.pipe(), os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(to_child[1])
                os.close(to_parent[0])
                self.source, self.sink = to_child[0], to_parent[1]
                work(self)
                status = 0
            except BaseException as error:  # whatever it is, the child ends here
                print(f"{type(error).__name__}: {error}")
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(to_child[0])
        os.close(to_parent[1])
        self.source, self.sink = to_parent[0], to_child[1]

    def say(self, value=None):
        text = json.dumps(value).encode()
        os.write(self.sink, struct.pack("I", len(text)) + text)

    def hear(self):
        head = os.read(self.source, 4)
        if len(head) < 4:
            raise EOFError("the partner has ended")
        return json.loads(os.read(self.source, struct.unpack("I", head)[0]))

    def ask(self, value=None):
        self.say(value)
        return self.hear()

    def end(self, signal=None):
        if signal is not None:
            os.kill(self.pid, signal)
        os.close(self.sink)
        os.close(self.source)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def protections(file, offset, length):
    """For a range that is pinned, and one that is leased exclusively: ("pinned" or "leased", a
    function that ends it)."""
    context = Context()
    context.lease(file, EXCLUSIVE, offset, length)
    pin = context.pin(file, offset, length)
    context.drop(file)
    yield "pinned", lambda: context.unpin(pin)
    context.lease(file, EXCLUSIVE, offset, length)
    yield "leased", lambda: context.drop(file)
    context.close()


def kill_daemon(users=()):
    """Kills the daemon and takes its mount away, which may be in use; `users` are the pids of
    others that have the region mapped."""
    found = subprocess.run(f"grep -sl -F -- {REGION} /proc/[0-9]*/maps", shell=True,
                           stdout=subprocess.PIPE, text=True).stdout
    daemon, = {int(line.split("/")[2]) for line in found.splitlines()} - {os.getpid(), *users}
    os.chdir("/")
    os.kill(daemon, signal.SIGKILL)
    subprocess.run(["umount", "-l", MOUNT], check=True)
