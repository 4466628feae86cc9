"""Compaction on a schedule, on virtual time (contract config-metrics section 9.1)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, simulated

from petcd.embed import Etcd
from petcd.pb import etcdserverpb as pb
from petcd.server.autocompact import PeriodicCompactor, RevisionCompactor, auto_compactor
from petcd.server.config import Config, ConfigError


async def write_for(lab: Lab, seconds: float, every: float) -> None:
    end = lab.sim.now + seconds
    while lab.sim.now < end - every / 2:
        await lab.put(b"a")
        await asyncio.sleep(every)


def compacted(lab: Lab) -> int:
    return lab.member.store.compact_rev


SLOW = {"heartbeat_ms": 5000, "election_ms": 50_000, "backend_batch_interval_seconds": 60.0}
"""Hours pass faster when little happens in a second."""


@simulated(auto_compaction_retention="1", **SLOW)
async def test_periodic_keeps_an_hour(lab: Lab) -> None:
    """A put a minute: nothing for an hour; then every hour, to the revision of an hour before."""
    await write_for(lab, 3500, 60)
    assert compacted(lab) == -1
    await write_for(lab, 200, 60)
    assert compacted(lab) == 1, "the revision at the start"
    await write_for(lab, 3300, 60)
    assert compacted(lab) == 1
    await write_for(lab, 400, 60)
    assert 52 <= compacted(lab) <= 64
    first = compacted(lab)
    await write_for(lab, 3600, 60)
    assert 50 <= compacted(lab) - first <= 66
    await asyncio.sleep(3 * 3600)
    newest = lab.member.store.rev
    assert compacted(lab) == newest
    done = len(lab.messages("completed auto periodic compaction"))
    await asyncio.sleep(5 * 3600)
    assert len(lab.messages("completed auto periodic compaction")) == done, "there is nothing new"


@simulated(auto_compaction_retention="100ms", auto_compaction_mode="periodic")
async def test_a_short_period(lab: Lab) -> None:
    await write_for(lab, 2, 0.02)
    assert lab.member.store.rev - compacted(lab) < 15


@simulated(auto_compaction_mode="revision", auto_compaction_retention="50", **SLOW)
async def test_revision_keeps_the_newest(lab: Lab) -> None:
    await write_for(lab, 290, 2)
    assert compacted(lab) == -1
    await write_for(lab, 20, 2)
    assert lab.member.store.rev - 60 < compacted(lab) <= lab.member.store.rev - 50
    done = len(lab.messages("completed auto revision compaction"))
    await asyncio.sleep(1000)
    assert len(lab.messages("completed auto revision compaction")) == done + 1
    assert compacted(lab) == lab.member.store.rev - 50


@simulated(auto_compaction_mode="revision", auto_compaction_retention="50", **SLOW)
async def test_few_revisions_are_left_alone(lab: Lab) -> None:
    await write_for(lab, 100, 4)
    await asyncio.sleep(1000)
    assert compacted(lab) == -1
    assert lab.messages("starting auto revision compaction") == []


@simulated(auto_compaction_retention="10m", **SLOW)
async def test_only_the_leader_compacts(lab: Lab) -> None:
    await lab.put(b"a")
    lead, lab.member.lead = lab.member.lead, 0
    await asyncio.sleep(3600)
    assert compacted(lab) == -1
    lab.member.lead = lead
    await asyncio.sleep(130)
    assert compacted(lab) == 2


@simulated(auto_compaction_retention="10m", **SLOW)
async def test_what_somebody_else_compacted_counts_as_done(lab: Lab) -> None:
    await write_for(lab, 60, 1)
    await lab.call(pb.CompactionRequest(revision=lab.member.store.rev))
    await asyncio.sleep(700)
    assert [one["revision"] for one in lab.messages("completed auto periodic compaction")] == [1]
    assert lab.messages("failed auto periodic compaction") == []


@simulated(auto_compaction_retention="10m", **SLOW)
async def test_a_failure_is_tried_again_soon(lab: Lab) -> None:
    await lab.put(b"a")
    alarm = {"memberID": 1, "alarm": pb.AlarmType.CORRUPT}
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, **alarm))  # type: ignore[arg-type]
    await asyncio.sleep(700)
    assert 1 <= len(lab.messages("failed auto periodic compaction")) <= 3
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, **alarm))  # type: ignore[arg-type]
    await asyncio.sleep(70)
    assert len(lab.messages("completed auto periodic compaction")) == 1


@simulated()
async def test_the_choice(lab: Lab) -> None:
    kinds = (RevisionCompactor, PeriodicCompactor)
    assert not any(isinstance(monitor, kinds) for monitor in lab.etcd._monitors)
    member = lab.member
    for mode, text, kind in (
        ("revision", "5", RevisionCompactor),
        ("periodic", "5", PeriodicCompactor),
        ("periodic", "30m", PeriodicCompactor),
        ("periodic", "0s", type(None)),
        ("revision", "0", type(None)),
    ):
        member.config = member.config.replace(auto_compaction_mode=mode, auto_compaction_retention=text)
        assert type(auto_compactor(member)) is kind, (mode, text)


@simulated(start=False)
async def test_a_retention_that_means_nothing_ends_the_start(lab: Lab) -> None:
    with pytest.raises(ConfigError):
        await lab.start(auto_compaction_retention="soon")
    lab.host.crash()
    await lab.start(auto_compaction_retention="0")
    assert isinstance(lab.etcd, Etcd)
    assert isinstance(lab.member.config, Config)
