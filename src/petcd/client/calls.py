"""Calls with messages, on top of calls with their bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from petcd.client.credentials import Metadata

if TYPE_CHECKING:
    from petcd.pb.message import Message

M = TypeVar("M", bound="Message")


class Calls(ABC):
    """Who brings a unary call to a cluster and its answer back."""

    @abstractmethod
    async def exchange(
        self,
        path: bytes,
        message: bytes,
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  of all attempts together, told to the server
        extra: Metadata = (),
        confirm: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """One unary call, both messages encoded. Raises EtcdError.

        ``repeatable``: it changes nothing, so it may be sent again. ``confirm``: it is a write that can
        happen only once, and may be sent again too; of a later attempt it tells whether the answer shows that
        none before was acted on. Where it does not, the first failure is raised: its fate is not known.
        """

    @abstractmethod
    async def exchange_at(
        self,
        endpoint: str,
        path: bytes,
        message: bytes,
        *,
        timeout: float | None,  # noqa: ASYNC109  as above
    ) -> bytes:
        """``exchange`` at one endpoint, once, over a connection for this call alone."""

    async def call(
        self,
        path: bytes,
        request: Message,
        response: type[M],
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  as above
        extra: Metadata = (),
        confirm: Callable[[M], bool] | None = None,
    ) -> M:
        """``exchange`` of messages."""
        answer = await self.exchange(
            path,
            request.encode(),
            repeatable=repeatable,
            timeout=timeout,
            extra=extra,
            confirm=None if confirm is None else lambda answer: confirm(response.decode(answer)),
        )
        return response.decode(answer)

    async def call_at(
        self,
        endpoint: str | None,
        path: bytes,
        request: Message,
        response: type[M],
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  as above
    ) -> M:
        """``call`` at one endpoint; None: wherever the client is."""
        if endpoint is None:
            return await self.call(path, request, response, repeatable=repeatable, timeout=timeout)
        return response.decode(await self.exchange_at(endpoint, path, request.encode(), timeout=timeout))
