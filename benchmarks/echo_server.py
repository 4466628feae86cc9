"""An edge whose KV methods answer with the request's own bytes: what the codec costs, and nothing else.

    python benchmarks/echo_server.py 2390 &
    python load.py --endpoints 127.0.0.1:2390 --op get --conns 10 --streams 10 --total 500000

With ``--profile`` the process prints its CPU seconds per call when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys

from petcd.net.edge import Edge
from petcd.net.grpc.calls import Call
from petcd.net.grpc.router import Router
from petcd.seams.net import Address
from petcd.seams.real import real_world

PATHS = (b"/etcdserverpb.KV/Range", b"/etcdserverpb.KV/Put", b"/etcdserverpb.KV/Txn")


class Echo:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, call: Call, message: bytes) -> None:
        self.count += 1
        call.reply(message)


async def serve(port: int, profile: bool) -> None:
    loop = asyncio.get_running_loop()
    echo = Echo()
    router = Router()
    for path in PATHS:
        router.unary(path, echo)
    edge = Edge(real_world(loop), router)
    await edge.listen(Address("127.0.0.1", port))
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    await stop.wait()
    await edge.drain(1.0)
    if profile:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        print(
            f"{echo.count} calls, {cpu:.2f} s CPU ({usage.ru_stime:.2f} system), "
            f"{cpu / max(1, echo.count) * 1e6:.2f} us a call",
            file=sys.stderr,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(args.port, args.profile))
    else:
        uvloop.run(serve(args.port, args.profile))


if __name__ == "__main__":
    main()
