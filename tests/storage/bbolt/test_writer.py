"""What is written is what the view shows, laid out as bbolt lays it out."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.bbolt.build import Bytes, Contents, Shown, revision, written

from petcd.storage.bbolt import BboltFile, check_database, database_chunks, read_database, write_database
from petcd.storage.bbolt.layout import BRANCH, HEADER, LEAF, NO_FREELIST, PAGE_BYTES
from petcd.storage.bbolt.writer import SLICE_BYTES, SLICE_PAIRS
from petcd.storage.schema import AUTH_USERS, BUCKETS, CLUSTER, KEY, LEASE, MEMBERS, META, Bucket

SIZES = (0, 1, 30, 256, 900, 1000, 2000, 4000, 4096, 9000, 20_000)


def items(contents: Contents) -> list[tuple[Bucket, bytes, bytes]]:
    return [(bucket, *pair) for bucket in BUCKETS for pair in sorted(contents.get(bucket, {}).items())]


def check(contents: Contents) -> BboltFile:
    """Write, read back, and look at every page."""
    file = Bytes(written(contents))
    assert list(read_database(file)) == items(contents)
    database = BboltFile(file)
    counted = database.verify()
    assert counted.pages == counted.reachable == len(file.content) // PAGE_BYTES
    assert counted.keys == len(items(contents))
    check_fanout(bytes(file.content))
    return database


def check_fanout(content: bytes) -> None:
    """Two elements at least in every branch, and no page that could have held another element."""
    at = 2 * PAGE_BYTES
    while at < len(content):
        number, flags, count, overflow = HEADER.unpack_from(content, at)
        assert number == at // PAGE_BYTES
        assert flags in (BRANCH, LEAF)
        if flags == BRANCH:
            assert count >= 2
        # The last branch of a level takes a third child that would be alone.
        assert not overflow or count <= (3 if flags == BRANCH else 2), "only what does not fit overflows"
        at += (1 + overflow) * PAGE_BYTES


def test_an_empty_backend_has_all_buckets() -> None:
    database = check({})
    assert database.buckets == BUCKETS
    assert database.meta.freelist == NO_FREELIST
    assert database.meta.high_water == 3


def test_small_buckets_lie_in_the_root() -> None:
    database = check({META: {b"consistent_index": bytes(8)}, CLUSTER: {b"clusterVersion": b"3.7.0"}})
    assert database.meta.high_water == 3


@pytest.mark.parametrize("size", [1024 - 32 - 5, 1024 - 32 - 4])
def test_the_largest_inline_bucket(size: int) -> None:
    """Header, element, key and value of 1,024 bytes are inline, of one more are not."""
    pages = check({MEMBERS: {b"k" * 4: bytes(size)}}).meta.high_water
    assert pages == (3 if 32 + 4 + size <= 1024 else 4)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12, 13, 14, 15, 100, 3000, 30_000])
def test_many_small_pairs(count: int) -> None:
    rng = random.Random(count)
    check({KEY: {revision(main): rng.randbytes(rng.choice((250, 256, 300))) for main in range(count)}})


@pytest.mark.parametrize("seed", range(20))
def test_sizes_of_all_kinds(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(1, 150)
    check({KEY: {revision(main): rng.randbytes(rng.choice(SIZES)) for main in range(count)}})


@pytest.mark.parametrize("seed", range(20))
def test_long_keys(seed: int) -> None:
    """A branch with two long keys does not fit a page."""
    rng = random.Random(seed)
    sizes = rng.choice([(10, 1500), (1500, 3000), (10, 32_760)])
    names = [b"%04d" % i + rng.randbytes(rng.randrange(*sizes)) for i in range(rng.randrange(1, 120))]
    check({AUTH_USERS: {name: rng.randbytes(rng.choice(SIZES[:6])) for name in names}})


pairs = st.dictionaries(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(SIZES).map(bytes) | st.binary(max_size=60),
    max_size=90,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(BUCKETS), pairs))
def test_anything(contents: Contents) -> None:
    check(contents)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5000), st.integers(1, 4), st.integers(0, 300))
def test_any_number_of_leaves(count: int, width: int, size: int) -> None:
    """Whatever is left over for the last branch of a level, it is two at least."""
    count //= width
    check({LEASE: {b"%08d" % i: bytes(size) for i in range(count)}})


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(max_size=9), max_size=30),
    st.dictionaries(st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=9), max_size=30),
)
def test_overrides(before: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
    """They replace, add and leave out; other buckets are as they were."""
    overrides = {(META, key): value for key, value in changes.items()}
    after = {**before, **changes}
    wanted = {META: {key: value for key, value in after.items() if value is not None}, LEASE: before}
    file = Bytes(written({META: before, LEASE: before}, overrides))
    assert list(read_database(file)) == items(wanted)


def test_write_database_says_how_far_it_is_and_syncs() -> None:
    contents: Contents = {KEY: {revision(main): bytes(3000) for main in range(2000)}}
    file = Bytes()
    sizes = list(write_database(Shown(contents), file))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(file.content) == len(file.synced)
    assert len(sizes) > 10
    assert bytes(file.content) == written(contents)


def test_an_unfinished_file_is_no_database() -> None:
    file = Bytes(room=3_000_000)
    writing = write_database(Shown({KEY: {revision(main): bytes(3000) for main in range(2000)}}), file)
    with pytest.raises(OSError, match="No space"):
        for _ in writing:
            pass
    assert file.synced == b""
    assert not any(file.content[: 2 * PAGE_BYTES])


@pytest.mark.parametrize(("count", "size"), [(20_000, 20), (3000, 2000), (40, 1_500_000)])
def test_a_step_is_short(count: int, size: int) -> None:
    """Neither many pairs nor large ones make a step long, or its memory large."""
    taken = [0, 0]

    class Counting(Shown):
        def iterate(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /):  # type: ignore[no-untyped-def]
            if bucket == KEY:
                for main in range(count):
                    taken[0] += 1
                    taken[1] += size
                    yield revision(main), bytes(size)

    before = [0, 0]
    for _, chunk in database_chunks(Counting({})):
        assert taken[0] - before[0] <= SLICE_PAIRS
        assert taken[1] - before[1] <= SLICE_BYTES + size
        assert len(chunk) <= 2 * (SLICE_BYTES + 3 * size) + 64 * SLICE_PAIRS + 16 * PAGE_BYTES
        before = list(taken)
    assert taken[0] == count


def test_metas_agree_and_the_first_counts() -> None:
    """Both are valid and of the same root; the next transaction of a server goes over the older."""
    content = written({KEY: {revision(1): b"v"}})
    newer, older = (struct.unpack_from("<16xIIIIQQQQQ", content, at) for at in (0, PAGE_BYTES))
    assert newer[:-1] == older[:-1]
    assert (newer[-1], older[-1]) == (2, 1)
    for damaged in (0, PAGE_BYTES):
        file = Bytes(content)
        file.content[damaged + 20] ^= 1
        assert check_database(file).transaction == (1 if damaged == 0 else 2)
