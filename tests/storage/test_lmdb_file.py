"""Damaged files of ours: told before LMDB maps them, which would end the process."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petcd.seams.disk import File
from petcd.seams.real import RealDisk
from petcd.storage.errors import CorruptError
from petcd.storage.lmdb_access import build_file, escaped_key
from petcd.storage.lmdb_file import check_file, newest_meta
from petcd.storage.lmdb_reader import LmdbReader
from petcd.storage.schema import AUTH_USERS, BUCKETS, KEY, META, Bucket

DISK = RealDisk()
PAGE = 4096
BRANCH, LEAF, OVERFLOW = 1, 2, 4
LONG = b"u" * 600

Page = bytearray
Items = list[tuple[Bucket, bytes, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with branches and leaves, two large values, and a key that is too long for LMDB."""
    path = tmp_path_factory.mktemp("whole") / "petcd.mdb"
    rows = [(b"%08d" % number, b"v" * 200) for number in range(500)]
    rows += [(b"8%07d" % number, b"w" * 9000) for number in range(2)]
    batches = [(KEY, rows), (META, [(b"a", b"b")]), (AUTH_USERS, [(LONG, b"value")])]
    build_file(str(path), batches, disk=DISK)
    return path.read_bytes()


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Callable[[bytes], File]]:
    files = []

    def make(content: bytes) -> File:
        path = tmp_path / f"{len(files)}.mdb"
        path.write_bytes(content)
        files.append(DISK.open(str(path), readonly=True))
        return files[-1]

    yield make
    for file in files:
        file.close()


def kind(content: bytes, number: int) -> int:
    return content[number * PAGE + 10]


def pages(content: bytes, wanted: int) -> list[int]:
    return [n for n in range(2, len(content) // PAGE) if kind(content, n) == wanted]


def items(file: File) -> Items:
    reader = LmdbReader(file)
    try:
        return [(bucket, key, value) for bucket in BUCKETS for key, value in reader.iterate(bucket)]
    finally:
        reader.close()


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"\x02"])
def test_pages_that_were_overwritten(whole: bytes, fill: bytes, damaged: Callable[[bytes], File]) -> None:
    sound = items(damaged(whole))
    assert len(sound) == 504
    refused, reasons = set(), []
    for number in range(2, len(whole) // PAGE):
        content = whole[: number * PAGE] + fill * PAGE + whole[(number + 1) * PAGE :]
        file = damaged(content)
        check_file(file)  # it is as long as it should be, which is all that a start looks at
        try:
            found = items(file)
        except CorruptError as error:
            refused.add(number)
            reasons.append(str(error))
        else:  # not in use, or within a large value
            assert [row[:2] for row in found] == [row[:2] for row in sound]
    assert all(f"page {number} " in reason for number, reason in zip(sorted(refused), reasons, strict=True))
    assert refused >= {*pages(whole, BRANCH), *pages(whole, OVERFLOW)}
    assert len(refused) > 30


def put(page: Page, form: str, at: int, *values: int) -> None:
    struct.pack_into("<" + form, page, at, *values)


def first_node(page: Page) -> int:
    return int.from_bytes(page[16:18], "little")


LEAF_DAMAGES: dict[str, tuple[Callable[[Page], object], str]] = {
    "another page's content": (lambda page: put(page, "Q", 0, 99), "is not part of a tree"),
    "a page of fixed-size keys": (lambda page: put(page, "H", 10, 0x22), "is not part of a tree"),
    "no nodes": (lambda page: put(page, "H", 12, 16), "its bounds cannot be"),
    "more nodes than fit": (lambda page: put(page, "H", 12, PAGE), "its bounds cannot be"),
    "an upper bound beyond it": (lambda page: put(page, "H", 14, PAGE + 2), "its bounds cannot be"),
    "a node within the offsets": (lambda page: put(page, "H", 16, 16), "a record lies outside it"),
    "a node beyond the page": (lambda page: put(page, "H", 16, PAGE - 6), "a record lies outside it"),
    "a value too long": (lambda page: put(page, "H", first_node(page), 5000), "reaches beyond it"),
    "a key too long": (lambda page: put(page, "H", first_node(page) + 6, 5000), "reaches beyond it"),
    "a duplicate's node": (lambda page: put(page, "H", first_node(page) + 4, 4), "of an unknown kind"),
    "a bucket's node": (lambda page: put(page, "H", first_node(page) + 4, 2), "of an unknown kind"),
    "a large value at no page": (lambda page: put(page, "H", first_node(page) + 4, 1), "truncated"),
}


@pytest.mark.parametrize("name", LEAF_DAMAGES)
def test_a_damaged_leaf(whole: bytes, name: str, damaged: Callable[[bytes], File]) -> None:
    change, words = LEAF_DAMAGES[name]
    number = next(n for n in pages(whole, LEAF) if b"00000001" in whole[n * PAGE : (n + 1) * PAGE])
    content = bytearray(whole)
    page = content[number * PAGE : (number + 1) * PAGE]
    change(page)
    content[number * PAGE : (number + 1) * PAGE] = page
    with pytest.raises(CorruptError, match=words):
        check_file(damaged(bytes(content)), every_page=True)


def test_a_branch_that_leads_in_a_circle(whole: bytes, damaged: Callable[[bytes], File]) -> None:
    (number,) = pages(whole, BRANCH)
    page = bytearray(whole[number * PAGE : (number + 1) * PAGE])
    children = struct.unpack_from(f"<{(page[12] | page[13] << 8) // 2 - 8}H", page, 16)
    first, second = (page[offset : offset + 6] for offset in children[:2])
    for child, words in (
        (second, "in use twice"),
        (number.to_bytes(6, "little"), "in use twice"),
        (bytes(6), "in use twice, or free"),
        (b"\xff" * 6, "truncated: page 281474976710655 is missing"),
    ):
        page[children[0] : children[0] + 6] = child
        content = whole[: number * PAGE] + page + whole[(number + 1) * PAGE :]
        with pytest.raises(CorruptError, match=words):
            check_file(damaged(content), every_page=True)
    page[children[0] : children[0] + 6] = first
    put(page, "H", 12, 18)
    with pytest.raises(CorruptError, match="its bounds cannot be"):
        check_file(damaged(whole[: number * PAGE] + page + whole[(number + 1) * PAGE :]), every_page=True)


def test_a_large_value_that_is_cut_short(whole: bytes, damaged: Callable[[bytes], File]) -> None:
    number = pages(whole, OVERFLOW)[0]
    content = bytearray(whole)
    struct.pack_into("<I", content, number * PAGE + 12, 1)
    with pytest.raises(CorruptError, match=f"page {number} does not begin a large value"):
        check_file(damaged(bytes(content)), every_page=True)


def test_a_bucket_of_another_kind(whole: bytes, damaged: Callable[[bytes], File]) -> None:
    main = newest_meta(damaged(whole)).main.root
    content = bytearray(whole)
    name = content.index(bytes(KEY), main * PAGE, (main + 1) * PAGE)
    struct.pack_into("<H", content, name + len(KEY) + 4, 0x04)  # sorted duplicates
    with pytest.raises(CorruptError, match="a bucket of an unknown kind"):
        check_file(damaged(bytes(content)), every_page=True)


@pytest.mark.parametrize("head", [b"\xff\xff", b"\xff\x7f", b"\xff" * 11])
def test_a_long_key_that_cannot_be_read(whole: bytes, head: bytes, damaged: Callable[[bytes], File]) -> None:
    """What LMDB holds is sound, and not what was put."""
    content = bytearray(whole)
    at = content.index(escaped_key(LONG)) + len(escaped_key(LONG))
    content[at : at + len(head)] = head
    reader = LmdbReader(damaged(bytes(content)))
    for read in (
        lambda: reader.get(AUTH_USERS, LONG),
        lambda: reader.range(AUTH_USERS, b"", None),
        lambda: list(reader.iterate(AUTH_USERS)),
        lambda: reader.last_key(AUTH_USERS),
    ):
        with pytest.raises(CorruptError, match=r"mdb: "):
            read()
    reader.close()
