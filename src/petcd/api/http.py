"""What the client URLs answer over HTTP/1.1 beside the gateway: health, version, metrics.

Source: contract wire-v3 2.8 and 2.9.

``/health`` is kept byte for byte as load balancers read it; ``/livez`` and ``/readyz`` are Kubernetes' style
of the same. A health check that reads goes through the same read path as any client's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from petcd import ETCD_VERSION
from petcd.api import metrics
from petcd.errors import EtcdError
from petcd.net.grpc import GrpcStats
from petcd.net.http import TEXT, Headers, HttpExchange, HttpRouter
from petcd.pb.etcdserverpb import RangeRequest
from petcd.server import alarms as alarm
from petcd.server.member import Member

JSON: Final = (b"content-type", b"application/json")
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")

Check = Callable[["Checks", Callable[[str], object]], None]
"""Looks at one thing and calls back with what is wrong, empty when nothing is."""


class _Answer:
    """A waiter for a read of nothing in particular."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[str], object]) -> None:
        self._then = then

    def reply(self, _message: bytes, /) -> None:
        self._then("")

    def fail(self, _code: int, text: str, /) -> None:
        self._then(text)


class Checks:
    """The single checks of a member's health."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def serializable_read(self, then: Callable[[str], object]) -> None:
        self._range(_Answer(then), RangeRequest(key=b"a"))

    def linearizable_read(self, then: Callable[[str], object]) -> None:
        self.member.read(self._range, _Answer(then), RangeRequest(key=b"a"))

    def data_corruption(self, then: Callable[[str], object]) -> None:
        corrupt = any(which == alarm.CORRUPT for _, which in self.member.alarms.get())
        then("alarm activated: CORRUPT" if corrupt else "")

    def non_learner(self, then: Callable[[str], object]) -> None:
        own = self.member.membership.members.get(self.member.id)
        then("not supported for learner" if own is not None and own.is_learner else "")

    def _range(self, waiter: _Answer, request: RangeRequest) -> None:
        try:
            body = self.member.store.range(request)
        except EtcdError as error:
            waiter.fail(error.code, error.text)
        else:
            waiter.reply(body)


_LIVEZ: Final[dict[str, Check]] = {"serializable_read": Checks.serializable_read}
_READYZ: Final[dict[str, Check]] = {
    "data_corruption": Checks.data_corruption,
    "serializable_read": Checks.serializable_read,
    "linearizable_read": Checks.linearizable_read,
    "non_learner": Checks.non_learner,
}


class StatusPages:
    """The handlers; ``add_to`` puts them on a router."""

    def __init__(self, member: Member, stats: GrpcStats, start_time_seconds: float) -> None:
        self._member = member
        self._checks = Checks(member)
        self._stats = stats
        self._start_time_seconds = start_time_seconds
        self.health_success = self.health_failures = 0
        self.checked: dict[tuple[str, str], list[int]] = {}
        """(probe, check) to how often it failed, how often not, and whether it held the last time."""

    def add_to(self, router: HttpRouter, *, metrics_only: bool = False) -> None:
        """All pages, or those that ``--listen-metrics-urls`` serves."""
        router.add("/health", self.health)
        router.add("/metrics", self.metrics)
        self._add_probes(router, "/livez", _LIVEZ)
        self._add_probes(router, "/readyz", _READYZ)
        if not metrics_only:
            router.add("/version", self.version)
            router.add("/debug/vars", self.debug_vars)

    def _add_probes(self, router: HttpRouter, path: str, checks: dict[str, Check]) -> None:
        router.add(path, lambda exchange: self._probe(exchange, path, checks))
        for name, check in checks.items():
            one = {name: check}
            router.add(
                f"{path}/{name}",
                lambda exchange, one=one: self._probe(exchange, path, one),  # type: ignore[misc]
            )

    # -- pages -----------------------------------------------------------------------------------------

    def version(self, exchange: HttpExchange) -> None:
        version_page(self._member, exchange)

    def metrics(self, exchange: HttpExchange) -> None:
        page = metrics.render(self._member, self._stats, self._start_time_seconds, self)
        exchange.respond(200, [(b"content-type", metrics.CONTENT_TYPE)], page)

    def debug_vars(self, exchange: HttpExchange) -> None:
        if not _is_get(exchange):
            return
        member = self._member
        shape = {
            "raft.status": {
                "id": f"{member.id:x}",
                "term": member.node.term,
                "commit": member.node.commit_index,
                "applied": member.applied,
                "lead": f"{member.lead:x}",
                "raftState": f"State{member.role.name.title().replace('_', '')}",
            }
        }
        headers = [(b"content-type", b"application/json; charset=utf-8")]
        exchange.respond(200, headers, json.dumps(shape).encode())

    def health(self, exchange: HttpExchange) -> None:
        if not _is_get(exchange):
            return
        query = parse_qs(exchange.request.query)
        excluded = set(query.get("exclude", ()))
        member = self._member
        for _, which in member.alarms.get():
            name = alarm.NAMES.get(which, "UNKNOWN")
            if name not in excluded:
                self._tell_health(exchange, f"ALARM {name}")
                return
        serializable = query.get("serializable", [""])[0] == "true"
        if member.lead == 0 and not serializable:
            self._tell_health(exchange, "RAFT NO LEADER")
            return

        def answered(problem: str) -> None:
            self._tell_health(exchange, f"RANGE ERROR:{problem}" if problem else "")

        if serializable:
            self._checks.serializable_read(answered)
        else:
            self._checks.linearizable_read(answered)

    def _tell_health(self, exchange: HttpExchange, problem: str) -> None:
        body = {"health": "false" if problem else "true", "reason": problem}
        if problem:
            self.health_failures += 1
        else:
            self.health_success += 1
        text = json.dumps(body, separators=(",", ":")).encode()
        headers: Headers = [TEXT]
        if problem:
            text += b"\n"
            headers = [TEXT, NOSNIFF]
        exchange.respond(503 if problem else 200, headers, text)

    def _probe(self, exchange: HttpExchange, path: str, checks: dict[str, Check]) -> None:
        if not _is_get(exchange):
            return
        query = parse_qs(exchange.request.query, keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        wanted = [name for name in checks if name not in excluded]
        results: dict[str, str] = {}
        kind = path[1:].partition("/")[0]

        def finish() -> None:
            failed = any(results.values())
            if not failed and "verbose" not in query:
                exchange.respond(200, [TEXT, NOSNIFF], b"ok\n")
                return
            lines = [
                f"[-]{name} failed: {results[name]}" if results[name] else f"[+]{name} ok" for name in wanted
            ]
            lines.append("" if failed else "ok")
            exchange.respond(503 if failed else 200, [TEXT, NOSNIFF], ("\n".join(lines) + "\n").encode())

        if not wanted:
            finish()
            return
        for name in wanted:

            def answered(problem: str, name: str = name) -> None:
                results[name] = problem
                counts = self.checked.setdefault((kind, name), [0, 0, 0])
                counts[2] = not problem
                counts[counts[2]] += 1
                if len(results) == len(wanted):
                    finish()

            checks[name](self._checks, answered)


def version_page(member: Member, exchange: HttpExchange) -> None:
    """The same on client and on peer URLs."""
    if not _is_get(exchange):
        return
    shape = {
        "etcdserver": ETCD_VERSION,
        "etcdcluster": member.membership.version or "not_decided",
        "storage": member.storage_version or "unknown",
    }
    exchange.respond(200, [JSON], json.dumps(shape, separators=(",", ":")).encode())


def _is_get(exchange: HttpExchange) -> bool:
    """Answer anything but GET as Go does."""
    if exchange.request.method == "GET":
        return True
    exchange.respond(405, [TEXT, NOSNIFF, (b"allow", b"GET")], b"Method Not Allowed\n")
    return False


def front_door(cors: tuple[str, ...], hosts: tuple[str, ...]) -> Callable[[HttpExchange], bool]:
    """What runs before every handler: the host whitelist on plain connections, CORS, OPTIONS.

    Source: contract wire-v3 section 2.8; history part 3 (CVE-2018-1098, CVE-2018-1099).
    """
    any_origin = not cors or "*" in cors
    any_host = not hosts or "*" in hosts
    origins = frozenset(origin.encode() for origin in cors)

    def before(exchange: HttpExchange) -> bool:
        request = exchange.request
        if not any_host and not request.secure and _host_name(request.header(b"host")) not in hosts:
            exchange.respond(
                421,
                [TEXT, NOSNIFF],
                b"etcd does not recognize the Host header of this request; use TLS, or add it to "
                b"--host-whitelist (CVE-2018-5702)\n",
            )
            return True
        origin = request.header(b"origin")
        allowed = b"*" if any_origin else origin if origin in origins else None
        if allowed:
            exchange.extra_headers += [
                (b"access-control-allow-methods", b"POST, GET, OPTIONS, PUT, DELETE"),
                (b"access-control-allow-origin", allowed),
                (b"access-control-allow-headers", b"accept, content-type, authorization"),
            ]
        if request.method == "OPTIONS":
            exchange.respond(200)
            return True
        return False

    return before


def _host_name(header: bytes | None) -> str:
    """The host of a Host header, without its port."""
    text = (header or b"").decode("latin-1")
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
