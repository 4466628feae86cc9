"""Power fails and the backend's file is an older one: the log still holds everything acknowledged since.

The server is stopped in mid-flight (SIGSTOP, wherever it happens to be, also within a commit), its backend
file is copied, it goes on, dies, and starts over the copy: as if no page written after that moment had ever
reached the disk. Pages lost one by one are tried on the backend itself (tests/storage/test_lmdb_backend.py).
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from tests.crash.check import check_history, check_promises
from tests.crash.load import Acknowledged, Load
from tests.rpc import Rpc
from tests.servers import Server


async def load_and_copy(server: Server, load: Load, copies: Path, rng: random.Random) -> int:
    """Copy the backend's file at random moments of a load, then kill the server; how many copies."""
    stop = asyncio.Event()
    running = asyncio.ensure_future(load.run(stop))
    source = server.data_dir / "member" / "snap"
    count = 0
    for count in range(1, 7):
        await asyncio.sleep(0.05 + rng.random() * 0.3)
        server.pause()
        shutil.copytree(source, copies / str(count))
        server.resume()
    await asyncio.sleep(0.1)
    server.kill()
    stop.set()
    await running
    return count


@pytest.mark.slow
def test_every_older_backend_catches_up_from_the_log(tmp_path: Path) -> None:
    rng = random.Random(3)
    acknowledged = Acknowledged()
    server = Server("petcd", tmp_path / "server")
    copies = tmp_path / "copies"
    try:
        server.start()
        load = Load(server.endpoint, acknowledged, "lost", rate=5000, connections=4)
        count = asyncio.run(load_and_copy(server, load, copies, rng))
        assert not load.failed
        assert len(acknowledged) > 1000
        snap = server.data_dir / "member" / "snap"
        whole = tmp_path / "whole"
        shutil.copytree(server.data_dir, whole)
        for number in range(1, count + 1):
            shutil.rmtree(server.data_dir)
            shutil.copytree(whole, server.data_dir)
            shutil.rmtree(snap)
            shutil.copytree(copies / str(number), snap)
            server.start()
            with Rpc(server.endpoint) as rpc:
                assert not check_promises(rpc, acknowledged, b"o/lost/")
                assert not check_history(rpc, acknowledged)
            server.kill()
    finally:
        server.kill()
