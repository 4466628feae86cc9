"""Configuration that reloads itself, against a real server."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.client.recipes.helpers import run
from tests.servers import Server

from petcd.client import Client, Delete, Put
from petcd.client.recipes import Configuration, ConfigurationError
from petcd.errors import EtcdError


@dataclass(frozen=True)
class Limits:
    requests: int = 100
    burst: float = 1.5


@dataclass(frozen=True)
class Settings:
    greeting: str
    verbose: bool = False
    limits: Limits = Limits(burst=3.0)
    hosts: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    window: tuple[int, int] = (0, 24)
    names: tuple[str, ...] = ()
    secret: bytes | None = None
    derived: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.window[0] >= self.window[1]:
            raise ValueError("the window is empty")


def test_fields_come_from_keys(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            for name, value in {
                "greeting": "hello",
                "verbose": "on",
                "limits/requests": "7",
                "hosts": '["a", "b"]',
                "weights": '{"a": 1, "b": 0.5}',
                "window": "[8, 18]",
                "names": '["x", "y", "z"]',
                "secret": b"\xff\x00",
                "unknown": "ignored",
                "derived": "ignored",
            }.items():
                await client.put(f"config/all/{name}", value)
            async with Configuration(client, "config/all/", Settings) as configuration:
                assert configuration.error is None
                assert configuration.value == Settings(
                    greeting="hello",
                    verbose=True,
                    limits=Limits(requests=7, burst=3.0),
                    hosts=["a", "b"],
                    weights={"a": 1.0, "b": 0.5},
                    window=(8, 18),
                    names=("x", "y", "z"),
                    secret=b"\xff\x00",
                )
            await client.delete("config/all/", prefix=True)
            await client.put("config/all/greeting", "hi")
            async with Configuration(client, "config/all/", Settings) as configuration:
                assert configuration.value == Settings("hi")

    run(main)


def test_a_transaction_is_one_change(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Client(server.endpoint) as other:
            await client.put("config/txn/greeting", "0")
            async with Configuration(other, "config/txn/", Settings) as configuration:
                seen = configuration.__aiter__()
                assert (await anext(seen)).greeting == "0"
                for number in range(1, 20):
                    puts = [Put("config/txn/greeting", str(number)), Put("config/txn/hosts", f'["{number}"]')]
                    await client.txn(then=[*puts, Put("config/txn/limits/requests", str(number))])
                last = 0
                while last < 19:
                    settings = await anext(seen)
                    assert settings.hosts == [settings.greeting]
                    assert str(settings.limits.requests) == settings.greeting
                    assert int(settings.greeting) > last
                    last = int(settings.greeting)
                assert configuration.value is settings
                await client.txn(then=[Delete("config/txn/hosts"), Delete("config/txn/limits/requests")])
                assert (await anext(seen)) == Settings("19")

    run(main)


def test_a_bad_change_is_not_taken_over(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            await client.put("config/bad/greeting", "good")
            async with Configuration(client, "config/bad/", Settings) as configuration:
                seen = configuration.__aiter__()
                assert (await anext(seen)).greeting == "good"
                for name, value, reason in [
                    ("limits/requests", "many", "b'many' is no int"),
                    ("verbose", "perhaps", "b'perhaps' is no bool"),
                    ("hosts", "[1]", "1 is no str"),
                    ("hosts", '"a"', '"a" is no list'),
                    ("hosts", "a,b", "b'a,b' is no JSON"),
                    ("window", "[1]", "[1] has not 2 parts"),
                    ("window", "[2, 1]", "the window is empty"),
                    ("greeting", b"\xff", "b'\\xff' is no str"),
                ]:
                    change = await client.put(f"config/bad/{name}", value)
                    while configuration._view._revision < change.revision:
                        await configuration._view.wait_changes(configuration._view.changes)
                    assert configuration.value == Settings("good")
                    assert configuration.error is not None and configuration.error.reason == reason
                    with pytest.raises(ConfigurationError) as caught:
                        async with Configuration(client, "config/bad/", Settings):
                            pass
                    assert str(caught.value) == str(configuration.error)
                    assert caught.value.key.startswith(b"config/bad/")
                    undo = (
                        Put("config/bad/greeting", "good")
                        if name == "greeting"
                        else Delete(f"config/bad/{name}")
                    )
                    await client.txn(then=[undo])
                await client.put("config/bad/greeting", "better")
                assert (await anext(seen)).greeting == "better"
                assert configuration.error is None

    run(main)


def test_a_field_without_default_must_be_there(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(ConfigurationError, match="config/none/greeting: there is no such key"):
                async with Configuration(client, "config/none/", Settings):
                    pass

    run(main)


def test_it_is_read_inside_its_block_only(server: Server) -> None:
    async def main() -> None:
        client = Client(server.endpoint)
        await client.put("config/outside/greeting", "hello")
        configuration = Configuration(client, "config/outside/", Settings)
        for _ in range(2):  # before it is entered, and after it was left
            with pytest.raises(RuntimeError, match="not entered"):
                _ = configuration.value
            with pytest.raises(RuntimeError, match="not entered"):
                await anext(aiter(configuration))
            async with configuration:
                assert configuration.value.greeting == "hello"
                values = aiter(configuration)
                await anext(values)
            with pytest.raises(RuntimeError, match="not entered"):
                await anext(values)
        async with configuration:
            values = aiter(configuration)
            await anext(values)
            await client.close()
            with pytest.raises(EtcdError, match="the client is closed"):
                await anext(values)
            with pytest.raises(EtcdError, match="the client is closed"):
                _ = configuration.value  # which would be that of a while ago

    run(main)


def test_types_that_no_key_can_hold() -> None:
    @dataclass
    class Wrong:
        when: complex

    with pytest.raises(TypeError, match=r"Wrong.when: no key can hold"):
        Configuration(Client(), "config/", Wrong)
    with pytest.raises(TypeError, match="is not a dataclass"):
        Configuration(Client(), "config/", int)
