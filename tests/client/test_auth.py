"""The Auth surface, logins and their repetition, against Go etcd: petcd has no users yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.servers import Server, needs_go_etcd, serving

from petcd import errors
from petcd.client import Client, Disconnected, Event, Permission, Resumed
from petcd.errors import Code, EtcdError

pytestmark = [pytest.mark.go, needs_go_etcd]


async def _prepare(endpoint: str) -> None:
    """Authentication is on: root/root, and alice/secret who may use a/ only."""
    async with Client(endpoint) as client:
        auth = client.auth
        await auth.add_role("root")
        await auth.add_user("root", "root")
        await auth.grant_role("root", "root")
        await auth.add_role("worker")
        await auth.grant_permission("worker", "readwrite", "a/", prefix=True)
        await auth.add_user("alice", "secret")
        await auth.grant_role("alice", "worker")
        await auth.enable()


# A cheap bcrypt: the default cost takes longer than the tests.
CHEAP = "--bcrypt-cost=4"


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server with users, whose tokens it keeps in memory."""
    with serving("go", None, CHEAP) as server:
        asyncio.run(_prepare(server.endpoint))
        yield server


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[Server]:
    """A server with users, whose tokens carry the revision of the auth store they were made at."""
    key = rsa.generate_private_key(65537, 2048)
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(encoding, form))
    token = f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"
    with serving("go", None, CHEAP, token) as server:
        asyncio.run(_prepare(server.endpoint))
        yield server


@pytest.fixture(scope="module")
def open_server() -> Iterator[Server]:
    with serving("go", None, CHEAP) as server:
        yield server


def test_users_roles_and_permissions(open_server: Server) -> None:
    async def main() -> None:
        async with Client(open_server.endpoint) as client:
            auth = client.auth
            await auth.add_user("bob", "1")
            await auth.add_user("carol", no_password=True)
            await auth.add_role("reader")
            await auth.grant_role("bob", "reader")
            assert await auth.users() == ["bob", "carol"]
            assert await auth.roles() == ["reader"]
            assert await auth.user("bob") == ["reader"]
            await auth.grant_permission("reader", "read", "k")
            await auth.grant_permission("reader", "write", "m", "n")
            await auth.grant_permission("reader", "readwrite", "p/", prefix=True)
            await auth.grant_permission("reader", "read", "z", from_key=True)
            assert await auth.role("reader") == [
                Permission("read", b"k"),
                Permission("write", b"m", b"n"),
                Permission("readwrite", b"p/", b"p0"),
                Permission("read", b"z", b"\0"),
            ]
            await auth.revoke_permission("reader", "p/", prefix=True)
            await auth.revoke_permission("reader", "k")
            assert [each.key for each in await auth.role("reader")] == [b"m", b"z"]
            with pytest.raises(errors.PermissionNotGranted):
                await auth.revoke_permission("reader", "k")
            await auth.change_password("bob", "2")
            await auth.revoke_role("bob", "reader")
            assert await auth.user("bob") == []
            with pytest.raises(errors.UserAlreadyExist):
                await auth.add_user("bob", "1")
            await auth.delete_user("bob")
            await auth.delete_user("carol")
            await auth.delete_role("reader")
            with pytest.raises(errors.UserNotFound):
                await auth.user("bob")
            with pytest.raises(errors.RoleNotFound):
                await auth.role("reader")
            with pytest.raises(errors.RootUserNotExist):
                await auth.enable()
            with pytest.raises(errors.AuthNotEnabled):
                await auth.authenticate("bob", "2")

    asyncio.run(main())


def test_a_user_where_authentication_is_off(open_server: Server) -> None:
    async def main() -> None:
        async with Client(open_server.endpoint, user="anybody", password="x") as client:
            await client.put("off", "1")
            assert (await client.get("off")).value == b"1"

    asyncio.run(main())


def test_who_may_what(guarded: Server) -> None:
    async def main() -> None:
        async with Client(guarded.endpoint, user="alice", password="secret") as alice:
            await alice.put("a/1", "1")
            with pytest.raises(errors.PermissionDenied):
                await alice.put("b", "1")
            with pytest.raises(errors.PermissionDenied):
                async with alice.watch("b") as watch:
                    await anext(aiter(watch))
            with pytest.raises(errors.PermissionDenied):
                await alice.auth.users()
            assert await alice.auth.authenticate("root", "root")
            # A namespace within what one may use is a whole store.
            view = alice.namespace("a/")
            assert [kv.key async for kv in view.iterate()] == [b"1"]
        async with Client(guarded.endpoint, user="alice", password="wrong") as wrong:
            with pytest.raises(errors.AuthFailed):
                await wrong.get("a/1")
        async with Client(guarded.endpoint) as nobody:
            with pytest.raises(errors.UserEmpty):
                await nobody.get("a/1")
        async with Client(guarded.endpoint, user="root", password="root") as root:
            await root.auth.disable()
        async with Client(guarded.endpoint) as nobody:
            assert (await nobody.get("a/1")).value == b"1"

    asyncio.run(main())


def test_a_change_of_the_auth_store_is_followed(signing: Server) -> None:
    """``revision of auth store is old``: the token was made before the change."""

    async def main() -> None:
        root = Client(signing.endpoint, user="root", password="root")
        alice = Client(signing.endpoint, user="alice", password="secret")
        async with root, alice:
            await alice.put("a/1", "1")
            await root.auth.grant_permission("worker", "readwrite", "b")
            await alice.put("b", "1")
            await root.auth.revoke_permission("worker", "b")
            async with asyncio.TaskGroup() as group:
                for n in range(20):
                    group.create_task(alice.put(f"a/{n}", "2"))

    asyncio.run(main())


def test_authentication_that_is_turned_on_under_a_client(open_server: Server) -> None:
    async def main() -> None:
        root = Client(open_server.endpoint, user="root", password="root")
        async with root:
            await root.put("on", "1")  # without a token: authentication is off
            await root.auth.add_role("root")
            await root.auth.add_user("root", "root")
            await root.auth.grant_role("root", "root")
            await root.auth.enable()
            try:
                assert (await root.get("on")).value == b"1"
            finally:
                await root.auth.disable()
            await root.auth.delete_user("root")
            await root.auth.delete_role("root")

    asyncio.run(main())


def test_a_restarted_server_knows_no_tokens(guarded: Server) -> None:
    """``invalid auth token`` to calls, to watches and to a snapshot; each logs in again and goes on."""

    async def main() -> None:
        alice = Client(guarded.endpoint, timeout=20.0, user="alice", password="secret")
        root = Client(guarded.endpoint, timeout=20.0, user="root", password="root")
        async with alice, root, alice.watch("a/", prefix=True) as watch:
            await alice.put("a/1", "before")
            await root.get("a/1")
            await asyncio.to_thread(guarded.kill)
            await asyncio.to_thread(guarded.start)
            assert sum([len(piece) async for piece in root.maintenance.snapshot()]) > 4096
            notices: list[object] = []
            async with asyncio.timeout(20):
                async for notice in watch.all():
                    notices.append(notice)
                    if isinstance(notice, Resumed):
                        await alice.put("a/1", "after")
                    elif isinstance(notice, Event) and notice.value == b"after":
                        break
            assert [each.value for each in notices if isinstance(each, Event)] == [b"before", b"after"]
            assert sum(isinstance(each, Disconnected) for each in notices) >= 1

    asyncio.run(main())


def test_an_old_token_is_no_end_of_a_new_watch(signing: Server) -> None:
    async def main() -> None:
        async with Client(signing.endpoint, user="alice", password="secret") as alice:
            await alice.put("a/1", "1")
            first = alice._pool._credentials.metadata
            root = Client(signing.endpoint, user="root", password="root")
            async with root:
                await root.auth.grant_permission("worker", "read", "c")
            # The stream opens with the old token, and the server refuses the watch, not the stream.
            async with asyncio.timeout(10), alice.watch("a/1", start_revision=1) as watch:
                event = await anext(aiter(watch))
                assert event.value == b"1"
            assert alice._pool._credentials.metadata != first

    asyncio.run(main())


def test_a_user_that_is_gone_ends_a_watch(guarded: Server) -> None:
    async def main() -> None:
        alice = Client(guarded.endpoint, user="alice", password="secret")
        root = Client(guarded.endpoint, user="root", password="root")
        async with alice, root:
            await alice.get("a/1")
            await root.auth.delete_user("alice")
            with pytest.raises(EtcdError) as caught:
                async with asyncio.timeout(10), alice.watch("a/1") as watch:
                    await anext(aiter(watch))
            assert caught.value.code in (Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED)

    asyncio.run(main())
