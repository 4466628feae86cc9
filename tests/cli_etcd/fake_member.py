"""``etcd`` with a member that does nothing, so that the process around it can be watched.

The environment says how the member behaves: FAKE=start-error, start-bug, port, fail, crash, slow-stop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import types
from typing import Any

from petcd.cli.etcd import main
from petcd.server.config import ConfigError

HOW = os.environ.get("FAKE", "")


class Etcd:
    def __init__(self) -> None:
        self.failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, _config: object, world: Any, logger: Any) -> Etcd:
        if HOW == "start-error":
            raise ConfigError("member 1f has already been bootstrapped")
        if HOW == "start-bug":
            raise KeyError("oops")
        if HOW == "port":
            loop = asyncio.get_running_loop()
            first = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            await loop.create_server(asyncio.Protocol, "127.0.0.1", first.sockets[0].getsockname()[1])
        etcd = cls()
        if HOW == "fail":
            asyncio.get_running_loop().call_later(0.05, etcd.failed.set_exception, OSError(28, "full"))
        if HOW == "crash":
            world.clock.call_soon(lambda: {}["gone"])
        logger.info("ready to serve client requests")
        return etcd

    async def stop(self) -> None:
        if HOW == "slow-stop":
            await asyncio.sleep(30)


module = types.ModuleType("petcd.embed")
module.Etcd = Etcd  # type: ignore[attr-defined]
sys.modules["petcd.embed"] = module
sys.exit(main())
