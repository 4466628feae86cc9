"""Reading: a view like any other, and a typed error for whatever is not a database."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.bbolt.build import (
    Bytes,
    Contents,
    Shown,
    branch,
    database,
    leaf,
    metas,
    revision,
    written,
)

from petcd.storage.bbolt import BboltFile, check_database, read_database
from petcd.storage.bbolt.layout import BUCKET, FREELIST, HEADER, IS_BUCKET, PAGE_BYTES, fnv1a
from petcd.storage.errors import CorruptError, FutureVersionError, StorageError
from petcd.storage.schema import AUTH, AUTH_USERS, KEY, LEASE, META, STORAGE_VERSION

PAGE = PAGE_BYTES


def keys_of(*numbers: int) -> list[tuple[bytes, bytes]]:
    return [(b"%04d" % number, b"v") for number in numbers]


@cache
def sample() -> bytes:
    """Three levels of branches, overflow, inline buckets and plain ones."""
    rng = random.Random(1)
    contents: Contents = {
        KEY: {revision(main): rng.randbytes(rng.choice((20, 256, 9000))) for main in range(300)},
        AUTH_USERS: {b"%03d" % i + bytes(rng.randrange(900, 1300)): b"user" for i in range(60)},
        META: {b"consistent_index": bytes(8), b"term": bytes(8), b"confState": b'{"voters":[1]}'},
        LEASE: {bytes(7) + bytes([i]): b"lease" for i in range(9)},
    }
    return written(contents)


def read_all(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Everything that can be asked of a file."""
    file = Bytes(content)
    check_database(file)
    found = list(read_database(file))
    BboltFile(file).verify()
    return [*found]


def corrupt(content: bytes, match: str) -> None:
    """Both kinds of reading refuse this, and nothing is raised but a CorruptError."""
    with pytest.raises(CorruptError, match=match):
        list(read_database(Bytes(content)))
    with pytest.raises(CorruptError):
        BboltFile(Bytes(content)).verify()


# ---------------------------------------------------------------------- a view


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=3), st.sampled_from((b"", b"v", bytes(400), bytes(5000))), max_size=120
    ),
    st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
    st.integers(0, 20),
)
def test_a_view(pairs: dict[bytes, bytes], start: bytes, end: bytes | None, limit: int) -> None:
    contents: Contents = {LEASE: pairs}
    file = BboltFile(Bytes(written(contents)))
    model = Shown(contents)
    assert list(file.iterate(LEASE, start, end)) == list(model.iterate(LEASE, start, end))
    assert file.range(LEASE, start, end, limit) == model.range(LEASE, start, end, limit)
    assert file.last_key(LEASE) == max(pairs, default=None)
    for key in [start, *list(pairs)[:5]]:
        assert file.get(LEASE, key) == model.get(LEASE, key)
    assert list(file.iterate(KEY)) == []
    assert file.get(AUTH, b"x") is None


def test_missing_buckets_are_empty() -> None:
    file = BboltFile(Bytes(database([leaf(3, keys_of(1, 2))])))
    assert file.buckets == (KEY,)
    assert file.get(META, b"term") is None
    assert list(file.iterate(META)) == []
    assert file.last_key(META) is None


def test_reading_takes_little_memory() -> None:
    """No read is longer than a page with its overflow."""
    file = Bytes(sample())
    list(read_database(file))
    assert max(file.reads) <= 9 * PAGE
    assert len(file.content) > 100 * PAGE


def test_a_lookup_reads_a_path() -> None:
    file = Bytes(sample())
    database_ = BboltFile(file)
    file.reads.clear()
    assert database_.get(KEY, revision(7)) is not None
    assert len(file.reads) <= 6


def test_larger_pages() -> None:
    """The size of a page is the writer's; here 16 KiB, as on some machines."""
    size = 16384
    root = leaf(2, [(KEY, BUCKET.pack(0, 0) + leaf(0, keys_of(1)))], IS_BUCKET).ljust(size, b"\0")
    pages = []
    for number in (0, 1):
        body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, size, 0, 2, 0, 2**64 - 1, 3, 4 + number)
        pages.append(
            (HEADER.pack(number, 4, 0, 0) + body + struct.pack("<Q", fnv1a(body))).ljust(size, b"\0")
        )
    content = b"".join(pages) + root
    assert list(read_database(Bytes(content))) == [(KEY, b"0001", b"v")]
    broken = bytearray(content)
    broken[40] ^= 1
    file = BboltFile(Bytes(bytes(broken)))
    assert (file.meta.page_bytes, file.meta.transaction) == (size, 5), "found without the first"


# ---------------------------------------------------------------------- damage at large


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_cut_anywhere(data: st.DataObject) -> None:
    content = sample()
    with pytest.raises(CorruptError):
        read_all(content[: data.draw(st.integers(0, len(content) - 1))])


def test_longer_than_it_says() -> None:
    """As on a Go server, which extends its file ahead; or with the digest of a saved snapshot behind it."""
    assert read_all(sample() + bytes(32)) == read_all(sample())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(sample()) - 1), st.integers(0, 7)), min_size=1, max_size=8))
def test_flipped_bits(flips: list[tuple[int, int]]) -> None:
    content = bytearray(sample())
    for at, bit in flips:
        content[at] ^= 1 << bit
    with contextlib.suppress(StorageError):
        read_all(bytes(content))


HEADERS = st.tuples(st.integers(2, len(sample()) // PAGE - 1), st.integers(0, 160))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(HEADERS, st.sampled_from((1, 2, 4, 8)), st.integers(0, 2**64 - 1) | st.integers(0, 5000)),
        min_size=1,
        max_size=6,
    )
)
def test_other_numbers_at_the_start_of_pages(changes: list[tuple[tuple[int, int], int, int]]) -> None:
    """Where flags, counts, sizes and page ids lie."""
    content = bytearray(sample())
    for (page, at), size, number in changes:
        place = page * PAGE + at
        content[place : place + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    with contextlib.suppress(StorageError):
        read_all(bytes(content))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(3, 12))
def test_noise_behind_good_metas(noise: bytes, high_water: int) -> None:
    body = (noise * (-(-high_water * PAGE // max(len(noise), 1))))[: high_water * PAGE].ljust(
        high_water * PAGE, b"\0"
    )
    with pytest.raises(CorruptError):
        read_all(metas(2, high_water) + body[2 * PAGE :])


@pytest.mark.parametrize("content", [b"", b"x", bytes(4096), bytes(100_000), b"SQLite format 3\0" * 9000])
def test_no_database(content: bytes) -> None:
    with pytest.raises(CorruptError, match="not a bbolt file"):
        read_all(content)


def test_a_disk_that_does_not_read() -> None:
    class Broken(Bytes):
        def pread(self, size: int, offset: int, /) -> bytes:
            if offset >= 5 * PAGE:
                raise OSError(5, "Input/output error")
            return super().pread(size, offset)

    with pytest.raises(CorruptError, match="Input/output error"):
        list(read_database(Broken(sample())))


def test_a_file_that_shrinks_meanwhile() -> None:
    file = Bytes(sample())
    reading = read_database(file)
    next(reading)
    file.truncate(len(file.content) // 2)
    with pytest.raises(CorruptError, match="to its end"):
        list(reading)


# ---------------------------------------------------------------------- damage by name


def test_a_branch_without_children() -> None:
    """CVE-2026-33817: bbolt panics."""
    corrupt(database([branch(3, [])]), "without children")


def test_a_page_that_is_its_own_child() -> None:
    corrupt(database([branch(3, [(b"0001", 3), (b"0002", 3)])]), "deeper|more than once|announces")


def test_a_cycle() -> None:
    pages = [branch(3, [(b"a", 4), (b"b", 5)]), branch(4, [(b"a", 3), (b"aa", 5)]), leaf(5, [(b"b", b"")])]
    corrupt(database(pages), "deeper|more than once|announces")


def test_a_leaf_with_two_parents() -> None:
    corrupt(database([branch(3, [(b"0001", 4), (b"0005", 4)]), leaf(4, keys_of(1, 7))]), "announces")


def test_a_tree_that_doubles_at_every_level() -> None:
    """2^40 empty leaves through 40 pages must not be visited."""
    pages = [branch(3 + i, [(b"a", 4 + i), (b"b", 4 + i)]) for i in range(40)]
    corrupt(database([*pages, leaf(43, [])]), "more than once|announces")


def test_too_deep() -> None:
    pages = [branch(3 + i, [(b"a", 4 + i)]) for i in range(200)]
    corrupt(database([*pages, leaf(203, [(b"a", b"")])]), "deeper")
    with pytest.raises(CorruptError, match="deeper"):
        BboltFile(Bytes(database([*pages, leaf(203, [(b"a", b"")])]))).last_key(KEY)


LEAVES: Sequence[tuple[str, bytes]] = [
    ("do not ascend", leaf(3, keys_of(2, 1))),
    ("do not ascend", leaf(3, keys_of(1, 1))),
    ("empty key", leaf(3, [(b"", b"v")])),
    ("flags 0x1", leaf(3, keys_of(1), IS_BUCKET)),
    ("do not fit", HEADER.pack(3, 2, 300, 0).ljust(PAGE, b"\0")),
    ("says that it is page 9", HEADER.pack(9, 2, 0, 0).ljust(PAGE, b"\0")),
    ("neither branch nor leaf", HEADER.pack(3, 3, 0, 0).ljust(PAGE, b"\0")),
    ("neither branch nor leaf", HEADER.pack(3, FREELIST, 0, 0).ljust(PAGE, b"\0")),
    ("beyond the last", HEADER.pack(3, 2, 0, 1).ljust(PAGE, b"\0")),
    ("beyond the last", HEADER.pack(3, 2, 0, 0xFFFFFFFF).ljust(PAGE, b"\0")),
    ("points outside", (HEADER.pack(3, 2, 1, 0) + struct.pack("<IIII", 0, 16, 1, 5000)).ljust(PAGE, b"\0")),
    (
        "points outside",
        (HEADER.pack(3, 2, 1, 0) + struct.pack("<IIII", 0, 2**32 - 1, 1, 1)).ljust(PAGE, b"\0"),
    ),
    ("points outside", (HEADER.pack(3, 2, 1, 0) + struct.pack("<IIII", 0, 0, 4, 4)).ljust(PAGE, b"\0")),
    ("points outside", leaf(3, [(bytes(32769), b"")])),
]


@pytest.mark.parametrize(("match", "page"), LEAVES)
def test_bad_leaves(match: str, page: bytes) -> None:
    corrupt(database([page]), match)


BRANCHES: Sequence[tuple[str, list[bytes]]] = [
    ("page 99 of 6 is pointed at", [branch(3, [(b"0001", 4), (b"0003", 99)]), leaf(4, keys_of(1)), b""]),
    ("page 0 of", [branch(3, [(b"0001", 4), (b"0003", 0)]), leaf(4, keys_of(1)), b""]),
    ("announces", [branch(3, [(b"0002", 4), (b"0003", 5)]), leaf(4, keys_of(1)), leaf(5, keys_of(3))]),
    ("announces", [branch(3, [(b"0001", 4), (b"0003", 5)]), leaf(4, keys_of(1, 4)), leaf(5, keys_of(5))]),
    ("announces", [branch(3, [(b"0001", 4), (b"0003", 5)]), leaf(4, keys_of(1)), leaf(5, keys_of(2))]),
    ("do not ascend", [branch(3, [(b"0003", 4), (b"0001", 5)]), leaf(4, keys_of(3)), leaf(5, keys_of(1))]),
    ("empty key", [branch(3, [(b"", 4), (b"0003", 5)]), leaf(4, keys_of(1)), leaf(5, keys_of(3))]),
]


@pytest.mark.parametrize(("match", "pages"), BRANCHES)
def test_bad_branches(match: str, pages: list[bytes]) -> None:
    corrupt(database([page or bytes(PAGE) for page in pages]), match)


@pytest.mark.parametrize("value", [b"", bytes(15), bytes(16), bytes(31), bytes(24) + b"\x01" + bytes(7)])
def test_bad_buckets(value: bytes) -> None:
    corrupt(metas(2, 3) + leaf(2, [(KEY, value)], IS_BUCKET), "a header of|inline")


def test_a_plain_pair_among_the_buckets() -> None:
    corrupt(metas(2, 3) + leaf(2, [(b"key", bytes(32))]), "flags 0x0 where 0x1")


@pytest.mark.parametrize("root", [0, 1, 3, 2**64 - 1])
def test_a_root_that_is_none(root: int) -> None:
    corrupt(metas(root, 3) + leaf(2, []), "root page")


def test_a_value_too_large_to_hold() -> None:
    """A page of a gigabyte is refused before it is read."""

    class Huge(Bytes):
        def size(self) -> int:
            return 1 << 33

        def pread(self, size: int, offset: int, /) -> bytes:
            assert size <= PAGE, "it is not even asked for"
            return super().pread(size, offset)

    content = database([HEADER.pack(3, 2, 0, 1 << 18).ljust(PAGE, b"\0")])
    content = metas(2, 1 << 20) + content[2 * PAGE :]
    with pytest.raises(CorruptError, match="too many"):
        list(read_database(Huge(content)))


# ---------------------------------------------------------------------- the whole file


def freelist(number: int, ids: Sequence[int]) -> bytes:
    return (HEADER.pack(number, FREELIST, len(ids), 0) + struct.pack(f"<{len(ids)}Q", *ids)).ljust(
        PAGE, b"\0"
    )


def test_a_stored_free_list() -> None:
    content = database([leaf(3, keys_of(1)), freelist(4, [5, 6]), bytes(PAGE), bytes(PAGE)], freelist=4)
    counted = BboltFile(Bytes(content)).verify()
    assert (counted.pages, counted.reachable) == (7, 5)


@pytest.mark.parametrize(
    ("match", "ids"),
    [
        ("neither in use nor free", []),
        ("neither in use nor free", [6]),
        ("in use and free", [3, 5, 6]),
        ("in use and free", [4, 5, 6]),
        ("after", [6, 5]),
        ("after", [5, 5]),
        ("after", [1, 5]),
        ("after", [5, 6, 7]),
    ],
)
def test_bad_free_lists(match: str, ids: list[int]) -> None:
    content = database([leaf(3, keys_of(1)), freelist(4, ids), bytes(PAGE), bytes(PAGE)], freelist=4)
    with pytest.raises(CorruptError, match=match):
        BboltFile(Bytes(content)).verify()
    assert len(list(read_database(Bytes(content)))) == 1, "what is in it can still be read"


@pytest.mark.parametrize(
    "page",
    [
        leaf(4, []),
        HEADER.pack(4, FREELIST, 600, 0).ljust(PAGE, b"\0"),
        (HEADER.pack(4, FREELIST, 0xFFFF, 0) + struct.pack("<Q", 1 << 60)).ljust(PAGE, b"\0"),
    ],
)
def test_a_free_list_that_is_none(page: bytes) -> None:
    with pytest.raises(CorruptError):
        BboltFile(Bytes(database([leaf(3, keys_of(1)), page], freelist=4))).verify()


def test_two_buckets_of_one_page() -> None:
    value = BUCKET.pack(3, 0)
    content = metas(2, 4) + leaf(2, [(KEY, value), (LEASE, value)], IS_BUCKET) + leaf(3, keys_of(1))
    with pytest.raises(CorruptError, match="in use twice"):
        BboltFile(Bytes(content)).verify()


# ---------------------------------------------------------------------- a member's database


def test_what_a_database_says() -> None:
    info = check_database(Bytes(sample()), every_page=True)
    assert info.conf_state is not None
    assert info.conf_state["voters"] == [1]
    assert (info.revision, info.compact_revision, info.keys) == (299, 0, 372)
    assert (info.consistent_index, info.term, info.storage_version, info.cluster_version) == (0, 0, "", "")
    assert info.size_bytes == len(sample())


def test_unknown_buckets_are_left_aside() -> None:
    inline = BUCKET.pack(0, 0) + leaf(0, [(revision(1), b"v")])
    names = [KEY, META, b"test", b"zoo"]
    content = metas(2, 3) + leaf(2, [(name, inline) for name in names], IS_BUCKET)
    assert check_database(Bytes(content)).unknown == (b"test", b"zoo")
    assert [bucket for bucket, _, _ in read_database(Bytes(content))] == [KEY, META]
    many = sorted([(KEY, inline), (META, inline), *((b"%05d" % i, inline) for i in range(40))])
    content = metas(2, 3) + leaf(2, many, IS_BUCKET)
    assert len(BboltFile(Bytes(content)).unknown) <= 16


def test_not_a_members_database() -> None:
    with pytest.raises(CorruptError, match="no bucket meta"):
        check_database(Bytes(database([leaf(3, [])])))


def one(bucket: bytes, key: bytes, value: bytes) -> Bytes:
    return Bytes(written({bucket: {key: value}}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "file",
    [
        one(META, b"consistent_index", b"7"),
        one(META, b"term", b"123456789"),
        one(META, b"confState", b"[]"),
        one(META, b"confState", b"{"),
        one(META, b"confState", b'{"voters":5}'),
        one(META, b"confState", b'{"voters":["1"]}'),
        one(META, b"confState", b"[" * 100_000),
        one(META, b"scheduledCompactRev", b"x"),
        one(META, STORAGE_VERSION, b"three"),
        one(META, STORAGE_VERSION, b"3.6.\xff"),
        one(KEY, b"k", b"v"),
        one(KEY, bytes(17), b"v"),
    ],
)
def test_marks_that_are_none(file: Bytes) -> None:
    with pytest.raises(CorruptError):
        check_database(file)


def test_of_a_release_to_come() -> None:
    with pytest.raises(FutureVersionError):
        check_database(one(META, STORAGE_VERSION, b"3.9.0"))


def test_the_revision_of_a_compacted_store() -> None:
    """All keys may be gone; the compaction tells how far the store was."""
    info = check_database(one(META, b"finishedCompactRev", revision(12)))
    assert (info.revision, info.compact_revision) == (12, 12)
