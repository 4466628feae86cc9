"""The programs in docs/from-other-clients.md that are petcd's run, and do what those beside them do."""

from __future__ import annotations

import asyncio
import contextlib
import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import Server

from petcd.client import Client as AsyncClient
from petcd.client.sync import Client

PAGE = (Path(__file__).parents[2] / "docs" / "from-other-clients.md").read_text("utf-8")
PROGRAMS = re.findall(r"^## (\w+)|^petcd[^\n:]*:\n\n```python\n(.*?)```", PAGE, re.M | re.S)


def programs(*, waits: bool) -> list[Any]:
    """The petcd programs, asyncio ones or the others, each with its section's name."""
    found, section = [], ""
    for title, program in PROGRAMS:
        section = title or section
        if program and (("async " in program or "await " in program) is waits):
            found.append(pytest.param(program, id=f"{section}-{len(found)}"))
    return found


@contextlib.contextmanager
def writing(server: Server, wanted: bool) -> Iterator[None]:
    """Meanwhile the keys change again and again that the programs with watches wait for."""
    stop = threading.Event()

    def write() -> None:
        with Client(server.endpoint) as client:
            while not stop.wait(0.02):
                client.put("users/last", "1")
                client.put("/users/last", "1")

    writer = threading.Thread(target=write)
    if wanted:
        writer.start()
    try:
        yield
    finally:
        stop.set()
        if wanted:
            writer.join()


def prepared(program: str, server: Server) -> str:
    ends = program.replace("127.0.0.1:2379", server.endpoint).replace("lease(10)", "lease(2)")
    if "watch(" in program and "break" not in program:
        ends += textwrap.indent(
            "break\n", " " * (len(ends.splitlines()[-1]) - len(ends.splitlines()[-1].lstrip()))
        )
    return ends


@pytest.mark.parametrize("program", programs(waits=False))
def test_synchronous_programs(program: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = iter((True, True, False))
    with Client(server.endpoint) as client:
        client.put("users/ann", "1")
        client.put("/users/ann", "1")
        client.put("stock", "1")
        client.put("price", "9")
        names: dict[str, Any] = {"client": client, "serving": lambda: next(rounds), "text": lambda: "t"}
        with writing(server, "watch(" in program):
            exec("from petcd.client import Put, compare\n" + prepared(program, server), names)
        if names["client"] is not client:
            names["client"].close()
    assert capsys.readouterr().out or "print" not in program


@pytest.mark.parametrize("program", programs(waits=True))
def test_asyncio_programs(program: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with AsyncClient(server.endpoint) as client:
            await client.put("users/ann", "1")

            async def write_report() -> None:
                await client.put("report", "1")

            async def revoke() -> None:
                # The program waits until its lease is lost.
                async with client.watch("service/1", deletes=False) as watch:
                    await client.leases.revoke((await anext(aiter(watch))).kv.lease)

            helper = asyncio.create_task(revoke()) if "lost.wait" in program else None
            names: dict[str, Any] = {"client": client, "write_report": write_report}
            body = textwrap.indent(prepared(program, server), "    ")
            parameters = "" if "as client" in program else "client"
            exec(f"async def run({parameters}):\n{body}", names)
            async with asyncio.timeout(20):
                await (names["run"](client) if parameters else names["run"]())
            if helper is not None:
                await helper

    with writing(server, "watch(" in program):
        asyncio.run(main())
    assert capsys.readouterr().out or "print" not in program


def test_all_of_them_were_found() -> None:
    assert len(programs(waits=False)) == 8
    assert len(programs(waits=True)) == 4
