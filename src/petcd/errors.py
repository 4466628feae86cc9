"""Every answer of etcd that is an error: one table for server, client and docs.

Clients match on the exact text (contract/wire-v3.md section 3.1), so a text appears here once and nowhere
else. Two more families never cross the wire and live with their rooms: protocol errors in ``petcd.net``,
storage errors in ``petcd.storage.errors``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final


class Code(IntEnum):
    """gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


GRPC_NAMES: Final = {
    code: "".join(part.capitalize() for part in code.name.split("_"))
    if code is not Code.OK and code is not Code.CANCELLED
    else {Code.OK: "OK", Code.CANCELLED: "Canceled"}[code]
    for code in Code
}
"""The spelling Go prints, as in ``rpc error: code = OutOfRange desc = …``."""


class EtcdError(Exception):
    """An answer given on purpose; anything else that escapes a handler is a bug.

    Subclasses declare ``code`` and ``text``. ``StatusError`` carries texts that are not in the table.
    """

    code: Code = Code.UNKNOWN
    text: str = ""
    by_text: ClassVar[dict[str, type[EtcdError]]] = {}

    def __init_subclass__(cls, *, code: Code | None = None, text: str = "") -> None:
        super().__init_subclass__()
        if code is None:
            return
        taken = EtcdError.by_text.setdefault(text, cls)
        if taken is not cls:
            raise TypeError(f"{cls.__name__} repeats the text of {taken.__name__}")
        cls.code, cls.text = code, text

    def __init__(self) -> None:
        super().__init__(self.text)

    def __reduce__(self) -> tuple[type[EtcdError], tuple[()]]:
        return type(self), ()


class StatusError(EtcdError):
    """A gRPC status whose text is not one of the table's rows."""

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__()

    def __reduce__(self) -> tuple[type[EtcdError], tuple[Code, str]]:  # type: ignore[override]
        return type(self), (Code(self.code), str(self.text))


def from_wire(code: int, text: str) -> EtcdError:
    """The error a status stands for: a row of the table when the text is known, else a StatusError."""
    known = EtcdError.by_text.get(text)
    if known is not None:
        return known()
    try:
        return StatusError(Code(code), text)
    except ValueError:
        return StatusError(Code.UNKNOWN, text)


class EmptyKey(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: key is not provided"): ...


class KeyNotFound(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: key not found"): ...


class ValueProvided(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: value is provided"): ...


class LeaseProvided(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: lease is provided"): ...


class TooManyOps(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: too many operations in txn request",
): ...


class DuplicateKey(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: duplicate key given in txn request",
): ...


class InvalidClientAPIVersion(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: invalid client api version",
): ...


class InvalidSortOption(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: invalid sort option"): ...


class Compacted(
    EtcdError,
    code=Code.OUT_OF_RANGE,
    text="etcdserver: mvcc: required revision has been compacted",
): ...


class FutureRev(
    EtcdError,
    code=Code.OUT_OF_RANGE,
    text="etcdserver: mvcc: required revision is a future revision",
): ...


class NoSpace(EtcdError, code=Code.RESOURCE_EXHAUSTED, text="etcdserver: mvcc: database space exceeded"): ...


class LeaseNotFound(EtcdError, code=Code.NOT_FOUND, text="etcdserver: requested lease not found"): ...


class LeaseExist(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: lease already exists"): ...


class LeaseTTLTooLarge(EtcdError, code=Code.OUT_OF_RANGE, text="etcdserver: too large lease TTL"): ...


class WatchCanceled(EtcdError, code=Code.CANCELLED, text="etcdserver: watch canceled"): ...


class MemberExist(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: member ID already exist"): ...


class PeerURLExist(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: Peer URLs already exists"): ...


class MemberNotEnoughStarted(
    EtcdError,
    code=Code.UNKNOWN,
    text="etcdserver: re-configuration failed due to not enough started members",
): ...


class MemberBadURLs(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: given member URLs are invalid",
): ...


class MemberNotFound(EtcdError, code=Code.NOT_FOUND, text="etcdserver: member not found"): ...


class MemberNotLearner(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: can only promote a learner member",
): ...


class LearnerNotReady(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: can only promote a learner member which is in sync with leader",
): ...


class TooManyLearners(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: too many learner members in cluster",
): ...


class ClusterIDMismatch(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: cluster ID mismatch"): ...


class RequestTooLarge(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: request is too large"): ...


class RequestTooManyRequests(EtcdError, code=Code.UNKNOWN, text="etcdserver: too many requests"): ...


class RootUserNotExist(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: root user does not exist",
): ...


class RootRoleNotExist(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: root user does not have root role",
): ...


class UserAlreadyExist(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: user name already exists",
): ...


class UserEmpty(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: user name is empty"): ...


class UserNotFound(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: user name not found"): ...


class RoleAlreadyExist(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: role name already exists",
): ...


class RoleNotFound(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: role name not found"): ...


class RoleEmpty(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: role name is empty"): ...


class AuthFailed(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: authentication failed, invalid user ID or password",
): ...


class PermissionNotGiven(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: permission not given"): ...


class PermissionDenied(EtcdError, code=Code.PERMISSION_DENIED, text="etcdserver: permission denied"): ...


class RoleNotGranted(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: role is not granted to the user",
): ...


class PermissionNotGranted(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: permission is not granted to the role",
): ...


class AuthNotEnabled(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: authentication is not enabled",
): ...


class InvalidAuthToken(EtcdError, code=Code.UNAUTHENTICATED, text="etcdserver: invalid auth token"): ...


class InvalidAuthMgmt(EtcdError, code=Code.INVALID_ARGUMENT, text="etcdserver: invalid auth management"): ...


class AuthOldRevision(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: revision of auth store is old",
): ...


class NoLeader(EtcdError, code=Code.UNAVAILABLE, text="etcdserver: no leader"): ...


class NotLeader(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: not leader"): ...


class LeaderChanged(EtcdError, code=Code.UNAVAILABLE, text="etcdserver: leader changed"): ...


class NotCapable(EtcdError, code=Code.FAILED_PRECONDITION, text="etcdserver: not capable"): ...


class Stopped(EtcdError, code=Code.UNAVAILABLE, text="etcdserver: server stopped"): ...


class RequestTimeout(EtcdError, code=Code.UNAVAILABLE, text="etcdserver: request timed out"): ...


class TimeoutDueToLeaderFail(
    EtcdError,
    code=Code.UNAVAILABLE,
    text="etcdserver: request timed out, possibly due to previous leader failure",
): ...


class TimeoutDueToConnectionLost(
    EtcdError,
    code=Code.UNAVAILABLE,
    text="etcdserver: request timed out, possibly due to connection lost",
): ...


class TimeoutWaitAppliedIndex(
    EtcdError,
    code=Code.UNAVAILABLE,
    text="etcdserver: request timed out, waiting for the applied index took too long",
): ...


class Unhealthy(EtcdError, code=Code.UNAVAILABLE, text="etcdserver: unhealthy cluster"): ...


class Corrupt(EtcdError, code=Code.DATA_LOSS, text="etcdserver: corrupt cluster"): ...


class NotSupportedForLearner(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: rpc not supported for learner",
): ...


class BadLeaderTransferee(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: bad leader transferee",
): ...


class WrongDowngradeVersionFormat(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: wrong downgrade target version format",
): ...


class InvalidDowngradeTargetVersion(
    EtcdError,
    code=Code.INVALID_ARGUMENT,
    text="etcdserver: invalid downgrade target version",
): ...


class ClusterVersionUnavailable(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: cluster version not found during downgrade",
): ...


class DowngradeInProcess(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: cluster has a downgrade job in progress",
): ...


class NoInflightDowngrade(
    EtcdError,
    code=Code.FAILED_PRECONDITION,
    text="etcdserver: no inflight downgrade job",
): ...


class RequestCanceled(EtcdError, code=Code.CANCELLED, text="etcdserver: request canceled"): ...


class DeadlineExceeded(
    EtcdError,
    code=Code.DEADLINE_EXCEEDED,
    text="etcdserver: context deadline exceeded",
): ...


class NotPrimaryLessor(EtcdError, code=Code.UNKNOWN, text="not a primary lessor"): ...


class ProposalDropped(EtcdError, code=Code.UNKNOWN, text="raft proposal dropped"): ...


class TimeoutLeaderTransfer(
    EtcdError,
    code=Code.UNKNOWN,
    text="etcdserver: request timed out, leader transfer took too long",
): ...


class UnknownMethod(EtcdError, code=Code.UNKNOWN, text="etcdserver: unknown method"): ...


class NoPasswordUser(
    EtcdError,
    code=Code.UNKNOWN,
    text="auth: authentication failed, password was given for no password user",
): ...


class PasswordTooLong(EtcdError, code=Code.UNKNOWN, text="bcrypt: password length exceeds 72 bytes"): ...


class VerifyOnly(EtcdError, code=Code.UNKNOWN, text="auth: token signing attempted with verify-only key"): ...


class ContextCanceled(EtcdError, code=Code.CANCELLED, text="context canceled"): ...


class ContextDeadlineExceeded(EtcdError, code=Code.DEADLINE_EXCEEDED, text="context deadline exceeded"): ...


class RangeStreamSort(
    EtcdError,
    code=Code.UNIMPLEMENTED,
    text="RangeStream does not support custom sort orders",
): ...


class RangeStreamFilter(
    EtcdError,
    code=Code.UNIMPLEMENTED,
    text="RangeStream does not support revision filters",
): ...
