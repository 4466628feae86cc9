"""Package authpb: users, roles and permissions as stored.

Source: contract/wire-v3.md section 1.5.
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from enum import IntEnum

from petcd.pb.message import Message, bool_, bytes_, enum, enumeration, message, repeated, repeated_string


class _Message(Message):
    PACKAGE = "authpb"


class UserAddOptions(_Message):
    no_password: bool = bool_(1)


class User(_Message):
    name: bytes = bytes_(1)
    password: bytes = bytes_(2)
    roles: list[str] = repeated_string(3)
    options: UserAddOptions | None = message(4, UserAddOptions)


@enumeration("authpb.Permission.Type")
class Type(IntEnum):
    READ = 0
    WRITE = 1
    READWRITE = 2


class Permission(_Message):
    permType: int = enum(1, Type)
    key: bytes = bytes_(2)
    range_end: bytes = bytes_(3)


class Role(_Message):
    name: bytes = bytes_(1)
    keyPermission: list[Permission] = repeated(2, Permission)
