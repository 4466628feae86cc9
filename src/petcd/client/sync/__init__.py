"""The synchronous client: ``from petcd.client.sync import Client``. See docs/client-sync.md.

Operations, results and errors are those of ``petcd.client``.
"""

from __future__ import annotations

from petcd.client.sync.client import Client
from petcd.client.sync.keyspace import Keyspace
from petcd.client.sync.leases import Lease
from petcd.client.sync.services import Auth, Cluster, Leases, Maintenance
from petcd.client.sync.transaction import Transaction
from petcd.client.sync.watches import Watch

__all__ = [
    "Client",
    "Keyspace",
    "Transaction",
    "Watch",
    "Lease",
    "Leases",
    "Maintenance",
    "Cluster",
    "Auth",
]
