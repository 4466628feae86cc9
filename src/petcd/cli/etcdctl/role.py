"""role add, delete, get, list, grant-permission and revoke-permission (contract cli section 3.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from petcd.cli.etcdctl.commands import Leaf, bad_args
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import FlagSet, boolean
from petcd.cli.etcdctl.kv import FROM_KEY_END, prefix_end
from petcd.cli.etcdctl.methods import AUTH
from petcd.pb import authpb
from petcd.pb.etcdserverpb import auth as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_KINDS: Final = {"READ": 0, "WRITE": 1, "READWRITE": 2}


def _call(context: Context, method: str, request: Any, response: Any, *, read: bool = False) -> Any:
    return context.timeless().call(AUTH + method, request, response, read=read)


def _one(context: Context, what: str) -> str:
    if len(context.arguments) != 1:
        bad_args(f"role {what} command requires role name as its argument")
    return context.arguments[0]


def _add(context: Context) -> None:
    role = _one(context, "add")
    response = _call(context, "RoleAdd", pb.AuthRoleAddRequest(name=role), pb.AuthRoleAddResponse)
    context.printer.role_add(role, response)


def _delete(context: Context) -> None:
    role = _one(context, "delete")
    response = _call(context, "RoleDelete", pb.AuthRoleDeleteRequest(role=role), pb.AuthRoleDeleteResponse)
    context.printer.role_delete(role, response)


def _get(context: Context) -> None:
    role = _one(context, "get")
    response = _call(context, "RoleGet", pb.AuthRoleGetRequest(role=role), pb.AuthRoleGetResponse, read=True)
    context.printer.role_get(role, response)


def _list(context: Context) -> None:
    if context.arguments:
        bad_args("role list command requires no arguments")
    response = _call(context, "RoleList", pb.AuthRoleListRequest(), pb.AuthRoleListResponse, read=True)
    context.printer.role_list(response)


def _range(flags: FlagSet, arguments: list[str]) -> tuple[bytes, bytes]:
    if flags["from-key"] and flags["prefix"]:
        bad_args("--from-key and --prefix flags are mutually exclusive")
    key = raw(arguments[0])
    if len(arguments) > 1:
        if flags["prefix"]:
            bad_args("unexpected endkey argument with --prefix flag")
        if flags["from-key"]:
            bad_args("unexpected endkey argument with --from-key flag")
        return key, raw(arguments[1])
    if flags["prefix"]:
        return (key, prefix_end(key)) if key else (b"\0", FROM_KEY_END)
    if flags["from-key"]:
        return key or b"\0", FROM_KEY_END
    return key, b""


def _grant_permission(context: Context) -> None:
    arguments = context.arguments
    if not 3 <= len(arguments) <= 4:
        bad_args("role grant command requires role name, permission type, and key [endkey] as its argument")
    kind = _KINDS.get(arguments[1].upper())
    if kind is None:
        bad_args(f"invalid permission type: {arguments[1]}")
    key, end = _range(context.flags, arguments[2:])
    request = pb.AuthRoleGrantPermissionRequest(
        name=arguments[0], perm=authpb.Permission(permType=kind, key=key, range_end=end)
    )
    response = _call(context, "RoleGrantPermission", request, pb.AuthRoleGrantPermissionResponse)
    context.printer.role_grant_permission(arguments[0], response)


def _revoke_permission(context: Context) -> None:
    arguments = context.arguments
    if not 2 <= len(arguments) <= 3:
        bad_args("role revoke-permission command requires role name and key [endkey] as its argument")
    key, end = _range(context.flags, arguments[1:])
    request = pb.AuthRoleRevokePermissionRequest(role=arguments[0], key=key, range_end=end)
    response = _call(context, "RoleRevokePermission", request, pb.AuthRoleRevokePermissionResponse)
    context.printer.role_revoke_permission(arguments[0], key, end, response)


COMMANDS: Final = {
    "role add": Leaf(_add, "add <role name>", (), "Adds a new role"),
    "role delete": Leaf(_delete, "delete <role name>", (), "Deletes a role"),
    "role get": Leaf(_get, "get <role name>", (), "Gets detailed information of a role"),
    "role list": Leaf(_list, "list", (), "Lists all roles"),
    "role grant-permission": Leaf(
        _grant_permission,
        "grant-permission [options] <role name> <permission type> <key> [endkey]",
        (
            boolean("prefix", "grant a prefix permission"),
            boolean(
                "from-key",
                "grant a permission of keys that are greater than or equal to the given key "
                "using byte compare",
            ),
        ),
        "Grants a key to a role",
    ),
    "role revoke-permission": Leaf(
        _revoke_permission,
        "revoke-permission <role name> <key> [endkey]",
        (
            boolean("prefix", "revoke a prefix permission"),
            boolean(
                "from-key",
                "revoke a permission of keys that are greater than or equal to the given key "
                "using byte compare",
            ),
        ),
        "Revokes a key from a role",
    ),
}
