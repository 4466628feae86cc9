"""A cluster of Go members is not joined: an entry that etcd 3.4 does not know ends it."""

from __future__ import annotations

from pathlib import Path

from tests.rpc import Rpc
from tests.servers import Server, needs_go_etcd, serving

from petcd.pb import etcdserverpb as pb


@needs_go_etcd
def test_joining_a_cluster_of_an_older_release_is_refused(tmp_path: Path) -> None:
    with serving("go") as go:
        ours = Server("petcd", tmp_path, name="ours")
        peer = f"http://127.0.0.1:{ours.peer_port}"
        with Rpc(go.endpoint) as rpc:
            rpc.call(pb.MemberAddRequest(peerURLs=[peer], isLearner=True))
            ours.args = [
                "--initial-cluster-state=existing",
                f"--initial-cluster={go.name}=http://127.0.0.1:{go.peer_port},ours={peer}",
            ]
            ours.spawn()
            try:
                assert ours.wait() == 1
            finally:
                ours.kill()
            assert "a member runs etcd 3.4" in ours.log_tail()
            assert "clusters of mixed releases are not supported" in ours.log_tail()
            rpc.put(b"still", b"there")
            assert rpc.value(b"still") == b"there"
