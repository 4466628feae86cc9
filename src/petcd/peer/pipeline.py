"""Messages by single posts, for a member whose streams are not up.

At most ``POSTS_MAX`` are under way and ``QUEUED_MAX`` wait; the next is refused.
Source: contract page "peer", 2.5 and 3.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from petcd.peer.codec import encode_message
from petcd.peer.identity import CLUSTER_MISMATCH, INCOMPATIBLE
from petcd.peer.local import Local, PeerStatus, UrlPicker
from petcd.peer.pool import Call, HttpPool
from petcd.raft import Message
from petcd.server.ids import hex_id
from petcd.server.peering import PeerAnswer
from petcd.server.url import Url

POSTS_MAX: Final = 4
QUEUED_MAX: Final = 64
_ANSWER_SECONDS_MAX: Final = 5.0
PROTOBUF: Final = ("Content-Type", "application/protobuf")
_SOURCE: Final = "pipeline"


class Pipeline:
    __slots__ = ("_calls", "_closed", "_headers", "_local", "_picker", "_pool", "_queue", "_status")

    def __init__(self, local: Local, pool: HttpPool, picker: UrlPicker, status: PeerStatus) -> None:
        self._local = local
        self._pool = pool
        self._picker = picker
        self._status = status
        self._queue: deque[bytes] = deque()
        self._calls: dict[Call, None] = {}
        self._headers = [PROTOBUF, *local.identity.common]
        self._closed = False

    def post(self, message: Message) -> bool:
        """Take a message. False: too many wait."""
        if len(self._queue) >= QUEUED_MAX:
            return False
        body = encode_message(message)
        if len(self._calls) >= POSTS_MAX:
            self._queue.append(body)
        else:
            self._send(body)
        return True

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        for call in list(self._calls):
            call.cancel()
        self._calls.clear()

    def _send(self, body: bytes) -> None:
        url = self._picker.pick()
        if url is None:
            self._status.deactivate("write", _SOURCE, "no usable peer URL")
            self._local.unreachable(self._status.member_id)
            return
        holder: list[Call] = []
        call = self._pool.request(
            url,
            "POST",
            "/raft",
            self._headers,
            partial(self._answered, url, len(body), holder),
            body=body,
            seconds_max=self._local.dial_seconds + _ANSWER_SECONDS_MAX,
            reuse=True,
        )
        holder.append(call)
        self._calls[call] = None

    def _answered(self, url: Url, size: int, holder: list[Call], answer: PeerAnswer) -> None:
        for call in holder:
            self._calls.pop(call, None)
        if self._closed:
            return
        status = self._status
        if answer.status == 204:
            status.activate()
            status.counters.sent_bytes += size
        else:
            self._picker.failed(url)
            status.counters.sent_failures += 1
            status.deactivate("write", _SOURCE, self._reason(answer))
            self._local.unreachable(status.member_id)
            if answer.status == 403:
                self._local.removed()
                return
        while self._queue and len(self._calls) < POSTS_MAX:
            self._send(self._queue.popleft())

    def _reason(self, answer: PeerAnswer) -> str:
        return post_failure(self._local, self._status.member_id, answer)


def post_failure(local: Local, member_id: int, answer: PeerAnswer) -> str:
    """What an answer other than 204 to a post means; logged where etcd logs it."""
    text = answer.body[:200].decode("utf-8", "replace").strip()
    fields = {"local-member-id": local.identity.member_hex, "remote-peer-id": hex_id(member_id)}
    if answer.status == 0:
        return text
    if answer.status == 403:
        return "the member has been permanently removed from the cluster"
    if answer.status == 412 and text == CLUSTER_MISMATCH:
        local.logger.error("request sent was ignored due to cluster ID mismatch", **fields)
        return text
    if answer.status == 412 and text == INCOMPATIBLE:
        local.logger.error("request sent was ignored by peer due to server version incompatibility", **fields)
        return text
    return f"unexpected http status {answer.status} while posting: {text}"
