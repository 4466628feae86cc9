"""Endpoints from DNS SRV records: ``--discovery-srv`` (contract cli section 2.8; RFC 1035, RFC 2782).

The standard library resolves no SRV records, so the one question is asked here, of the system's name servers.
"""

from __future__ import annotations

import secrets
import socket
import struct
from pathlib import Path
from typing import Final

from petcd.cli.etcdctl.commands import ERROR, Exit, complain

_SRV: Final = 33
_INTERNET: Final = 1
_RECURSE: Final = 0x0100
_PORT: Final = 53
_TIMEOUT_SECONDS: Final = 3.0
_HEADER: Final = struct.Struct(">HHHHHH")
_RECORD: Final = struct.Struct(">HHIH")
_SERVICE: Final = struct.Struct(">HHH")


class LookupFailed(Exception):
    """No answer, or no such name."""


def client_endpoints(domain: str, name: str, *, insecure: bool) -> list[str]:
    """The endpoints of a domain: those of the TLS service first. Raises Exit when both look-ups fail."""
    found: list[str] = []
    errors = []
    for service, scheme in (("etcd-client-ssl", "https"), ("etcd-client", "http")):
        if name:
            service += f"-{name}"
        try:
            found += [f"{scheme}://{host}:{port}" for host, port in lookup(f"_{service}._tcp.{domain}")]
        except LookupFailed as error:
            errors.append(str(error))
    if len(errors) == 2:
        raise Exit(ERROR, f"dns lookup errors: {errors[0]} and {errors[1]}")
    if insecure:
        return found
    for url in found:
        if not url.startswith("https://"):
            complain(f'ignoring discovered insecure endpoint "{url}"')
    return [url for url in found if url.startswith("https://")]


def servers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"] or ["127.0.0.1"]


def lookup(name: str) -> list[tuple[str, int]]:
    """Targets and ports of an SRV name, by priority. Raises LookupFailed."""
    question = encode_question(secrets.randbelow(1 << 16), name)
    failure = "no name server"
    for server in servers():
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asker:
                asker.settimeout(_TIMEOUT_SECONDS)
                asker.connect((server, _PORT))
                asker.send(question)
                answer = asker.recv(65535)
            records = decode_answer(answer, question)
        except OSError as error:
            failure = str(error)
            continue
        except (ValueError, IndexError, struct.error) as error:
            failure = f"malformed answer: {error}"
            continue
        if records is None:
            failure = "no such host"
            break
        return [(target, port) for _, _, port, target in sorted(records)]
    raise LookupFailed(f"lookup {name}: {failure}")


def encode_question(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode("idna") for part in name.rstrip(".").split("."))
    return _HEADER.pack(number, _RECURSE, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", _SRV, _INTERNET)


def decode_answer(answer: bytes, question: bytes) -> list[tuple[int, int, int, str]] | None:
    """(priority, weight, port, target) of each record; None when the name is unknown or has none."""
    _, flags, questions, count, _, _ = _HEADER.unpack_from(answer)
    if answer[:2] != question[:2] or not flags & 0x8000:
        raise ValueError("not an answer to this question")
    if flags & 0xF:
        return None
    at = _HEADER.size
    for _ in range(questions):
        at = _skip_name(answer, at) + 4
    records = []
    for _ in range(count):
        at = _skip_name(answer, at)
        kind, _, _, length = _RECORD.unpack_from(answer, at)
        at += _RECORD.size
        if kind == _SRV:
            priority, weight, port = _SERVICE.unpack_from(answer, at)
            records.append((priority, weight, port, _name(answer, at + _SERVICE.size)))
        at += length
    return records or None


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def _name(data: bytes, at: int) -> str:
    labels: list[str] = []
    for _ in range(128):
        length = data[at]
        if not length:
            return ".".join(labels)
        if length & 0xC0:
            at = (length & 0x3F) << 8 | data[at + 1]
            continue
        labels.append(data[at + 1 : at + 1 + length].decode("ascii"))
        at += length + 1
    raise ValueError("a name that never ends")
