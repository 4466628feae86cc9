"""The servers that a group of cases needs."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.etcdctl.certificates import Authority
from tests.etcdctl.side import GoTool, Names, OurTool, Side, closing
from tests.servers import Kind, Server, free_port, serving

# The cluster's and the member's id follow from what is advertised: told the same, twins have the same ids.
_ALIKE = (
    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    "--initial-cluster=default=http://127.0.0.1:2380",
)
_NOBODY = "127.0.0.1:1"


@contextlib.contextmanager
def sides(where: str, kind: Kind) -> Iterator[tuple[Side, Side]]:
    """Debian's tool and ours, each with what it talks to."""
    with contextlib.ExitStack() as stack:
        if where == "trio":
            first = second = ",".join(stack.enter_context(_trio(kind)))
            names: dict[str, str] = _trio_names(first)
            options: tuple[str, ...] = ()
        else:
            arguments, options, names = _ALIKE, (), {}
            if where in ("tls", "mutual"):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-")))
                served, options, names = _tls(folder, mutual=where == "mutual")
                arguments += served
            first, second = (
                stack.enter_context(_one(kind, arguments, secure=bool(options))) for _ in range(2)
            )
        pair = (
            Side(GoTool(), first, Names(names | _own_names(first)), options),
            Side(OurTool(), second, Names(names | _own_names(second)), options),
        )
        stack.enter_context(closing(*pair))
        yield pair


def _own_names(endpoints: str) -> dict[str, str]:
    return {"ENDPOINT": endpoints, "NOBODY": _NOBODY}


@contextlib.contextmanager
def _one(kind: Kind, arguments: tuple[str, ...], *, secure: bool) -> Iterator[str]:
    if not secure:
        with serving(kind, None, *arguments) as server:
            yield server.endpoint
        return
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    # Health is asked for in the clear, on a listener of its own.
    health = free_port()
    urls = (f"--listen-client-urls={url},http://127.0.0.1:{health}", f"--advertise-client-urls={url}")
    with serving(kind, None, *arguments, *urls, client_port=health):
        yield f"127.0.0.1:{port}"


def _tls(folder: Path, *, mutual: bool) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """The server's flags, the third party's, and the names of the files."""
    authority = Authority(folder)
    cert, key = authority.issue("server")
    mine, my_key = authority.issue("client")
    stranger = Authority(folder / "other")
    names = {"CA": authority.ca_file, "CERT": mine, "KEY": my_key, "STRANGER": stranger.ca_file}
    served: tuple[str, ...] = (f"--cert-file={cert}", f"--key-file={key}")
    if mutual:
        served += (f"--trusted-ca-file={authority.ca_file}", "--client-cert-auth")
    options = (f"--cacert={authority.ca_file}", f"--cert={mine}", f"--key={my_key}")
    return served, options, names


@contextlib.contextmanager
def _trio(kind: Kind) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix=f"{kind}-") as folder:
        members = [Server(kind, Path(folder) / f"m{at}", name=f"m{at}") for at in range(3)]
        initial = ",".join(f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in members)
        try:
            for member in members:
                member.args = (f"--initial-cluster={initial}",)
                member.spawn()
            for member in members:
                member.wait_ready()
            yield [member.endpoint for member in members]
        finally:
            for member in members:
                member.kill()


def _trio_names(endpoints: str) -> dict[str, str]:
    """Who leads now, and one who does not."""
    out, _, _ = GoTool().run(["endpoint", "status", "-w", "json"], b"", {"ETCDCTL_ENDPOINTS": endpoints})
    rows = json.loads(out)
    leader = rows[0]["Status"]["leader"]
    ids = [row["Status"]["header"]["member_id"] for row in rows]
    follower = next(number for number in ids if number != leader)
    by_id = dict(zip(ids, endpoints.split(","), strict=True))
    return {
        "LEADER": f"{leader:x}",
        "FOLLOWER": f"{follower:x}",
        "LEADER_AT": by_id[leader],
        "FOLLOWER_AT": by_id[follower],
    }
