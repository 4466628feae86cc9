"""The methods that are called, as HTTP/2 paths."""

from __future__ import annotations

from typing import Final

PUT: Final = b"/etcdserverpb.KV/Put"
RANGE: Final = b"/etcdserverpb.KV/Range"
RANGE_STREAM: Final = b"/etcdserverpb.KV/RangeStream"
DELETE_RANGE: Final = b"/etcdserverpb.KV/DeleteRange"
TXN: Final = b"/etcdserverpb.KV/Txn"
COMPACT: Final = b"/etcdserverpb.KV/Compact"
WATCH: Final = b"/etcdserverpb.Watch/Watch"
LEASE_GRANT: Final = b"/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE: Final = b"/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE: Final = b"/etcdserverpb.Lease/LeaseKeepAlive"
AUTHENTICATE: Final = b"/etcdserverpb.Auth/Authenticate"
MEMBER_LIST: Final = b"/etcdserverpb.Cluster/MemberList"
HASH_KV: Final = b"/etcdserverpb.Maintenance/HashKV"
STATUS: Final = b"/etcdserverpb.Maintenance/Status"
LOCK: Final = b"/v3lockpb.Lock/Lock"
UNLOCK: Final = b"/v3lockpb.Lock/Unlock"
