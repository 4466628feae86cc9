"""SRV questions and answers (RFC 1035, RFC 2782)."""

from __future__ import annotations

import struct

import pytest

from petcd.cli.etcdctl import discovery
from petcd.cli.etcdctl.commands import Exit

QUESTION = discovery.encode_question(7, "_etcd-client._tcp.example.com")


def answer(*records: tuple[int, int, int, bytes], code: int = 0) -> bytes:
    out = struct.pack(">HHHHHH", 7, 0x8180 | code, 1, len(records), 0, 0) + QUESTION[12:]
    for priority, weight, port, target in records:
        data = struct.pack(">HHH", priority, weight, port) + target
        # The owner's name points at the question's.
        out += b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 60, len(data)) + data
    return out


def test_question() -> None:
    assert QUESTION == (
        b"\0\7\1\0\0\1\0\0\0\0\0\0\x0c_etcd-client\x04_tcp\x07example\x03com\0" + b"\0\x21\0\1"
    )


def test_answer() -> None:
    # "a" in front of a pointer to example.com inside the question.
    pointer = b"\x01a\xc0" + bytes([12 + len(b"\x0c_etcd-client\x04_tcp")])
    data = answer((2, 0, 2379, pointer), (1, 5, 2380, b"\x01b\0"))
    assert discovery.decode_answer(data, QUESTION) == [
        (2, 0, 2379, "a.example.com"),
        (1, 5, 2380, "b"),
    ]


def test_no_such_name() -> None:
    assert discovery.decode_answer(answer(code=3), QUESTION) is None
    assert discovery.decode_answer(answer(), QUESTION) is None


def test_a_strangers_answer_is_refused() -> None:
    with pytest.raises(ValueError):
        discovery.decode_answer(b"\0\1" + answer()[2:], QUESTION)


def test_a_name_in_a_loop_ends() -> None:
    loop = answer((1, 1, 1, b"\xc0" + bytes([len(answer()) + 12 + 6])))
    with pytest.raises(ValueError):
        discovery.decode_answer(loop, QUESTION)


def test_endpoints(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def lookup(name: str) -> list[tuple[str, int]]:
        if "ssl" in name:
            return [("a", 1)]
        return [("b", 2)]

    monkeypatch.setattr(discovery, "lookup", lookup)
    assert discovery.client_endpoints("x", "", insecure=True) == ["https://a:1", "http://b:2"]
    assert discovery.client_endpoints("x", "n", insecure=False) == ["https://a:1"]
    assert capfd.readouterr().err == 'ignoring discovered insecure endpoint "http://b:2"\n'


def test_both_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str) -> list[tuple[str, int]]:
        raise discovery.LookupFailed(f"lookup {name}: no such host")

    monkeypatch.setattr(discovery, "lookup", lookup)
    with pytest.raises(Exit) as caught:
        discovery.client_endpoints("x.y", "", insecure=True)
    assert caught.value.message == (
        "dns lookup errors: lookup _etcd-client-ssl._tcp.x.y: no such host "
        "and lookup _etcd-client._tcp.x.y: no such host"
    )
