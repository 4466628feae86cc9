"""Changes of the membership, learners, leases and leadership at any member: what etcdctl prints is what it
prints of Go etcd.

The same story is told to three members of either kind. Where release 3.4, the Go one, differs from 3.7 the
story does not go.
"""

from __future__ import annotations

import re

import pytest
from tests.cluster.members import Cluster, cluster, wait_for
from tests.servers import Kind, needs_go_etcd

pytestmark = pytest.mark.slow


class Story:
    """What was asked and answered, with ids, times and terms masked."""

    def __init__(self, c: Cluster) -> None:
        self.c = c
        self.lines: list[str] = []

    def ask(self, name: str, *args: str, via: int) -> str:
        """One etcdctl command; its standard output."""
        result = self.c.etcdctl(*args, via=via, check=False)
        text = f"{name}: {result.stdout}{result.stderr}"
        text = re.sub(r"\b[0-9a-f]{15,16}\b", "ID", text)
        text = re.sub(r"remaining\(\d+", "remaining(N", text)
        text = re.sub(r"\{\"level\".*\n", "", text)
        self.lines.append(re.sub(r" at \[.*\]", "", re.sub(r" {2,}", " ", text)).strip())
        return result.stdout


def tell(c: Cluster) -> list[str]:
    story = Story(c)
    ask = story.ask
    leader = c.leader()
    follower, other = [host for host in c.members if host != leader]
    ask("put", "put", "a", "1", via=follower)
    ask("get", "get", "a", via=other)
    new = c.add(learner=True)
    learner = next(
        line.split(", ")[0]
        for line in c.etcdctl("member", "list").stdout.splitlines()
        if new.peer_url in line
    )
    ask("a URL twice", "member", "add", "m1", f"--peer-urls={c[1].peer_url}", via=follower)
    ask("a second learner", "member", "add", "m5", "--learner", "--peer-urls=http://10.0.0.5:1", via=other)
    ask("promote early", "member", "promote", learner, via=follower)
    ask("promote a voter", "member", "promote", f"{c.member_id(other):x}", via=follower)
    for what in ("promote", "remove"):
        ask(f"{what} nobody", "member", what, "5", via=other)
    ask("update nobody", "member", "update", "5", "--peer-urls=http://10.0.0.9:1", via=leader)
    ask("update to another's", "member", "update", learner, f"--peer-urls={c[1].peer_url}", via=leader)

    new.start()
    wait_for(
        "the learner's copy",
        lambda: "1" in c.etcdctl("get", "a", "--consistency=s", via=4, check=False).stdout,
    )
    ask("at the learner: read", "get", "a", "--consistency=s", via=4)
    ask("at the learner: linearizable read", "get", "a", via=4)
    ask("at the learner: write", "put", "a", "2", via=4)
    ask("at the learner: list", "member", "list", via=4)
    ask("at the learner: lease", "lease", "grant", "9", via=4)
    ask("move to the learner", "move-leader", learner, via=leader)
    ask("move, asked of a follower", "move-leader", learner, via=follower)
    ask("move to nobody", "move-leader", "5", via=leader)
    wait_for(
        "promotion",
        lambda: "promoted" in c.etcdctl("member", "promote", learner, via=follower, check=False).stdout,
        pause=0.3,
    )
    wait_for("the learner votes", lambda: c[4].health())
    ask("promote again", "member", "promote", learner, via=other)
    ask("the new voter", "get", "a", via=4)

    granted = ask("lease", "lease", "grant", "60", via=follower)
    lease = granted.split()[1]
    ask("attach", "put", "k", "v", f"--lease={lease}", via=other)
    for host in (leader, follower):
        ask("time to live", "lease", "timetolive", lease, "--keys", via=host)
        ask("keep alive", "lease", "keep-alive", "--once", lease, via=host)
        ask("keep nothing alive", "lease", "keep-alive", "--once", "1234", via=host)
        ask("nothing's time", "lease", "timetolive", "1234", via=host)
    ask("revoke", "lease", "revoke", lease, via=other)
    ask("time of the revoked", "lease", "timetolive", lease, via=follower)

    ask("move", "move-leader", f"{c.member_id(follower):x}", via=leader)
    wait_for("the new leader", lambda: c.leader_seen_by(other) == c.member_id(follower))
    ask("remove the old leader", "member", "remove", f"{c.member_id(leader):x}", via=other)
    wait_for("its end", lambda: not c[leader].running)
    story.lines.append(f"the removed: status {c[leader].process.poll()}")  # type: ignore[union-attr]
    ask("three are left", "endpoint", "health", via=follower)
    story.lines[-1] = re.sub(r"10\.99\.0\.\d|took = .*", "", story.lines[-1])
    return story.lines


def told(kind: Kind) -> list[str]:
    with cluster(kind) as c:
        return tell(c)


@needs_go_etcd
def test_the_story_is_gos(kind: Kind) -> None:
    del kind  # it says whether clusters can be made here; this test makes one of each
    assert told("petcd") == told("go")
