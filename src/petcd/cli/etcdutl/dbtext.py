"""Records of a database in words, by bucket (contract cli section 7.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdutl.prototext import text
from petcd.mvcc.keyvalue import decode
from petcd.mvcc.revision import TOMBSTONE_BYTES, main_of, sub_of
from petcd.pb.authpb import Role, User
from petcd.pb.leasepb import Lease
from petcd.storage import schema
from petcd.storage.schema import Bucket


def key_record(key: bytes, value: bytes) -> str:
    """A revision of a key."""
    kv = decode(value)
    tombstone = "true" if len(key) == TOMBSTONE_BYTES else "false"
    return (
        f"rev={{Revision:{{Main:{main_of(key)} Sub:{sub_of(key)}}} tombstone:{tombstone}}}, "
        f"value=[key {quote(kv.key)} | val {quote(kv.value)} | created {kv.create_revision} | "
        f"mod {kv.mod_revision} | ver {kv.version}]"
    )


def _lease(key: bytes, value: bytes) -> str:
    lease = Lease.decode(value)
    number = int.from_bytes(key, "big")
    return f"lease ID={number:016x}, TTL={lease.TTL}s, remaining TTL={lease.RemainingTTL}s"


def _auth(key: bytes, value: bytes) -> str:
    if key == schema.AUTH_REVISION:
        return f"key={quote(key)}, value={int.from_bytes(value, 'big')}"
    return f"key={quote(key)}, value=[{' '.join(map(str, value))}]"


def _role(_key: bytes, value: bytes) -> str:
    role = Role.decode(value)
    permissions = " ".join(text(permission) for permission in role.keyPermission)
    return f"role={quote(role.name)}, keyPermission=[{permissions}]"


def _user(_key: bytes, value: bytes) -> str:
    user = User.decode(value)
    roles = " ".join(map(quote, user.roles))
    options = text(user.options) if user.options is not None else "<nil>"
    return f"user={quote(user.name)}, roles=[{roles}], option={options}"


def _meta(key: bytes, value: bytes) -> str:
    if key in (schema.CONSISTENT_INDEX, schema.TERM):
        return f"key={quote(key)}, value={int.from_bytes(value, 'big')}"
    if key in (schema.SCHEDULED_COMPACT_REV, schema.FINISHED_COMPACT_REV):
        return f"key={quote(key)}, value={{Main:{main_of(value)} Sub:{sub_of(value)}}}"
    return f"key={quote(key)}, value={quote(value)}"


DECODERS: Final[dict[Bucket, Callable[[bytes, bytes], str]]] = {
    schema.KEY: key_record,
    schema.LEASE: _lease,
    schema.AUTH: _auth,
    schema.AUTH_ROLES: _role,
    schema.AUTH_USERS: _user,
    schema.META: _meta,
}
"""Of the other buckets records are shown as they are."""
