"""What ``bootstrap`` opens and ``Member`` drives."""

from __future__ import annotations

from dataclasses import dataclass

from petcd.lease import Lessor
from petcd.mvcc import Store, WatchHub
from petcd.raft import Node, Snapshot
from petcd.server.alarms import Alarms
from petcd.server.membership import Membership
from petcd.storage.backend import Backend
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal


@dataclass(slots=True, kw_only=True)
class Parts:
    """One member's open state. Its owner closes ``wal`` and ``backend``."""

    member_id: int
    cluster_id: int
    node: Node
    wal: Wal
    snapshotter: Snapshotter
    backend: Backend
    store: Store
    hub: WatchHub
    lessor: Lessor
    alarms: Alarms
    membership: Membership
    applied: int
    """The last index whose effects are in the backend; ``node`` hands out what comes after it."""
    applied_term: int
    snapshot_index: int
    restarted: bool
    install: Snapshot | None = None
    """A received snapshot that is in the log but not in the backend yet: a crash came in between. The
    member installs it before it applies anything."""
