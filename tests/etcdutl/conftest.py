"""One member of each kind, its history, and two snapshots of each: with all of it, and compacted."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.etcdutl.sources import (
    COMPACTED,
    LATEST,
    Snapshot,
    everything,
    hash_kv,
    rpc,
    save,
    write_history,
)
from tests.servers import HAS_GO_ETCD, Kind, serving


class Source(NamedTuple):
    whole: Snapshot
    compacted: Snapshot


def _make(kind: Kind, factory: pytest.TempPathFactory) -> Source:
    directory = factory.mktemp(kind)
    with serving(kind, directory / "member") as server:
        write_history(server)

        def take(name: str, revisions: range) -> Snapshot:
            path = directory / name
            save(server, path)
            hashes = {rev: hash_kv(server, rev) for rev in revisions}
            return Snapshot(kind, path, hash_kv(server), hashes, everything(server), server.data_dir)

        whole = take("whole.db", range(2, LATEST + 1, 10))
        rpc(server, "kv/compaction", revision=COMPACTED, physical=True)
        source = Source(whole, take("compacted.db", range(LATEST, LATEST + 1)))
        server.stop()
    return source


@pytest.fixture(scope="session")
def petcd_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return _make("petcd", tmp_path_factory)


@pytest.fixture(scope="session")
def go_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    if not HAS_GO_ETCD:
        pytest.skip("Go etcd is not installed (Debian: etcd-server; .ci/run installs it)")
    return _make("go", tmp_path_factory)


@pytest.fixture(params=["petcd", pytest.param("go", marks=pytest.mark.go)])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.getfixturevalue(f"{request.param}_source")
    return found
