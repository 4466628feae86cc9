"""Do the members hold the same keys? Compared by hash: at start, now and then, and after compactions.

A hash stands for a revision as seen from a compact revision, so only answers with the same two can be held
against each other. Who did not answer, or answered for another compact revision, was *not compared*, and
nothing here calls that good: the start says so in its log, and a revision counts as checked only when every
member was (history #13766: a check that passed on errors hid a diverged member).

Source: contract config-metrics section 9.4, peer section 8.5.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from petcd import errors
from petcd.errors import EtcdError
from petcd.mvcc import KVHash
from petcd.pb.etcdserverpb import AlarmRequest
from petcd.seams import Timer
from petcd.server import alarms as alarm
from petcd.server.applier import ALARM
from petcd.server.gotext import format_duration
from petcd.server.ids import hex_id
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer

if TYPE_CHECKING:
    from petcd.server.member import Member

HASH_KV_PATH: Final = "/members/hashkv"
_NOT_CLUSTER: Final = "cluster ID mismatch"


class PeerHash(NamedTuple):
    """What one of the others answered; without a ``hash`` it could not be compared, and ``problem`` says
    why."""

    peer: ClusterMember
    hash: KVHash | None
    store_revision: int
    problem: str


def parse_hash_kv(answer: PeerAnswer) -> tuple[KVHash, int]:
    """The hash and the store's revision in an answer to ``/members/hashkv``. Raises: ValueError, whose text
    says what is wrong."""
    text = answer.body.decode("utf-8", "replace").strip()
    if answer.status == 0:
        raise ValueError(text)
    if answer.status == 400:
        for known in (errors.Compacted, errors.FutureRev):
            if known.text.removeprefix("etcdserver: ") in text:
                raise ValueError(known.text)
    if answer.status == 412 and _NOT_CLUSTER in text:
        raise ValueError(errors.ClusterIDMismatch.text)
    if answer.status != 200:
        raise ValueError(f"unknown error: {text}")
    shape = json.loads(text)
    header = shape.get("header") if isinstance(shape, dict) else None
    if not isinstance(header, dict):
        raise ValueError("not an answer about hashes")
    numbers = [
        shape.get("hash", 0),
        shape.get("hash_revision", 0),
        shape.get("compact_revision", 0),
        header.get("revision", 0),
    ]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("not an answer about hashes")
    return KVHash(*numbers[:3]), numbers[3]


def ask_peers(member: Member, revision: int, then: Callable[[list[PeerHash]], object]) -> None:
    """The hashes of all others at ``revision``, in order of their ids, once each has answered or will not."""
    peers = [one for one in member.membership.in_order() if one.id != member.id and one.peer_urls]
    found: dict[int, PeerHash] = {}
    if not peers:
        then([])
        return

    def answered(peer: ClusterMember, answer: PeerAnswer) -> None:
        try:
            kv_hash, store_revision = parse_hash_kv(answer)
            if kv_hash.revision not in (0, revision):  # 0: releases before 3.6 do not say
                raise ValueError(f"a hash of revision {kv_hash.revision}")
        except ValueError as error:
            member.logger.warn(
                "failed hash kv request",
                **{
                    "local-member-id": hex_id(member.id),
                    "requested-revision": revision,
                    "remote-peer-endpoint": peer.peer_urls[0],
                },
                error=str(error),
            )
            found[peer.id] = PeerHash(peer, None, 0, str(error))
        else:
            found[peer.id] = PeerHash(peer, kv_hash, store_revision, "")
        if len(found) == len(peers):
            then([found[one.id] for one in peers])

    body = json.dumps({"revision": revision}, separators=(",", ":")).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("X-Etcd-Cluster-Id", hex_id(member.cluster_id)),
    ]
    for peer in peers:
        member.peers.request(
            peer.peer_urls,
            "GET",
            HASH_KV_PATH,
            partial(answered, peer),
            body=body,
            headers=headers,
            timeout_seconds=member.config.request_timeout_seconds,
        )


# -- at start ------------------------------------------------------------------------------------------------


def initial_check(member: Member, done: Callable[[str], object]) -> None:
    """Compare what this member restored with the others, before it serves anybody.

    ``done("")`` when no difference was found, else the text with which to refuse the start.
    """
    logger = member.logger
    own_id = {"local-member-id": hex_id(member.id)}
    logger.info(
        "starting initial corruption check",
        **own_id,
        timeout=format_duration(member.config.request_timeout_seconds),
    )

    def hashed(own: KVHash) -> None:
        ask_peers(member, own.revision, partial(compare, own))

    def compare(own: KVHash, others: list[PeerHash]) -> None:
        about = {
            **own_id,
            "local-member-revision": own.revision,
            "local-member-compact-revision": own.compact_revision,
            "local-member-hash": own.hash,
        }
        mismatched = compared = 0
        for other in others:
            remote: dict[str, Any] = {
                "remote-peer-id": hex_id(other.peer.id),
                "remote-peer-endpoints": list(other.peer.peer_urls),
            }
            if other.hash is None:
                text = _CANNOT_COMPARE.get(other.problem)
                if text:
                    logger.warn(text, **about, **remote, error=other.problem)
                continue
            remote |= {
                "remote-peer-revision": other.store_revision,
                "remote-peer-compact-revision": other.hash.compact_revision,
                "remote-peer-hash": other.hash.hash,
            }
            if other.hash.hash == own.hash:
                compared += 1
            elif other.hash.compact_revision == own.compact_revision:
                mismatched += 1
                logger.warn("found different hash values from remote peer", **about, **remote)
            else:
                logger.warn("found different compact revision values from remote peer", **about, **remote)
        if mismatched:
            done(f"{hex_id(member.id)} found data inconsistency with peers")
            return
        if compared == len(others):
            logger.info("initial corruption checking passed; no corruption", **own_id)
        else:
            logger.warn(
                "initial corruption check was not able to compare with all peers",
                **own_id,
                **{"number-of-peers-checked": compared, "number-of-peers": len(others)},
            )
        done("")

    try:
        member.hash_kv(0, hashed)
    except EtcdError as error:
        done(f"{hex_id(member.id)} failed to fetch hash ({error.text})")


_CANNOT_COMPARE: Final = {
    errors.FutureRev.text: "cannot fetch hash from slow remote peer",
    errors.Compacted.text: "cannot fetch hash from remote peer; local member is behind",
    errors.ClusterIDMismatch.text: _NOT_CLUSTER,
}


# -- while running -------------------------------------------------------------------------------------------


class CorruptionMonitor:
    """The leader's checks: of the newest revision, and of the revisions that were compacted."""

    def __init__(self, member: Member) -> None:
        self._member = member
        config = member.config
        self._periodic_seconds = config.corrupt_check_seconds
        self._compact_seconds = (
            config.compact_hash_check_seconds if config.feature("CompactHashCheck") else 0.0
        )
        self._timers: dict[str, Timer] = {}
        self._periodic_busy = self._compact_busy = False
        self._latest_checked_revision = 0
        """The newest compact revision at which every member had the same hash."""

    def start(self) -> None:
        if self._periodic_seconds > 0:
            self._member.logger.info(
                "enabled corruption checking",
                **{
                    "local-member-id": hex_id(self._member.id),
                    "interval": format_duration(self._periodic_seconds),
                },
            )
            self._later("periodic", self._periodic_seconds, self._on_periodic)
        if self._compact_seconds > 0:
            self._later("compact", self._compact_seconds, self._on_compact)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _later(self, name: str, seconds: float, then: Callable[[], object]) -> None:
        self._timers[name] = self._member.clock.call_later(seconds, then)

    def _on_periodic(self) -> None:
        if self._member.stopped or self._member.stopping:
            return
        self._later("periodic", self._periodic_seconds, self._on_periodic)
        if self._member.is_leader and not self._periodic_busy:
            self.check_newest()

    def _on_compact(self) -> None:
        if self._member.stopped or self._member.stopping:
            return
        self._later("compact", self._compact_seconds, self._on_compact)
        if self._member.is_leader and not self._compact_busy:
            self.check_compacted()

    def _raise_alarm(self, member_id: int) -> None:
        request = AlarmRequest(action=alarm.ACTIVATE, memberID=member_id, alarm=alarm.CORRUPT)
        self._member.propose_as_leader(ALARM, request)

    # -- the newest revision ---------------------------------------------------------------------------

    def check_newest(self) -> None:
        """Hash, ask the others, read-index, hash again; then judge. One alarm at most."""
        member = self._member
        self._periodic_busy = True

        def failed(error: str) -> None:
            self._periodic_busy = False
            member.logger.warn("failed to check hash KV", error=error)

        def first(before: KVHash) -> None:
            ask_peers(member, before.revision, partial(asked, before))

        def asked(before: KVHash, others: list[PeerHash]) -> None:
            member.read(partial(confirmed, before, others), _Failure(failed), None)

        def confirmed(before: KVHash, others: list[PeerHash], _waiter: object, _request: object) -> None:
            hash_again(partial(second, before, others))

        def second(before: KVHash, others: list[PeerHash], after: KVHash) -> None:
            self._periodic_busy = False
            self._judge(before, after, others)

        def hash_again(then: Callable[[KVHash], object]) -> None:
            try:
                member.hash_kv(0, then)
            except EtcdError as error:
                failed(error.text)

        hash_again(first)

    def _judge(self, before: KVHash, after: KVHash, others: list[PeerHash]) -> None:
        member, logger = self._member, self._member.logger
        suspects: list[int] = []
        if (
            after.hash != before.hash
            and after.revision == before.revision
            and after.compact_revision == before.compact_revision
        ):
            logger.warn(
                "found hash mismatch",
                **{
                    "revision-1": before.revision,
                    "compact-revision-1": before.compact_revision,
                    "hash-1": before.hash,
                    "revision-2": after.revision,
                    "compact-revision-2": after.compact_revision,
                    "hash-2": after.hash,
                },
            )
            suspects.append(member.id)
        compared = 0
        for other in others:
            if other.hash is None:
                continue
            compared += 1
            whose = {"follower-peer-id": hex_id(other.peer.id)}
            if other.store_revision > after.revision:
                logger.warn(
                    "revision from follower must be less than or equal to leader's",
                    **{"leader-revision": after.revision, "follower-revision": other.store_revision},
                    **whose,
                )
                suspects.append(other.peer.id)
            if other.hash.compact_revision > after.compact_revision:
                logger.warn(
                    "compact revision from follower must be less than or equal to leader's",
                    **{
                        "leader-compact-revision": after.compact_revision,
                        "follower-compact-revision": other.hash.compact_revision,
                    },
                    **whose,
                )
                suspects.append(other.peer.id)
            if other.hash.compact_revision == before.compact_revision and other.hash.hash != before.hash:
                logger.warn(
                    "same compact revision then hashes must match",
                    **{
                        "leader-compact-revision": after.compact_revision,
                        "leader-hash": before.hash,
                        "follower-compact-revision": other.hash.compact_revision,
                        "follower-hash": other.hash.hash,
                    },
                    **whose,
                )
                suspects.append(other.peer.id)
        if suspects:
            self._raise_alarm(suspects[0])
        logger.info("finished peer corruption check", **{"number-of-peers-checked": compared})

    # -- compacted revisions ---------------------------------------------------------------------------

    def check_compacted(self) -> None:
        """Compare the hashes that every member made at its compactions, newest first, until one revision
        has been compared on all members or was found to differ."""
        member = self._member
        member.logger.info(
            "starting compact hash check",
            **{
                "local-member-id": hex_id(member.id),
                "timeout": format_duration(member.config.request_timeout_seconds),
            },
        )
        self._compact_busy = True
        hashes = [
            one for one in member.store.hashes.newest_first() if one.revision > self._latest_checked_revision
        ]
        self._check_next(hashes, 0)

    def _check_next(self, hashes: list[KVHash], checked: int) -> None:
        member = self._member
        if checked == len(hashes):
            self._end_compact_check(checked)
            return
        own = hashes[checked]

        def asked(others: list[PeerHash]) -> None:
            if member.stopped or member.stopping or not member.is_leader:
                self._compact_busy = False
            elif others and self._judge_compacted(own, others):
                self._end_compact_check(checked + 1)
            else:
                self._check_next(hashes, checked + 1)

        ask_peers(member, own.revision, asked)

    def _end_compact_check(self, checked: int) -> None:
        self._compact_busy = False
        self._member.logger.info("finished compaction hash check", **{"number-of-hashes-checked": checked})

    def _judge_compacted(self, own: KVHash, others: list[PeerHash]) -> bool:
        """Whether this revision settles the check: all members were compared, or some differ."""
        member, logger = self._member, self._member.logger
        members_by_hash: dict[int, list[int]] = {own.hash: [member.id]}
        compared = 0
        for other in others:
            if other.hash is None:
                reason = "no response"
            elif other.hash.compact_revision != own.compact_revision:
                reason = (
                    f"the peer's CompactRevision {other.hash.compact_revision} "
                    f"doesn't match leader's CompactRevision {own.compact_revision}"
                )
            else:
                compared += 1
                members_by_hash.setdefault(other.hash.hash, []).append(other.peer.id)
                continue
            logger.warn(
                "Skipped peer's hash",
                **{
                    "number-of-peers": len(others),
                    "leader-id": hex_id(member.id),
                    "peer-id": hex_id(other.peer.id),
                    "reason": reason,
                },
            )
        if len(members_by_hash) > 1:
            self._accuse(own, members_by_hash, quorum=(len(others) + 1) // 2 + 1)
            return True
        about = {
            "number-of-peers-checked": compared,
            "revision": own.revision,
            "compactRevision": own.compact_revision,
        }
        if compared < len(others):
            logger.warn(
                "skipped revision in compaction hash check; was not able to check all peers",
                **about,
                **{"number-of-peers": len(others)},
            )
            return False
        logger.info("successfully checked hash on whole cluster", **about)
        self._latest_checked_revision = max(self._latest_checked_revision, own.revision)
        return True

    def _accuse(self, own: KVHash, members_by_hash: dict[int, list[int]], quorum: int) -> None:
        """Raise the alarm for those who differ from the majority; for nobody's id where there is none."""
        logger = self._member.logger
        about: dict[str, Any] = {
            "leader-id": hex_id(self._member.id),
            "leader-revision": own.revision,
            "leader-compact-revision": own.compact_revision,
            "leader-hash": own.hash,
        }
        majority = [value for value, ids in members_by_hash.items() if len(ids) >= quorum]
        if not majority:
            logger.error(
                "Detected compaction hash mismatch but cannot identify the corrupted members, "
                "so intentionally set the memberID as 0",
                **about,
            )
            self._raise_alarm(0)
        for value, ids in sorted(members_by_hash.items()):
            if value in majority:
                continue
            if majority:
                for member_id in ids:
                    self._raise_alarm(member_id)
            logger.error(
                "Detected compaction hash mismatch",
                **about,
                **{
                    "peer-hash": value,
                    "peer-ids": ",".join(hex_id(one) for one in sorted(ids)),
                    "quorum-exist": bool(majority),
                },
            )


class _Failure:
    """The waiter of a read whose answer is a function of its own."""

    __slots__ = ("_failed",)

    def __init__(self, failed: Callable[[str], object]) -> None:
        self._failed = failed

    def reply(self, _message: bytes, /) -> None:
        return

    def fail(self, _code: int, text: str, /) -> None:
        self._failed(text)
