"""The language of ``txn`` (contract cli section 3.4)."""

from __future__ import annotations

import pytest

from petcd.cli.etcdctl.commands import Exit
from petcd.cli.etcdctl.txn import parse_compare, parse_request, words


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("put a b", ["put", "a", "b"]),
        ("  put\ta   b ", ["put", "a", "b"]),
        ('put "a b" "c\\nd"', ["put", "a b", "c\nd"]),
        ("put 'a \"b\" c' d", ["put", 'a "b" c', "d"]),
        ('put a --lease="12"', ["put", "a", '--lease="12"']),
        ("", []),
    ],
)
def test_words(line: str, tokens: list[str]) -> None:
    assert words(line) == tokens


def test_compares() -> None:
    compare = parse_compare('mod("key1") > "5"')
    assert (compare.key, compare.target, compare.result, compare.mod_revision) == (b"key1", 2, 1, 5)
    assert parse_compare('val("k\\x00") != `x y`').value == b"x y"
    assert parse_compare('lease("k") = "1f"').lease == 31
    assert parse_compare('create("k") < "-1"').create_revision == -1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "malformed comparison: nonsense"),
        ('mod(key1) > "0"', 'malformed comparison: mod(key1) > "0"; got mod("")  ""'),
        ('foo("k") > "0"', 'malformed comparison: foo("k") > "0" (unknown target foo)'),
        ('mod("k") > "x"', 'invalid txn compare request: mod("k") > "x"'),
        ('mod("k") ~ "1"', 'malformed comparison: mod("k") ~ "1" (unknown result op ~)'),
    ],
)
def test_bad_compares(line: str, message: str) -> None:
    with pytest.raises(Exit) as caught:
        parse_compare(line)
    assert (caught.value.status, caught.value.message) == (3, message)


def test_requests() -> None:
    put = parse_request('put key1 "overwrote key1" --prev-kv').request_put
    assert put is not None
    assert (put.key, put.value, put.prev_kv) == (b"key1", b"overwrote key1", True)
    got = parse_request("get --prefix key").request_range
    assert got is not None
    assert (got.key, got.range_end) == (b"key", b"kez")
    deleted = parse_request("del a b").request_delete_range
    assert deleted is not None
    assert (deleted.key, deleted.range_end) == (b"a", b"b")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("put", 3, "invalid txn compare request: put"),
        ("foo a", 3, "invalid txn request: foo a"),
        ("get --nosuch a", 3, "invalid txn request: get --nosuch a"),
        ("get a --order=UP", 4, "bad sort order UP"),
        ("put a b --ignore-value", 128, "put command needs only 1 argument when 'ignore-value' is set"),
    ],
)
def test_bad_requests(line: str, status: int, message: str) -> None:
    with pytest.raises(Exit) as caught:
        parse_request(line)
    assert (caught.value.status, caught.value.message) == (status, message)
