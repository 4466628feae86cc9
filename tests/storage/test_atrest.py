"""A database at rest: one face for both kinds of file, and a backend of ours made from either."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.bbolt.build import Bytes, Contents, written

from petcd.seams.real import RealDisk
from petcd.storage.atrest import Changes, build_backend, changed_batches, is_ours, open_database
from petcd.storage.backend import Item
from petcd.storage.bbolt import BboltFile
from petcd.storage.errors import CorruptError, WriteFailed
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.schema import AUTH_USERS, BUCKETS, KEY, LEASE, MEMBERS, META, Bucket

DISK = RealDisk()


def revision(main: int) -> bytes:
    return main.to_bytes(8, "big") + b"_" + bytes(8)


CONTENTS: Contents = {
    KEY: {revision(main): bytes([main % 251]) * 300 for main in range(2, 3000)},
    AUTH_USERS: {b"u" * size: b"%d" % size for size in (1, 478, 479, 511, 900)},
    META: {b"consistent_index": bytes(8)},
    MEMBERS: {b"1": b"{}", b"2": b"{}"},
}


def items(path: Path) -> list[Item]:
    backend = LmdbBackend(str(path), disk=DISK)
    view = backend.open_view()
    found = [(bucket, key, value) for bucket in BUCKETS for key, value in view.iterate(bucket)]
    view.close()
    backend.close()
    return found


def flat(contents: Contents) -> list[Item]:
    return [(b, k, v) for b in BUCKETS for k, v in sorted(contents.get(b, {}).items())]


def test_a_backend_from_a_bbolt_file_and_the_same_again_from_that(tmp_path: Path) -> None:
    first, second = tmp_path / "one.mdb", tmp_path / "two.mdb"
    build_backend(DISK, str(first), open_database(Bytes(written(CONTENTS))))
    assert items(first) == flat(CONTENTS)

    file = DISK.open(str(first), readonly=True)
    assert is_ours(file)
    ours = open_database(file)
    assert ours.buckets == BUCKETS
    assert [ours.last_key(bucket) for bucket in (KEY, AUTH_USERS, LEASE)] == [
        revision(2999),
        b"u" * 900,
        None,
    ]
    assert ours.get(AUTH_USERS, b"u" * 511) == b"511"
    assert ours.range(KEY, revision(5), revision(7)) == [(revision(n), bytes([n]) * 300) for n in (5, 6)]
    build_backend(DISK, str(second), ours)
    ours.close()
    file.close()
    assert items(second) == flat(CONTENTS)
    left = {path.name for path in tmp_path.iterdir() if not path.name.endswith("-lock")}  # of open backends
    assert left == {"one.mdb", "two.mdb"}


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 30)),
    st.dictionaries(st.integers(0, 40), st.none() | st.binary(max_size=3), max_size=8),
    st.booleans(),
)
def test_changes_on_the_way(present: set[int], changed: dict[int, bytes | None], cleared: bool) -> None:
    contents = {LEASE: {b"%02d" % n + bytes(700): b"v" for n in present}, META: {b"a": b"b"}}
    changes: Changes = {(LEASE, b"%02d" % n + bytes(700)): value for n, value in changed.items()}
    found: dict[Bucket, list[tuple[bytes, bytes]]] = {}
    seen: list[int] = []
    database = BboltFile(Bytes(written(contents)))
    for bucket, pairs in changed_batches(database, changes, {LEASE} if cleared else (), seen.append):
        found.setdefault(bucket, []).extend(pairs)
    wanted: dict[bytes, bytes | None] = {} if cleared else dict(contents[LEASE])
    wanted |= {key: value for (_, key), value in changes.items()}
    assert found[LEASE] == sorted((key, value) for key, value in wanted.items() if value is not None)
    assert found[META] == [(b"a", b"b")]
    assert seen == sorted(seen) and seen


def test_what_is_damaged_leaves_nothing(tmp_path: Path) -> None:
    content = bytearray(written(CONTENTS))
    content[40 * 4096 : 41 * 4096] = bytes(4096)
    with pytest.raises(CorruptError, match="page 40"):
        build_backend(DISK, str(tmp_path / "petcd.mdb"), open_database(Bytes(bytes(content))))
    wild: Contents = {LEASE: {bytes([1]) * 600: b""}}
    with pytest.raises(CorruptError, match="no etcd can have"):
        build_backend(DISK, str(tmp_path / "petcd.mdb"), open_database(Bytes(written(wild))))
    with pytest.raises(CorruptError, match="not a bbolt file"):
        open_database(Bytes(b"no database" * 1000))
    assert list(tmp_path.iterdir()) == []


def test_no_directory_for_it(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed):
        build_backend(DISK, str(tmp_path / "none" / "petcd.mdb"), open_database(Bytes(written(CONTENTS))))
