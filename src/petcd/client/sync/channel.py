"""A connected socket for one reader and one writer at a time: read with a time limit, write what fits.

A plain socket waits in ``recv`` itself, under the kernel's own time limit: one system call where ``poll`` and
``recv`` were two. A TLS socket cannot, so there it is ``poll``; and because its two directions share one
state, a lock keeps them apart.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from _thread import allocate_lock
from typing import Any, Final

_READ_BYTES: Final = 1 << 16
_TICK_SECONDS: Final = 0.25
"""A socket's usual time limit: a longer wait is several of these."""
_TIMEVAL: Final = struct.Struct("ll")


class Channel:
    """A plain socket."""

    def __init__(self, stream: socket.socket) -> None:
        self._socket = stream
        stream.settimeout(None)
        self._recv = stream.recv
        self._short = True
        self._set_limit(_TICK_SECONDS)

    def receive(self, seconds: float) -> bytes | None:
        """What comes within ``seconds``, b"" at the end, None when nothing came, perhaps before the time is
        over. Raises OSError."""
        if self._short or seconds < _TICK_SECONDS:
            self._set_limit(seconds)
        try:
            return self._recv(_READ_BYTES)
        except BlockingIOError:
            return None

    def receive_now(self) -> bytes | None:
        """What is there. As ``receive``."""
        try:
            return self._recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def send(self, data: Any) -> int:
        """How many bytes of it fitted, 0 when the socket is full. Raises OSError."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def wait_for_room(self, seconds: float, *, reading: bool) -> bool:
        """Until it takes more; with ``reading`` also until something came, which is then the answer."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT | (select.POLLIN if reading else 0))
        return reading and any(events & ~select.POLLOUT for _, events in poll.poll(seconds * 1000.0))

    def shut(self) -> None:
        """No more bytes either way. Whoever waits for some wakes."""
        try:
            # A TLS socket's own ``shutdown`` would only forget its TLS.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first

    def close(self) -> None:
        """Give up the descriptor, when nobody uses it."""
        self._socket.close()

    def _set_limit(self, seconds: float) -> None:
        self._short = seconds < _TICK_SECONDS
        micros = max(1000, int(min(seconds, _TICK_SECONDS) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, micros))


_NOT_NOW: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class TlsChannel(Channel):
    """A socket that speaks TLS."""

    def __init__(self, stream: ssl.SSLSocket) -> None:
        stream.setblocking(False)
        self._socket = self._tls = stream
        self._lock = allocate_lock()
        self._input = select.poll()
        self._input.register(stream, select.POLLIN)

    def receive(self, seconds: float) -> bytes | None:
        with self._lock:
            waiting = self._tls.pending()
        # Not longer: what another thread could not write may be ours to write when there is room.
        if not waiting and not self._input.poll(max(0.0, min(seconds, _TICK_SECONDS)) * 1000.0):
            return None
        return self.receive_now()

    def receive_now(self) -> bytes | None:
        try:
            with self._lock:
                return self._tls.recv(_READ_BYTES)
        except _NOT_NOW:
            return None

    def send(self, data: Any) -> int:
        try:
            with self._lock:
                return self._tls.send(data)
        except _NOT_NOW:
            return 0


def open_channel(
    host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None, server_name: str
) -> Channel:
    """Connect to a TCP address, or to the Unix socket ``host`` when ``port`` is -1. Raises OSError."""
    unix = port < 0
    stream = socket.socket(socket.AF_UNIX) if unix else socket.create_connection((host, port), timeout)
    try:
        stream.settimeout(timeout)
        if unix:
            stream.connect(host)
        else:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return Channel(stream)
        return TlsChannel(tls.wrap_socket(stream, server_hostname=server_name or host or "localhost"))
    except BaseException:
        stream.close()
        raise
