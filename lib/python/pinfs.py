# SPDX-License-Identifier: Apache-2.0
"""libpinfs: leases, direct maps and pins on a pinfs mount.

    with pinfs.Context("/mnt") as context, open("/mnt/file", "r+b") as file:
        with pinfs.Lease(context, file, pinfs.LEASE_LAYOUT), pinfs.Map(context, file, 0, 4096) as data:
            data.view[0:5] = b"words"
            data.persist(0, 5)

What fails raises OSError with errno and the library's sentence. The manual page libpinfs(7) tells
the whole story. Everything may be called from any thread.
"""

import ctypes
import mmap
import os
import weakref
from collections import namedtuple

LEASE_LAYOUT, LEASE_EXCLUSIVE, LEASE_SHARED = 1, 2, 4
OWNER_CONTEXT, OWNER_PROCESS = 0, 1
PIN_READ = 1
MAP_NOALLOC, MAP_SELF_FLUSH = 1, 2
DAX_FLAG, DAX_ACTIVE = 1, 2
EVENT_GONE, EVENT_REVOKING, EVENT_REVOKED, EVENT_MEDIA_ERROR, EVENT_SHUTDOWN = 1, 2, 3, 4, 5
KIND_DEVDAX, KIND_FSDAX, KIND_TMPFS, KIND_HUGETLB, KIND_FILE = 1, 2, 3, 4, 5
FLUSH_PAGE, FLUSH_LINE, FLUSH_NONE = 1, 2, 3
TO_END = 0

Event = namedtuple("Event", "type id user_data offset_bytes length_bytes deadline_ns")
Extent = namedtuple("Extent", "file_offset_bytes region_offset_bytes length_bytes")

_U32, _U64, _INT, _SIZE = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int, ctypes.c_size_t
_POINTER, _CONTEXT = ctypes.c_void_p, ctypes.c_void_p


class _Sized(ctypes.Structure):
    def __init__(self, **fields):
        super().__init__(size_bytes=ctypes.sizeof(self), **fields)


class _Lease(_Sized):
    _fields_ = [("size_bytes", _U32), ("flags", _U32), ("offset_bytes", _U64), ("length_bytes", _U64),
                ("user_data", _U64), ("id", _U64), ("holders", _U64)]


class _Event(_Sized):
    _fields_ = [("size_bytes", _U32), ("type", _U32), ("id", _U64), ("user_data", _U64),
                ("offset_bytes", _U64), ("length_bytes", _U64), ("deadline_ns", _U64)]


class _Pin(_Sized):
    _fields_ = [("size_bytes", _U32), ("owner", _U32), ("owner_fd", ctypes.c_int32), ("flags", _U32),
                ("offset_bytes", _U64), ("length_bytes", _U64), ("user_data", _U64), ("id", _U64),
                ("generation", _U64), ("extent_count", _U64), ("secret", ctypes.c_uint8 * 16)]


class _RegionInfo(_Sized):
    _fields_ = [("size_bytes", _U32), ("kind", _U32), ("flush", _U32), ("pinnable", _U32),
                ("map_sync", _U32), ("persistent", _U32), ("length_bytes", _U64), ("block_bytes", _U64),
                ("map_align_bytes", _U64), ("huge_bytes", _U64), ("pin_limit_bytes", _U64),
                ("pinned_bytes", _U64), ("uuid", ctypes.c_uint8 * 16), ("device", _U64)]


class _Extent(ctypes.Structure):
    _fields_ = [("file_offset_bytes", _U64), ("region_offset_bytes", _U64), ("length_bytes", _U64),
                ("flags", _U32), ("reserved", _U32)]


class _Piece(ctypes.Structure):  # struct iovec
    _fields_ = [("address", _POINTER), ("length_bytes", _SIZE)]


_library = ctypes.CDLL(os.environ.get("PINFS_LIBRARY", "libpinfs.so.1"))
_library.pinfs_last_error.restype = ctypes.c_char_p


def _function(name, *arguments, result=_INT):
    function = getattr(_library, "pinfs_" + name)
    function.argtypes = arguments
    function.restype = result

    def call(*values):
        answer = function(*values)
        if answer is not None and answer < 0:
            raise OSError(-answer, _library.pinfs_last_error().decode(errors="replace"))
        return answer

    return call


_context_open = _function("context_open", ctypes.c_char_p, _U32, ctypes.POINTER(_CONTEXT))
_context_close = _function("context_close", _CONTEXT, result=None)
_context_fd = _function("context_fd", _CONTEXT)
_next_event = _function("context_next_event", _CONTEXT, ctypes.POINTER(_Event), _INT)
_region_info = _function("region_info", _CONTEXT, ctypes.POINTER(_RegionInfo))
_dax_set = _function("dax_set", _INT, _INT)
_dax_get = _function("dax_get", _INT)
_lease_set = _function("lease_set", _CONTEXT, _INT, ctypes.POINTER(_Lease))
_lease_get = _function("lease_get", _CONTEXT, _INT, ctypes.POINTER(_Lease))
_lease_drop = _function("lease_drop", _CONTEXT, _INT, _U64, _U64)
_map = _function("map", _CONTEXT, _INT, _U64, _U64, _INT, _U32, ctypes.POINTER(_POINTER))
_unmap = _function("unmap", _CONTEXT, _POINTER, _U64)
_layout = _function("layout", _CONTEXT, _INT, _U64, _U64, ctypes.POINTER(_Extent), _SIZE,
                    ctypes.POINTER(_U64), result=ctypes.c_ssize_t)
_persist = _function("persist", _POINTER, _SIZE)
_msync = _function("msync", _CONTEXT, _POINTER, _SIZE)
_pin = _function("pin", _CONTEXT, _INT, ctypes.POINTER(_Pin))
_unpin = _function("unpin", _CONTEXT, _U64, _U64)
_pin_adopt = _function("pin_adopt", _CONTEXT, _U64, _U64, ctypes.c_char_p)
_pin_transfer = _function("pin_transfer", _CONTEXT, _U64, _U64, _INT)
_pin_extents = _function("pin_extents", _CONTEXT, _U64, _U64, _U64, ctypes.POINTER(_Extent), _SIZE,
                         result=ctypes.c_ssize_t)
_pin_iovec = _function("pin_iovec", _CONTEXT, _U64, _U64, _SIZE, ctypes.POINTER(_Piece), _SIZE,
                       result=ctypes.c_ssize_t)


def _descriptor(file):
    return file if isinstance(file, int) else file.fileno()


def version():
    """(major, minor) of the library that runs."""
    _library.pinfs_version.restype = _U32
    number = _library.pinfs_version()
    return number >> 16, number & 0xFFFF


def dax_get(file):
    return _dax_get(_descriptor(file))


def dax_set(file, on):
    _dax_set(_descriptor(file), int(on))


class Context:
    """Has the events, maps and pins of a program on one mount: pinfs_context_open(3)."""

    def __init__(self, path_in_mount):
        self._context = _CONTEXT()
        _context_open(os.fsencode(path_in_mount), 0, ctypes.byref(self._context))

    def close(self):
        """Ends its maps and the pins it owns."""
        context, self._context = self._context, None
        if context:
            _context_close(context)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self):
        """For select and poll: readable means that an event waits."""
        return _context_fd(self._context)

    def next_event(self, timeout_ms=-1):
        """An Event, or None if none came in time."""
        event = _Event()
        if _next_event(self._context, ctypes.byref(event), timeout_ms) == 0:
            return None
        return Event(*(getattr(event, name) for name in Event._fields))

    def region_info(self):
        """A dict of what pinfs_region_info(3) says."""
        info = _RegionInfo()
        _region_info(self._context, ctypes.byref(info))
        answer = {name: getattr(info, name) for name, _ in _RegionInfo._fields_ if name != "size_bytes"}
        answer["uuid"] = bytes(info.uuid)
        return answer

    def layout(self, file, offset_bytes, length_bytes):
        """(generation of the layout, list of Extent)."""
        generation = _U64()
        capacity = 64
        while True:
            extents = (_Extent * capacity)()
            count = _layout(self._context, _descriptor(file), offset_bytes, length_bytes, extents,
                            capacity, ctypes.byref(generation))
            if count <= capacity:
                return generation.value, _extents(extents[:count])
            capacity = count

    def lease(self, file, offset_bytes=0, length_bytes=TO_END):
        """(flags, offset, length, holders) of the lease that this open file has there."""
        lease = _Lease(offset_bytes=offset_bytes, length_bytes=length_bytes)
        _lease_get(self._context, _descriptor(file), ctypes.byref(lease))
        return lease.flags, lease.offset_bytes, lease.length_bytes, lease.holders


def _extents(extents):
    return [Extent(e.file_offset_bytes, e.region_offset_bytes, e.length_bytes) for e in extents]


class Lease:
    """pinfs_lease_set(3); dropped at the end of a with statement. Keeps the file open."""

    def __init__(self, context, file, flags, offset_bytes=0, length_bytes=TO_END, user_data=0):
        lease = _Lease(flags=flags, offset_bytes=offset_bytes, length_bytes=length_bytes,
                       user_data=user_data)
        _lease_set(context._context, _descriptor(file), ctypes.byref(lease))
        self._context, self._file = context, file
        self.id, self.holders = lease.id, lease.holders
        self.offset_bytes, self.length_bytes = lease.offset_bytes, lease.length_bytes

    def drop(self):
        file, self._file = self._file, None
        if file is not None:
            _lease_drop(self._context._context, _descriptor(file), self.offset_bytes, self.length_bytes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()


class Map:
    """pinfs_map(3). `view` is a memoryview of the bytes; so is memoryview(map) from Python 3.12 on."""

    def __init__(self, context, file, offset_bytes, length_bytes, writable=True, flags=0):
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _POINTER()
        _map(context._context, _descriptor(file), offset_bytes, length_bytes, protection, flags,
             ctypes.byref(address))
        self._context, self.address, self.length_bytes = context, address.value, length_bytes
        self._writable = writable
        memory = (ctypes.c_char * length_bytes).from_address(self.address)
        self._memory = weakref.ref(memory)
        self._show(memory)

    def _show(self, memory):
        view = memoryview(memory).cast("B")
        self.view = view if self._writable else view.toreadonly()

    def __buffer__(self, _flags):
        return self.view

    def __len__(self):
        return self.length_bytes

    def persist(self, offset=0, length_bytes=None):
        """pinfs_persist(3)."""
        _persist(*self._part(offset, length_bytes))

    def sync(self, offset=0, length_bytes=None):
        """pinfs_msync(3)."""
        _msync(self._context._context, *self._part(offset, length_bytes))

    def _part(self, offset, length_bytes):
        end = self.length_bytes if length_bytes is None else offset + length_bytes
        if not 0 <= offset <= end <= self.length_bytes:
            raise ValueError("the range is not inside the map")
        return self.address + offset, end - offset

    def unmap(self):
        """BufferError while somebody has a part of the view: it would read what is no longer there."""
        if self.view is None:
            return
        view, self.view = self.view, None
        del view
        if self._memory() is not None:
            self._show(self._memory())
            raise BufferError("somebody has a part of the map's view")
        _unmap(self._context._context, self.address, self.length_bytes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unmap()


class Pin:
    """pinfs_pin(3); unpinned at the end of a with statement: after the device's access to it."""

    def __init__(self, context, file, offset_bytes, length_bytes, flags=0, owner=OWNER_CONTEXT,
                 owner_fd=-1, user_data=0):
        pin = _Pin(offset_bytes=offset_bytes, length_bytes=length_bytes, flags=flags, owner=owner,
                   owner_fd=owner_fd, user_data=user_data)
        _pin(context._context, _descriptor(file), ctypes.byref(pin))
        self._take(context, pin.id, pin.generation, bytes(pin.secret))
        self.offset_bytes, self.length_bytes = pin.offset_bytes, pin.length_bytes

    def _take(self, context, number, generation, secret):
        self._context, self.id, self.generation, self.secret = context, number, generation, secret

    @classmethod
    def adopt(cls, context, number, generation, secret=None):
        """A pin that outlived a crash of the daemon: pinfs_pin_adopt(3)."""
        if secret is not None and len(secret) != 16:
            raise ValueError("a secret has 16 bytes")
        _pin_adopt(context._context, number, generation, secret)
        pin = cls.__new__(cls)
        pin._take(context, number, generation, secret)
        return pin

    def transfer(self, to):
        """To another Context, or the descriptor of one."""
        _pin_transfer(self._context._context, self.id, self.generation, _descriptor(to))
        self._context = None

    def extents(self):
        extents = []
        while True:
            room = max(256, len(extents))
            page = (_Extent * room)()
            count = _pin_extents(self._context._context, self.id, self.generation, len(extents), page, room)
            if count == 0:
                return extents
            extents += _extents(page[:count])

    def pieces(self, piece_max_bytes=0):
        """[(address, length)]: where the context's maps show it."""
        capacity = 64
        while True:
            pieces = (_Piece * capacity)()
            count = _pin_iovec(self._context._context, self.id, self.generation, piece_max_bytes, pieces,
                               capacity)
            if count <= capacity:
                return [(piece.address, piece.length_bytes) for piece in pieces[:count]]
            capacity = count

    def unpin(self):
        context, self._context = self._context, None
        if context is not None:
            _unpin(context._context, self.id, self.generation)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unpin()
