"""user add, delete, get, list, passwd, grant-role and revoke-role (contract cli section 3.17)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from petcd.cli.etcdctl.commands import Leaf, bad_args, write
from petcd.cli.etcdctl.grammar import boolean, string
from petcd.cli.etcdctl.methods import AUTH
from petcd.pb import authpb
from petcd.pb.etcdserverpb import auth as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_INTERACTIVE: Final = boolean(
    "interactive", "Read password from stdin instead of interactive terminal", default=True
)


def _call(context: Context, method: str, request: Any, response: Any, *, read: bool = False) -> Any:
    return context.timeless().call(AUTH + method, request, response, read=read)


def _one(context: Context, what: str) -> str:
    if len(context.arguments) != 1:
        bad_args(f"user {what} command requires user name as its argument")
    return context.arguments[0]


def _password(name: str, *, interactive: bool) -> str:
    if not interactive:
        parts = sys.stdin.buffer.read().split(None, 1)
        return parts[0].decode("utf-8", "surrogateescape") if parts else ""
    from petcd.cli.etcdctl.prompt import ask_password

    first = ask_password(f"Password of {name}: ")
    if not first:
        bad_args("empty password")
    second = ask_password(f"Type password of {name} again for confirmation: ")
    if first != second:
        bad_args("given passwords are different")
    return first


def _add(context: Context) -> None:
    flags = context.flags
    user = _one(context, "add")
    password = ""
    if not flags["no-password"]:
        if flags["new-user-password"]:
            password = flags["new-user-password"]
        else:
            name, colon, given = user.partition(":")
            if colon:
                if not name:
                    bad_args("empty user name is not allowed")
                user, password = name, given
            else:
                password = _password(user, interactive=flags["interactive"])
    request = pb.AuthUserAddRequest(
        name=user,
        password=password,
        options=authpb.UserAddOptions(no_password=flags["no-password"]),
    )
    context.printer.user_add(user, _call(context, "UserAdd", request, pb.AuthUserAddResponse))


def _delete(context: Context) -> None:
    user = _one(context, "delete")
    response = _call(context, "UserDelete", pb.AuthUserDeleteRequest(name=user), pb.AuthUserDeleteResponse)
    context.printer.user_delete(user, response)


def _get(context: Context) -> None:
    user = _one(context, "get")
    response = _call(context, "UserGet", pb.AuthUserGetRequest(name=user), pb.AuthUserGetResponse, read=True)
    if not context.flags["detail"]:
        context.printer.user_get(user, response)
        return
    write(f"User: {user}\n")
    for role in response.roles:
        write("\n")
        detail = _call(
            context, "RoleGet", pb.AuthRoleGetRequest(role=role), pb.AuthRoleGetResponse, read=True
        )
        context.printer.role_get(role, detail)


def _list(context: Context) -> None:
    if context.arguments:
        bad_args("user list command requires no arguments")
    response = _call(context, "UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse, read=True)
    context.printer.user_list(response)


def _passwd(context: Context) -> None:
    user = _one(context, "passwd")
    password = _password(user, interactive=context.flags["interactive"])
    request = pb.AuthUserChangePasswordRequest(name=user, password=password)
    context.printer.user_password(
        _call(context, "UserChangePassword", request, pb.AuthUserChangePasswordResponse)
    )


def _grant_role(context: Context) -> None:
    if len(context.arguments) != 2:
        bad_args("user grant command requires user name and role name as its argument")
    user, role = context.arguments
    request = pb.AuthUserGrantRoleRequest(user=user, role=role)
    response = _call(context, "UserGrantRole", request, pb.AuthUserGrantRoleResponse)
    context.printer.user_grant_role(user, role, response)


def _revoke_role(context: Context) -> None:
    if len(context.arguments) != 2:
        bad_args("user revoke-role requires user name and role name as its argument")
    user, role = context.arguments
    request = pb.AuthUserRevokeRoleRequest(name=user, role=role)
    response = _call(context, "UserRevokeRole", request, pb.AuthUserRevokeRoleResponse)
    context.printer.user_revoke_role(user, role, response)


COMMANDS: Final = {
    "user add": Leaf(
        _add,
        "add <user name or user:password> [options]",
        (
            _INTERACTIVE,
            string("new-user-password", "Supply password from the command line flag"),
            boolean("no-password", "Create a user without password (CN based auth only)"),
        ),
        "Adds a new user",
    ),
    "user delete": Leaf(_delete, "delete <user name>", (), "Deletes a user"),
    "user get": Leaf(
        _get,
        "get <user name> [options]",
        (boolean("detail", "Show permissions of roles granted to the user"),),
        "Gets detailed information of a user",
    ),
    "user list": Leaf(_list, "list", (), "Lists all users"),
    "user passwd": Leaf(_passwd, "passwd <user name> [options]", (_INTERACTIVE,), "Changes password of user"),
    "user grant-role": Leaf(_grant_role, "grant-role <user name> <role name>", (), "Grants a role to a user"),
    "user revoke-role": Leaf(
        _revoke_role, "revoke-role <user name> <role name>", (), "Revokes a role from a user"
    ),
}
