"""A tour of PyPI's ``aetcd`` against an endpoint: ``python tests/e2e/aetcd_tour.py 127.0.0.1:2379``."""

from __future__ import annotations

import asyncio
import sys

import aetcd


async def tour(host: str, port: int) -> None:
    client = aetcd.Client(host=host, port=port, timeout=10)
    await client.connect()

    # KV
    await client.put(b"aetcd/a", b"1")
    await client.put(b"aetcd/b", b"2")
    got = await client.get(b"aetcd/a")
    assert got is not None and got.value == b"1", got
    assert await client.get(b"aetcd/none") is None
    assert {kv.key: kv.value for kv in await client.get_prefix(b"aetcd/")} == {
        b"aetcd/a": b"1",
        b"aetcd/b": b"2",
    }
    assert [kv.key for kv in await client.get_range(b"aetcd/a", b"aetcd/b")] == [b"aetcd/a"]
    assert await client.replace(b"aetcd/a", b"1", b"one")
    assert not await client.replace(b"aetcd/a", b"1", b"two")
    assert await client.delete(b"aetcd/b")
    assert not await client.delete(b"aetcd/b")

    # Transactions
    tx = client.transactions
    done, _ = await client.transaction(
        compare=[tx.value(b"aetcd/a") == b"one", tx.version(b"aetcd/a") > 0],
        success=[tx.put(b"aetcd/t", b"yes"), tx.get(b"aetcd/t")],
        failure=[tx.put(b"aetcd/t", b"no")],
    )
    assert done
    told = await client.get(b"aetcd/t")
    assert told is not None and told.value == b"yes", told

    # Watch
    watch = await client.watch(b"aetcd/w")
    await client.put(b"aetcd/w", b"1")
    await client.put(b"aetcd/w", b"2")
    await client.delete(b"aetcd/w")
    seen = []
    async for event in watch:
        seen.append((str(event.kind).rsplit(".", 1)[-1], event.kv.value))
        if len(seen) == 3:
            break
    await watch.cancel()
    assert [value for _, value in seen] == [b"1", b"2", b""], seen

    # Leases
    lease = await client.lease(60)
    await client.put(b"aetcd/l", b"x", lease=lease)
    info = await client.get_lease_info(lease.id)
    assert 0 < (getattr(info, "ttl", None) or info.TTL) <= 60, info
    await lease.refresh()
    await lease.revoke()
    assert await client.get(b"aetcd/l") is None

    # Locks
    lock = client.lock(b"aetcd-lock", ttl=20)
    assert await lock.acquire(timeout=5)
    assert await lock.is_acquired()
    await lock.release()

    status = await client.status()
    assert str(status.version).startswith("3.")
    await client.delete_prefix(b"aetcd/")
    await client.close()


if __name__ == "__main__":
    address, number = sys.argv[1].rsplit(":", 1)
    asyncio.run(tour(address, int(number)))
    print("aetcd: all well")
