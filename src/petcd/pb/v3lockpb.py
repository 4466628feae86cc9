"""Package v3lockpb: messages of the Lock service.

Source: contract/wire-v3.md section 1.11.
"""

from __future__ import annotations

from petcd.pb.etcdserverpb.header import ResponseHeader
from petcd.pb.message import Message, bytes_, int64, message


class _Message(Message):
    PACKAGE = "v3lockpb"


class LockRequest(_Message):
    name: bytes = bytes_(1)
    lease: int = int64(2)


class LockResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)
    key: bytes = bytes_(2)


class UnlockRequest(_Message):
    key: bytes = bytes_(1)


class UnlockResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)
