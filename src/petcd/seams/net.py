"""The network: connections as asyncio's protocols and transports, so that the real one is asyncio itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Address(NamedTuple):
    """A TCP address, or a Unix socket's path when ``port`` is -1."""

    host: str
    port: int


class Transport(Protocol):
    """What a connection may do with its socket; asyncio's transports fit."""

    def write(self, data: bytes, /) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None, /) -> Any: ...


class Connection(Protocol):
    """What a connection is told; the shape of ``asyncio.Protocol``."""

    def connection_made(self, transport: Any, /) -> None: ...

    def data_received(self, data: bytes, /) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Listener(Protocol):
    @property
    def address(self) -> Address:
        """Where it listens; a port given as 0 has become a real one."""
        ...

    def close(self) -> None:
        """Accept no more; established connections stay."""
        ...


class Net(Protocol):
    async def listen(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_seconds_max: float = 10.0,
    ) -> Listener: ...

    async def connect(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Transport:
        """Raises OSError when nobody answers."""
        ...
