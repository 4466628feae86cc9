"""Leases, members, maintenance and authentication, for threads."""

from __future__ import annotations

from collections.abc import Iterator

from petcd.client.auth import Auth as AsyncAuth
from petcd.client.cluster import Cluster as AsyncCluster
from petcd.client.leases import Leases as AsyncLeases
from petcd.client.maintenance import Maintenance as AsyncMaintenance
from petcd.client.sync.blocked import Blocked, blocked, streamed


class Leases(Blocked[AsyncLeases]):
    """The lease calls of a client or of a namespace."""

    grant = blocked(AsyncLeases.grant)
    revoke = blocked(AsyncLeases.revoke)
    time_to_live = blocked(AsyncLeases.time_to_live)
    list = blocked(AsyncLeases.list)
    keep_alive_once = streamed(AsyncLeases.keep_alive_once)


class Cluster(Blocked[AsyncCluster]):
    """The calls of the Cluster service. A change is refused while it would cost the quorum."""

    members = blocked(AsyncCluster.members)
    add = blocked(AsyncCluster.add)
    promote = blocked(AsyncCluster.promote)
    update = blocked(AsyncCluster.update)
    remove = blocked(AsyncCluster.remove)


class Maintenance(Blocked[AsyncMaintenance]):
    """Calls that concern a member's storage. ``endpoint`` names the member; None: the one in use."""

    status = blocked(AsyncMaintenance.status)
    alarms = blocked(AsyncMaintenance.alarms)
    disarm = blocked(AsyncMaintenance.disarm)
    arm = blocked(AsyncMaintenance.arm)
    defragment = blocked(AsyncMaintenance.defragment)
    hash = blocked(AsyncMaintenance.hash)
    hash_kv = blocked(AsyncMaintenance.hash_kv)
    move_leader = blocked(AsyncMaintenance.move_leader)
    downgrade_validate = blocked(AsyncMaintenance.downgrade_validate)
    downgrade_enable = blocked(AsyncMaintenance.downgrade_enable)
    downgrade_cancel = blocked(AsyncMaintenance.downgrade_cancel)
    save_snapshot = streamed(AsyncMaintenance.save_snapshot)

    def snapshot(self, endpoint: str | None = None) -> Iterator[bytes]:
        """The member's backend as a file in pieces; the last 32 bytes are the SHA-256 of the rest."""
        return self._portal.iterate(lambda client: self._of(client).snapshot(endpoint))


class Auth(Blocked[AsyncAuth]):
    """The calls of the Auth service. All but ``status`` and ``authenticate`` need a user of the root role
    while authentication is on."""

    status = blocked(AsyncAuth.status)
    enable = blocked(AsyncAuth.enable)
    disable = blocked(AsyncAuth.disable)
    authenticate = blocked(AsyncAuth.authenticate)
    users = blocked(AsyncAuth.users)
    user = blocked(AsyncAuth.user)
    add_user = blocked(AsyncAuth.add_user)
    delete_user = blocked(AsyncAuth.delete_user)
    change_password = blocked(AsyncAuth.change_password)
    grant_role = blocked(AsyncAuth.grant_role)
    revoke_role = blocked(AsyncAuth.revoke_role)
    roles = blocked(AsyncAuth.roles)
    role = blocked(AsyncAuth.role)
    add_role = blocked(AsyncAuth.add_role)
    delete_role = blocked(AsyncAuth.delete_role)
    grant_permission = blocked(AsyncAuth.grant_permission)
    revoke_permission = blocked(AsyncAuth.revoke_permission)
