"""The world as it is: the running loop's clock and network, the file system, threads for blocking work.

This is the only module of the server that imports ``time``, ``socket`` or ``threading``.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import queue
import random
import shutil
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from petcd.seams.clock import Timer
from petcd.seams.disk import File, Lane
from petcd.seams.net import Address, Connection, Listener, Transport
from petcd.seams.world import World

T = TypeVar("T")

_F_OFD_SETLK: Final = 37
_BACKLOG: Final = 1024
_SHORT_SECONDS: Final = 0.0006
"""Waking another thread and being woken by it takes 20 to 60 µs, several times that where cores are few and
busy, and a lone writer waits for it with every request."""
_REFUSALS: Final = 50
"""After so many, a job is tried on the member's thread again, unless they take more than this:"""
_HOPELESS_SECONDS: Final = 0.005
_WEIGHT: Final = 1 / 16
"""Of the newest job in the average: one that took ten times as long sends the next ones to the thread."""


class LoopClock:
    """The clock of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.monotonic = time.monotonic
        self.wall_ns = time.time_ns
        self.call_soon = loop.call_soon

    def call_later(self, delay_seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        return self._loop.call_later(delay_seconds, callback, *args)

    # Filled in __init__ with the bound functions themselves; declared for the type checker.
    monotonic: Callable[[], float]
    wall_ns: Callable[[], int]
    call_soon: Callable[..., Any]


class _RealListener:
    def __init__(self, server: asyncio.AbstractServer, address: Address) -> None:
        self._server = server
        self._address = address

    @property
    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        self._server.close()


class LoopNet:
    """The network through an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def listen(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_seconds_max: float = 10.0,
    ) -> Listener:
        timeout = handshake_seconds_max if tls is not None else None
        make: Any = factory
        server: asyncio.AbstractServer
        if address.port < 0:
            server = await self._loop.create_unix_server(
                make, address.host, ssl=tls, ssl_handshake_timeout=timeout, backlog=_BACKLOG
            )
            return _RealListener(server, address)
        server = await self._loop.create_server(
            make,
            address.host or None,
            address.port,
            ssl=tls,
            ssl_handshake_timeout=timeout,
            backlog=_BACKLOG,
            reuse_address=True,
        )
        sockets: Any = getattr(server, "sockets", ())
        port = sockets[0].getsockname()[1] if sockets else address.port
        return _RealListener(server, Address(address.host, port))

    async def connect(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Transport:
        make: Any = factory
        name = (server_hostname or address.host) if tls is not None else None
        if address.port < 0:
            transport, _ = await self._loop.create_unix_connection(
                make, address.host, ssl=tls, server_hostname=name
            )
            return transport
        transport, _ = await self._loop.create_connection(
            make, address.host, address.port, ssl=tls, server_hostname=name
        )
        return transport


class RealFile:
    """A file descriptor."""

    __slots__ = ("_fd", "_path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    @property
    def path(self) -> str:
        return self._path

    def pread(self, size: int, offset: int, /) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes, offset: int, /) -> None:
        written = os.pwrite(self._fd, data, offset)
        if written != len(data):
            view = memoryview(data)
            while written < len(data):
                written += os.pwrite(self._fd, view[written:], offset + written)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def truncate(self, size: int, /) -> None:
        os.ftruncate(self._fd, size)

    def allocate(self, size: int, /) -> None:
        current = self.size()
        if size <= current:
            return
        if not hasattr(os, "posix_fallocate"):  # macOS
            os.ftruncate(self._fd, size)
            return
        try:
            os.posix_fallocate(self._fd, current, size - current)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(self._fd, size)

    def sync(self) -> None:
        os.fsync(self._fd)

    def datasync(self) -> None:
        _datasync(self._fd)

    def try_lock(self) -> bool:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(self._fd, _F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if error.errno != errno.EINVAL:
                raise
            # No open-file-description locks here (macOS): the older kind also dies with the process.
            return self.try_flock()
        return True

    def try_flock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_datasync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class ThreadLane:
    """One thread and a queue; results go back through the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._submitted = 0
        """Written by the member's thread, as ``_finished`` is by the lane's: equal when the lane is idle."""
        self._finished = 0
        self._usual_seconds = 0.0
        """What jobs took lately, on average."""
        self._refused = 0
        self._trial = False
        """The next job is run here to see how long it takes."""
        self._jobs: queue.SimpleQueue[tuple[Any, Any, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        job: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._submitted += 1
        self._jobs.put((job, done, failed))

    def is_quick(self) -> bool:
        if self._submitted != self._finished:
            return False
        if self._usual_seconds <= _SHORT_SECONDS or self._trial:
            return True
        # What the thread measures has its wait for the interpreter in it, which alone is too long while the
        # member is busy. So see for ourselves again.
        self._refused += 1
        if self._refused >= _REFUSALS and self._usual_seconds <= _HOPELESS_SECONDS:
            self._refused = 0
            self._trial = True
        return self._trial

    def try_now(self, job: Callable[[], object]) -> bool:
        if not self.is_quick():
            return False
        began = time.perf_counter()
        job()
        took = time.perf_counter() - began
        if self._trial and took <= _SHORT_SECONDS:
            self._usual_seconds = took
        self._trial = False
        self._note(took)
        return True

    def _note(self, seconds: float) -> None:
        self._usual_seconds += (seconds - self._usual_seconds) * _WEIGHT

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        take, post = self._jobs.get, self._loop.call_soon_threadsafe
        while True:
            item = take()
            if item is None:
                return
            job, done, failed = item
            began = time.perf_counter()
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - it is handed to the member, not swallowed
                answer, value = failed, error
            else:
                answer, value = done, result
            self._note(time.perf_counter() - began)
            self._finished += 1
            try:
                post(answer, value)
            except RuntimeError:  # the loop has been closed: nobody is left to tell
                return


class RealDisk:
    """The file system."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop

    def open(
        self,
        path: str,
        /,
        *,
        create: bool = False,
        exclusive: bool = False,
        readonly: bool = False,
        mode: int = 0o600,
    ) -> File:
        flags = os.O_CLOEXEC | (os.O_RDONLY if readonly else os.O_RDWR)
        if create:
            flags |= os.O_CREAT
        if exclusive:
            flags |= os.O_EXCL
        return RealFile(os.open(path, flags, mode), path)

    def read(self, path: str, /) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def exists(self, path: str, /) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str, /) -> bool:
        return os.path.isdir(path)  # noqa: PTH112 - paths are plain strings behind this seam

    def listdir(self, path: str, /) -> list[str]:
        return sorted(os.listdir(path))  # noqa: PTH208

    def mkdir(self, path: str, /, *, mode: int = 0o700) -> None:
        os.makedirs(path, mode=mode, exist_ok=True)  # noqa: PTH103

    def rename(self, source: str, target: str, /) -> None:
        os.rename(source, target)  # noqa: PTH104

    def remove(self, path: str, /) -> None:
        os.remove(path)  # noqa: PTH107

    def remove_tree(self, path: str, /) -> None:
        shutil.rmtree(path)

    def sync_dir(self, path: str, /) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lane(self, name: str, /) -> Lane:
        if self._loop is None:
            raise RuntimeError("a disk without a loop has no lanes")
        return ThreadLane(self._loop, name)


def real_world(loop: asyncio.AbstractEventLoop) -> World:
    """The seams of a member that runs for real on ``loop``."""
    return World(
        clock=LoopClock(loop),
        random=random.SystemRandom(),
        net=LoopNet(loop),
        disk=RealDisk(loop),
    )
