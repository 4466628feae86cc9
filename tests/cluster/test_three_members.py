"""The classic set-up, three hosts and an etcd.conf each, asked by Debian's etcdctl."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.members import Cluster, cluster, wait_for
from tests.cluster.traffic import unequal_hashes
from tests.servers import COMMANDS, GO_ETCDCTL, Kind, clean_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
FEW_ENTRIES = {"ETCD_SNAPSHOT_COUNT": "20", "ETCD_SNAPSHOT_CATCHUP_ENTRIES": "10"}


@pytest.fixture(scope="module")
def c(kind: Kind) -> Iterator[Cluster]:
    with cluster(kind, env=FEW_ENTRIES) as running:
        yield running


def table(text: str) -> list[dict[str, str]]:
    """The rows of etcdctl's table, by their headings."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_every_member_is_started_and_known(c: Cluster) -> None:
    for host in c.members:
        rows = table(c.etcdctl("member", "list", "-w", "table", via=host).stdout)
        assert sorted(row["NAME"] for row in rows) == ["m1", "m2", "m3"]
        for row in rows:
            member = c[int(row["NAME"][1:])]
            assert row["STATUS"] == "started"
            assert row["PEER ADDRS"] == member.peer_url
            assert row["CLIENT ADDRS"] == member.client_url
            assert row["IS LEARNER"] == "false"
            assert row["ID"] == f"{c.member_id(member.host):x}"


def test_the_ids_are_those_every_etcd_computes(c: Cluster) -> None:
    """From the peer URLs and the token alone, so these are Go etcd's for the same settings."""
    assert [f"{c.member_id(host):x}" for host in sorted(c.members)] == [
        "468221167032a51e",
        "f5e7f07f5f1ac50c",
        "d8d54cf4c7e1400f",
    ]


def test_all_are_healthy(c: Cluster) -> None:
    result = c.etcdctl("endpoint", "health", "--cluster", via=1)
    lines = (result.stdout + result.stderr).splitlines()
    healthy = [
        re.match(r"(\S+) is healthy: successfully committed proposal: took = ", line) for line in lines
    ]
    assert sorted(match[1] for match in healthy if match) == sorted(m.client_url for m in c.members.values())


def test_all_agree_on_leader_and_term(c: Cluster) -> None:
    c.leader()
    rows = table(c.etcdctl("endpoint", "status", "--cluster", "-w", "table", via=2).stdout)
    assert sorted(row["ENDPOINT"] for row in rows) == sorted(m.client_url for m in c.members.values())
    assert sorted(row["IS LEADER"] for row in rows) == ["false", "false", "true"]
    assert len({row["RAFT TERM"] for row in rows}) == 1
    assert [row["ERRORS"] for row in rows] == ["", "", ""]
    status = json.loads(c.etcdctl("endpoint", "status", "--cluster", "-w", "json", via=3).stdout)
    assert len({entry["Status"]["header"]["cluster_id"] for entry in status}) == 1
    assert len({entry["Status"]["leader"] for entry in status}) == 1


def test_a_write_through_each_member_is_read_through_the_others(c: Cluster) -> None:
    for host in c.members:
        assert c.etcdctl("put", f"through/{host}", f"value {host}", via=host).stdout == "OK\n"
        for other in c.members:
            read = c.etcdctl("get", f"through/{host}", via=other).stdout
            assert read == f"through/{host}\nvalue {host}\n"
    assert asyncio.run(unequal_hashes(c.endpoints)) == []


def test_a_watch_and_a_lease_work_through_any_member(c: Cluster) -> None:
    for host in c.members:
        other = host % 3 + 1
        granted = c.etcdctl("lease", "grant", "600", via=host).stdout
        lease = granted.split()[1]
        c.etcdctl("put", f"leased/{host}", "x", f"--lease={lease}", via=other)
        left = c.etcdctl("lease", "timetolive", lease, "--keys", via=other).stdout
        assert f"attached keys([leased/{host}])" in left
        assert (
            f"lease {lease} keepalived" in c.etcdctl("lease", "keep-alive", lease, "--once", via=other).stdout
        )
        c.etcdctl("lease", "revoke", lease, via=other)
        assert c.etcdctl("get", f"leased/{host}", via=host).stdout == ""


def test_the_leadership_is_handed_over(c: Cluster) -> None:
    old = c.leader()
    new = old % 3 + 1
    ids = {host: f"{c.member_id(host):x}" for host in (old, new)}
    printed = c.etcdctl("move-leader", ids[new], via=old).stdout
    assert printed == f"Leadership transferred from {ids[old]} to {ids[new]}\n"
    assert c.leader() == new
    wait_for("all to see it", lambda: {c.leader_seen_by(h) for h in c.members} == {int(ids[new], 16)})
    refused = c.etcdctl("move-leader", ids[new], via=old, check=False)
    assert refused.returncode != 0
    assert "no leader endpoint given at" in refused.stderr


def test_a_host_is_replaced_and_catches_up_by_snapshot(c: Cluster) -> None:
    """``member remove``, many writes, ``member add``: the new one is too far behind for the log."""
    gone = next(host for host in c.members if host != c.leader())
    removed = c[gone]
    ids = {host: f"{c.member_id(host):x}" for host in c.members}
    c.remove(gone)
    assert not removed.running
    rows = table(c.etcdctl("member", "list", "-w", "table").stdout)
    assert sorted(row["ID"] for row in rows) == sorted(ids[host] for host in c.members)

    for number in range(60):
        c.etcdctl("put", f"many/{number % 7}", str(number), via=min(c.members))

    new = c.add()
    rows = table(c.etcdctl("member", "list", "-w", "table").stdout)
    assert [row["NAME"] for row in rows if row["STATUS"] == "unstarted"] == [""]
    new.start()
    c.wait_healthy(new.host)
    assert c.etcdctl("get", "many/3", "--consistency=s", via=new.host).stdout == "many/3\n59\n"
    assert '"applied snapshot"' in new.log()
    assert asyncio.run(unequal_hashes(c.endpoints)) == []
    rows = table(c.etcdctl("member", "list", "-w", "table", via=new.host).stdout)
    assert sorted(row["NAME"] for row in rows) == sorted(m.name for m in c.members.values())
    assert {row["STATUS"] for row in rows} == {"started"}

    c.etcdctl("put", "after", "all", via=new.host)
    assert c.etcdctl("get", "after", via=c.follower()).stdout == "after\nall\n"


def test_the_removed_host_is_not_let_in_again(c: Cluster) -> None:
    """Started on its old directory it learns that it was removed, and ends."""
    member = c.removed[-1]
    before = len(member.log())
    member.start()
    wait_for("its end", lambda: not member.running, seconds_max=20)
    assert "removed" in member.log()[before:]
    assert len(table(c.etcdctl("member", "list", "-w", "table").stdout)) == 3


def test_the_script_of_the_examples(kind: Kind, tmp_path: Path) -> None:
    """It shows all of this to a newcomer; here it is only looked at whether it comes to its end."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Debian: util-linux)")
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\nexec " + " ".join(COMMANDS[kind]) + ' "$@"\n')
    program.chmod(0o755)
    result = subprocess.run(
        [str(ROOT / "examples" / "three_members.sh")],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment({"ETCD": str(program), "ETCDCTL": GO_ETCDCTL}),
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.rstrip().endswith("== done")
    assert result.stdout.count("yes\n") == 6
    assert '"msg":"applied snapshot"' in result.stdout
