"""Get and put straight to and from bytes: most calls of most programs are these.

A message object on the way costs as much as all the rest of the client's work on such a call. What looks
different from what servers write goes through the messages; both ways give the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from petcd.client.results import GetResult, KeyValue, PutResult, get_result, put_result
from petcd.pb import mvccpb
from petcd.pb.codegen import compile_decode
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.wire import VARINTS, DecodeError, long_varint, varint

_SIZES: Final = len(VARINTS)
# Tags: of a response, of its header, and of what a RangeResponse has more.
_HEADER, _CLUSTER_ID, _MEMBER_ID, _REVISION, _RAFT_TERM = 0x0A, 0x08, 0x10, 0x18, 0x20
_KVS, _MORE, _COUNT = 0x12, 0x18, 0x20


def get_request(key: bytes) -> bytes:
    """A RangeRequest for one key, which is not empty, without options."""
    size = len(key)
    return b"\n" + (VARINTS[size] if size < _SIZES else varint(size)) + key


def put_request(key: bytes, value: bytes, lease: int) -> bytes:
    """A PutRequest without options; the key is not empty."""
    size, length = len(key), len(value)
    if lease or not length or size >= _SIZES or length >= _SIZES:
        return pb.PutRequest(key=key, value=value, lease=lease).encode()
    return b"\n%b%b\x12%b%b" % (VARINTS[size], key, VARINTS[length], value)


@cache
def _pair_decoder() -> Callable[[bytes, int, int], KeyValue]:
    return compile_decode(mvccpb.KeyValue, row=KeyValue)


class Answers:
    """Reads the answers to gets and puts.

    The header of a response names cluster and member before the revision. They are the same from one answer
    to the next, until another member answers; so they are compared, not read.
    """

    __slots__ = ("_known", "_pair")

    def __init__(self) -> None:
        self._pair = _pair_decoder()
        # How the last answer began, up to the tag of the revision, and where its header ended. One tuple,
        # because threads share this. No message begins as it does at first.
        self._known = b"\0", 0

    def put(self, data: bytes, skip: int) -> PutResult:
        """A PutResponse, its key without the first ``skip`` bytes. Raises DecodeError."""
        start, end = self._known
        if len(data) == end and data.startswith(start):
            revision = _revision(data, len(start), end)
            if revision:
                return PutResult(revision)
        response = pb.PutResponse.decode(data)
        self._learn(data)
        return put_result(response, skip)

    def get(self, data: bytes, skip: int) -> GetResult:
        """A RangeResponse, its keys without their first ``skip`` bytes. Raises DecodeError."""
        start, end = self._known
        revision = _revision(data, len(start), end) if data.startswith(start) else 0
        result = self._usual(data, end, revision) if revision else None
        if result is None:
            response = pb.RangeResponse.decode(data)
            self._learn(data)
            return get_result(response, skip)
        if skip:
            result.kvs = tuple([kv._replace(key=kv.key[skip:]) for kv in result.kvs])
        return result

    def _usual(self, data: bytes, at: int, revision: int) -> GetResult | None:
        """A RangeResponse whose header is known and whose fields stand in order; else None."""
        decode = self._pair
        kvs: list[KeyValue] = []
        size = len(data)
        more, count = False, 0
        try:
            while at < size and data[at] == _KVS:
                length = data[at + 1]
                at += 2
                if length > 127:
                    length, at = long_varint(data, at - 1)
                end = at + length
                kvs.append(decode(data, at, end))
                at = end
            if at < size and data[at] == _MORE:
                number, at = long_varint(data, at + 1)
                more = number != 0
            if at < size and data[at] == _COUNT:
                count, at = long_varint(data, at + 1)
        except IndexError:
            return None
        if at != size or count >> 63:
            return None
        return GetResult(revision, tuple(kvs), more, count)

    def _learn(self, data: bytes) -> None:
        """Remember the header of an answer that was decoded, where it is as servers write it."""
        try:
            if data[0] != _HEADER or data[2] != _CLUSTER_ID:
                return
            end = 2 + data[1]
            _, at = long_varint(data, 3)
            if data[at] != _MEMBER_ID:
                return
            _, at = long_varint(data, at + 1)
            if data[at] != _REVISION or not at + 1 < end < 128:
                return
        except IndexError:
            return
        self._known = data[: at + 1], end


def _revision(data: bytes, at: int, end: int) -> int:
    """The revision at ``at``, 0 where the header does not go on to its end as servers write it."""
    try:
        revision, at = long_varint(data, at)
        if data[at] != _RAFT_TERM:
            return 0
        at += 1
        if data[at] > 127:
            _, at = long_varint(data, at)
        else:
            at += 1
    except (IndexError, DecodeError):
        return 0
    return revision if at == end and not revision >> 63 else 0
