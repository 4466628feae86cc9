"""auth enable, disable and status (contract cli section 3.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.cli.etcdctl.commands import ERROR, Exit, Leaf, bad_args, write
from petcd.cli.etcdctl.methods import AUTH
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import auth as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _enable(context: Context) -> None:
    if context.arguments:
        bad_args("auth enable command does not accept any arguments")
    session = context.session
    while True:
        try:
            session.call_raw(AUTH + "AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)
            break
        except CallFailed as failure:
            if not isinstance(failure.error, errors.RootRoleNotExist):
                raise Exit(ERROR, failure.message) from None
        # The root user lacks the role of that name: make it and give it, then try again.
        try:
            session.call_raw(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name="root"), pb.AuthRoleAddResponse)
        except CallFailed as failure:
            if not isinstance(failure.error, errors.RoleAlreadyExist):
                raise Exit(ERROR, failure.message) from None
        session.call(
            AUTH + "UserGrantRole",
            pb.AuthUserGrantRoleRequest(user="root", role="root"),
            pb.AuthUserGrantRoleResponse,
        )
    write("Authentication Enabled\n")


def _disable(context: Context) -> None:
    if context.arguments:
        bad_args("auth disable command does not accept any arguments")
    context.call(AUTH + "AuthDisable", pb.AuthDisableRequest(), pb.AuthDisableResponse)
    write("Authentication Disabled\n")


def _status(context: Context) -> None:
    if context.arguments:
        bad_args("auth status command does not accept any arguments")
    response = context.call(AUTH + "AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse, read=True)
    context.printer.auth_status(response)


COMMANDS: Final = {
    "auth enable": Leaf(_enable, "enable", (), "Enables authentication"),
    "auth disable": Leaf(_disable, "disable", (), "Disables authentication"),
    "auth status": Leaf(_status, "status", (), "Returns authentication status"),
}
