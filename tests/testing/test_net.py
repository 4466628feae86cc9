"""The network carries bytes in order, and fails as TCP fails."""

from __future__ import annotations

from typing import Any

import pytest

from petcd.seams.net import Address
from petcd.seams.world import World
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation


class Peer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.data = bytearray()
        self.events: list[str] = []

    def connection_made(self, transport: Any, /) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes, /) -> None:
        self.data += data

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return None

    def connection_lost(self, exc: Exception | None, /) -> None:
        self.events.append(f"lost {type(exc).__name__}" if exc else "lost")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


def join(sim: Simulation, a: World, b: World, port: int = 2380) -> tuple[Peer, Peer]:
    """A connection from ``a`` to ``b``."""
    here, there = Peer(), Peer()

    async def connect() -> None:
        assert sim.hosts["b"].process is not None
        await sim.hosts["b"].process.spawn(b.net.listen(Address("10.0.0.2", port), lambda: there))  # type: ignore[arg-type]
        assert sim.hosts["a"].process is not None
        await sim.hosts["a"].process.spawn(a.net.connect(Address("b", port), lambda: here))  # type: ignore[arg-type]

    sim.run(connect())
    return here, there


def two(sim: Simulation) -> tuple[World, World]:
    return sim.host("a", "10.0.0.1").boot(), sim.host("b", "10.0.0.2").boot()


def test_bytes_arrive_in_order_and_later() -> None:
    with Simulation(3) as sim:
        here, there = join(sim, *two(sim))
        for number in range(100):
            here.transport.write(b"%d," % number)
        there.transport.write(b"hello")
        assert not there.data
        sim.run_for(1)
        assert bytes(there.data) == b"".join(b"%d," % number for number in range(100))
        assert bytes(here.data) == b"hello"
        assert here.transport.get_extra_info("peername")[1] == 2380


def test_nobody_listens() -> None:
    with Simulation(3) as sim:
        a, _ = two(sim)
        assert sim.hosts["a"].process is not None

        async def connect() -> None:
            await a.net.connect(Address("b", 1), Peer)  # type: ignore[arg-type]

        task = sim.hosts["a"].process.spawn(connect())
        sim.run_for(1)
        with pytest.raises(ConnectionRefusedError):
            task.result()


def test_a_cut_stalls_one_way_and_heals() -> None:
    with Simulation(3) as sim:
        here, there = join(sim, *two(sim))
        sim.network.cut("a", "b")
        here.transport.write(b"held")
        there.transport.write(b"passes")
        sim.run_for(60)
        assert not there.data
        assert bytes(here.data) == b"passes"
        sim.network.heal()
        sim.run_for(1)
        assert bytes(there.data) == b"held"


def test_a_killed_process_resets_and_its_last_words_arrive_or_not() -> None:
    with Simulation(3) as sim:
        _, there = join(sim, *two(sim))
        sim.hosts["a"].crash(Loss.NONE)
        sim.run_for(1)
        assert there.events == ["made", "lost ConnectionResetError"]


def test_a_dead_machine_says_nothing_until_it_is_back() -> None:
    with Simulation(3) as sim:
        _, there = join(sim, *two(sim))
        sim.hosts["a"].crash(Loss.ALL)
        there.transport.write(b"anyone?")
        sim.run_for(100)
        assert there.events == ["made"]
        sim.hosts["a"].boot()
        there.transport.write(b"hello?")
        sim.run_for(1)
        assert there.events == ["made", "lost ConnectionResetError"]


def test_close_sends_what_was_written_first() -> None:
    with Simulation(3) as sim:
        here, there = join(sim, *two(sim))
        here.transport.write(b"x" * 500_000)
        here.transport.close()
        here.transport.write(b"ignored")
        sim.run_for(1)
        assert len(there.data) == 500_000
        assert there.events == ["made", "eof", "lost"]
        assert here.events[-1] == "lost"


def test_a_reader_that_pauses_holds_up_its_writer() -> None:
    with Simulation(3) as sim:
        here, there = join(sim, *two(sim))
        there.transport.pause_reading()
        here.transport.write(b"x" * 1_000_000)
        assert here.events == ["made", "pause"]
        assert here.transport.get_write_buffer_size() > 800_000
        sim.run_for(10)
        assert not there.data
        there.transport.resume_reading()
        sim.run_for(10)
        assert len(there.data) == 1_000_000
        assert here.events == ["made", "pause", "resume"]


def test_listening_twice_on_a_port_is_refused_until_the_first_is_gone() -> None:
    with Simulation(3) as sim:
        a, _ = two(sim)
        process = sim.hosts["a"].process
        assert process is not None

        async def listen(world: World) -> Any:
            return await world.net.listen(Address("", 2379), Peer)  # type: ignore[arg-type]

        first = process.spawn(listen(a))
        second = process.spawn(listen(a))
        sim.run_for(1)
        assert first.result().address == ("", 2379)
        with pytest.raises(OSError, match="in use"):
            second.result()
        sim.hosts["a"].crash()
        world = sim.hosts["a"].boot()
        assert sim.hosts["a"].process is not None
        third = sim.hosts["a"].process.spawn(listen(world))
        sim.run_for(1)
        assert third.result().address.port == 2379


def chatter(seed: int) -> str:
    """A run in which everything draws: delays, crash losses, ids."""
    with Simulation(seed) as sim:
        a, b = two(sim)
        here, there = join(sim, a, b)
        file = a.disk.open("f", create=True)
        for _ in range(50):
            here.transport.write(a.random.randbytes(10))
            there.transport.write(b.random.randbytes(10))
            file.pwrite(a.random.randbytes(1000), a.random.randrange(0, 5000))
            sim.run_for(a.random.random())
        sim.host("a").crash(Loss.SOME)
        sim.note("end", f"{bytes(there.data).hex()} {sim.host('a').drive.files()}")
        return sim.digest()


def test_the_seed_is_the_run() -> None:
    assert chatter(7) == chatter(7)
    assert chatter(7) != chatter(8)
