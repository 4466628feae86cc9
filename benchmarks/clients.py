"""Python clients side by side: puts and gets per second in one process, against the same server.

    python benchmarks/clients.py --rounds 5                       # starts petcd, on memory-backed storage
    python benchmarks/clients.py --server go --directory /var/tmp
    python benchmarks/clients.py --server canned                  # one that stores nothing: the clients alone
    python benchmarks/clients.py --endpoint 127.0.0.1:2379

The rows are PyPI's ``etcd3`` (blocking) and ``aetcd`` (asyncio) and petcd's two clients. ``etcd3`` can be
imported only beside an old protobuf, so each library runs in an interpreter of its own: ``--etcd3-python``
(``make etcd3-environment`` makes one) and ``--aetcd-python``. What cannot be imported is left out.

``one`` is one call after the other, ``many`` is several threads or tasks doing that with one client: 8
threads or 100 tasks, or what ``--threads`` and ``--tasks`` say. ``cpu`` is the client's own processor time
per call, in microseconds: unlike calls per second it hardly depends on the server and on what else the
machine does. Keys have 24 bytes, values 256. The clients take turns, and medians over the rounds are shown,
also of the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
KEYS: Final = [b"bench/clients/%010d" % n for n in range(1000)]
VALUE: Final = b"v" * 256
WARM_UP_SECONDS: Final = 0.5
OPERATIONS: Final = ("put", "get")
LIBRARIES: Final = ("etcd3", "petcd.sync", "aetcd", "petcd")
BLOCKING: Final = ("etcd3", "petcd.sync")


# --- in the worker: nothing here imports petcd unless it is what is measured ------------------------------


class Count:
    """Calls within the measured time, and the processor time they took."""

    def __init__(self, seconds: float) -> None:
        self.begin = time.perf_counter() + WARM_UP_SECONDS
        self.end = self.begin + seconds
        self.cpu = 0.0
        self.per_worker: list[int] = []

    def row(self) -> dict[str, float]:
        calls = sum(self.per_worker)
        return {"rate": calls / (self.end - self.begin), "cpu_us": self.cpu / max(calls, 1) * 1e6}


def run_threads(call: Callable[[bytes], object], count: Count, threads: int) -> None:
    def work() -> None:
        done = n = 0
        while (now := time.perf_counter()) < count.end:
            call(KEYS[n % 1000])
            n += 1
            if now >= count.begin:
                done += 1
        count.per_worker.append(done)

    pool = [threading.Thread(target=work) for _ in range(threads)]
    for thread in pool:
        thread.start()
    time.sleep(max(0.0, count.begin - time.perf_counter()))
    before = time.process_time()
    for thread in pool:
        thread.join()
    count.cpu = time.process_time() - before


async def run_tasks(call: Callable[[bytes], Awaitable[object]], count: Count, tasks: int) -> None:
    async def work() -> None:
        done = n = 0
        while (now := time.perf_counter()) < count.end:
            await call(KEYS[n % 1000])
            n += 1
            if now >= count.begin:
                done += 1
        count.per_worker.append(done)

    running = [asyncio.ensure_future(work()) for _ in range(tasks)]
    await asyncio.sleep(max(0.0, count.begin - time.perf_counter()))
    before = time.process_time()
    await asyncio.gather(*running)
    count.cpu = time.process_time() - before


def blocking(library: str, host: str, port: int) -> Any:
    if library == "etcd3":
        import etcd3  # type: ignore[import-not-found]

        return etcd3.client(host=host, port=port)
    from petcd.client.sync import Client

    return Client(f"{host}:{port}")


def on_asyncio(library: str, host: str, port: int) -> Any:
    if library == "aetcd":
        import aetcd  # type: ignore[import-not-found]

        return aetcd.Client(host=host, port=port)
    from petcd.client import Client

    return Client(f"{host}:{port}")


def worker(library: str, at_once: int, operation: str, endpoint: str, seconds: float) -> dict[str, float]:
    host, _, port = endpoint.rpartition(":")
    if library in BLOCKING:
        client = blocking(library, host, int(port))
        call = client.get if operation == "get" else lambda key: client.put(key, VALUE)
        client.put(KEYS[0], VALUE)
        count = Count(seconds)
        run_threads(call, count, at_once)
        client.close()
        return count.row()

    async def main() -> dict[str, float]:
        async with on_asyncio(library, host, int(port)) as client:
            call = client.get if operation == "get" else lambda key: client.put(key, VALUE)
            await client.put(KEYS[0], VALUE)
            count = Count(seconds)
            await run_tasks(call, count, at_once)
            return count.row()

    return asyncio.run(main())


# --- a server that stores nothing ------------------------------------------------------------------------


async def canned(port: int) -> None:
    """Answer every put and get alike, with petcd's HTTP/2 and nothing behind it."""
    from petcd.net.edge import Edge
    from petcd.net.grpc.router import Router
    from petcd.pb import mvccpb
    from petcd.pb.etcdserverpb import kv as pb
    from petcd.pb.etcdserverpb.header import ResponseHeader
    from petcd.seams.net import Address
    from petcd.seams.real import real_world

    header = ResponseHeader(cluster_id=1 << 63, member_id=1 << 62, revision=123_456, raft_term=2)
    pair = mvccpb.KeyValue(key=KEYS[0], value=VALUE, create_revision=2, mod_revision=99_999, version=7)
    answers = {
        b"Put": pb.PutResponse(header=header).encode(),
        b"Range": pb.RangeResponse(header=header, kvs=[pair], count=1).encode(),
    }
    router = Router()
    for method, answer in answers.items():
        router.unary(b"/etcdserverpb.KV/" + method, lambda call, _message, answer=answer: call.reply(answer))
    edge = Edge(real_world(asyncio.get_running_loop()), router)
    await edge.listen(Address("127.0.0.1", port))
    await asyncio.Event().wait()


@contextlib.contextmanager
def serving_canned() -> Iterator[str]:
    """Its endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--canned", str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


# --- in the parent ----------------------------------------------------------------------------------------


def measure(
    python: str, library: str, at_once: int, operation: str, endpoint: str, seconds: float
) -> dict[str, float] | None:
    """One cell; None when the library cannot be used there."""
    done = subprocess.run(
        [python, __file__, "--worker", library, str(at_once), operation, endpoint, str(seconds)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode:
        if "ModuleNotFoundError" not in done.stderr:
            print(done.stderr, file=sys.stderr)
        return None
    row: dict[str, float] = json.loads(done.stdout)
    return row


def fill_keys(endpoint: str) -> None:
    """So that every get finds its key."""
    from petcd.client.sync import Client

    with Client(endpoint) as client:
        for key in KEYS:
            client.put(key, VALUE)


Cell = tuple[str, str, str]
"""Library, mode, operation."""


def report(options: argparse.Namespace, endpoint: str) -> None:
    """Every client in turn, several times over: a machine's speed changes from one minute to the next."""
    pythons = {"etcd3": options.etcd3_python, "aetcd": options.aetcd_python}
    fill_keys(endpoint)
    cells = [
        (library, mode, operation)
        for operation in OPERATIONS
        for mode in ("one", "many")
        for library in LIBRARIES
        if not options.only or library in options.only
    ]
    rounds: dict[Cell, list[dict[str, float]]] = {cell: [] for cell in cells}
    for _ in range(options.rounds):
        for cell in cells:
            library, mode, operation = cell
            python = pythons.get(library) or sys.executable
            many = options.threads if library in BLOCKING else options.tasks
            at_once = 1 if mode == "one" else many
            row = measure(python, library, at_once, operation, endpoint, options.seconds)
            if row is not None:
                rounds[cell].append(row)
    print(
        f"{'client':<12}{'mode':<10}{'call':<6}{'calls/s':>10}{'cpu us':>9}  {'times etcd3':>12}{'aetcd':>8}"
    )
    for cell in cells:
        found = rounds[cell]
        library, mode, operation = cell
        if not found:
            print(f"{library:<12}{mode:<10}{operation:<6}{'absent':>10}")
            continue
        ratios = ["", ""]
        for place, other in enumerate(("etcd3", "aetcd")):
            theirs = rounds.get((other, mode, operation), [])
            if library.startswith("petcd") and len(theirs) == len(found):
                pairs = zip(found, theirs, strict=True)
                ratios[place] = f"{median(ours['rate'] / one['rate'] for ours, one in pairs):.1f}"
        rate = median(row["rate"] for row in found)
        cpu = median(row["cpu_us"] for row in found)
        print(
            f"{library:<12}{mode:<10}{operation:<6}{rate:>10,.0f}{cpu:>9.0f}  {ratios[0]:>12}{ratios[1]:>8}"
        )


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        library, at_once, operation, endpoint, seconds = sys.argv[2:7]
        print(json.dumps(worker(library, int(at_once), operation, endpoint, float(seconds))))
        return
    if sys.argv[1:2] == ["--canned"]:
        import uvloop

        uvloop.run(canned(int(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    etcd3 = ROOT / ".venv-etcd3/bin/python"
    parser.add_argument("--server", choices=("petcd", "go", "canned"), default="petcd")
    parser.add_argument("--endpoint", default="", help="a server that runs already")
    parser.add_argument(
        "--directory", default="/dev/shm", help="where the server's data go (default: memory)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each cell")
    parser.add_argument("--rounds", type=int, default=3, help="the medians of so many are shown")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--etcd3-python", default=str(etcd3) if etcd3.exists() else "")
    parser.add_argument("--aetcd-python", default="")
    parser.add_argument("--only", nargs="*", choices=LIBRARIES, default=())
    options = parser.parse_args()
    if options.endpoint:
        report(options, options.endpoint)
        return
    if options.server == "canned":
        with serving_canned() as endpoint:
            report(options, endpoint)
        return
    sys.path.insert(0, str(ROOT))
    from tests.servers import serving

    with (
        tempfile.TemporaryDirectory(dir=options.directory, prefix="clients-") as directory,
        serving(options.server, Path(directory) / "member") as server,
    ):
        report(options, server.endpoint)


if __name__ == "__main__":
    main()
