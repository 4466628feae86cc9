"""What is sent again, what is not, and where to: against servers that follow a script."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.client.stub import HANG_UP, SILENCE, Answer, Stub
from tests.servers import free_port

from petcd import errors
from petcd.client import Client, Get, LeaseLost, Put, TransportFailure, compare
from petcd.errors import Code, EtcdError
from petcd.net.grpc.calls import Stream
from petcd.net.grpc.client import ClientConnection
from petcd.pb.etcdserverpb import auth, kv, lease, maintenance

GUARDED = {"when": [compare("k").mod_revision == 7], "then": [Put("k", "1")], "otherwise": [Get("k")]}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def done(*, succeeded: bool) -> kv.TxnResponse:
    put = kv.ResponseOp(response_put=kv.PutResponse())
    got = kv.ResponseOp(response_range=kv.RangeResponse())
    return kv.TxnResponse(succeeded=succeeded, responses=[put if succeeded else got])


class TestTransactions:
    def test_one_that_happens_once_is_sent_again(self) -> None:
        async def main() -> None:
            stub = Stub({"Txn": [HANG_UP, errors.LeaderChanged(), done(succeeded=True)]})
            async with stub.serving(), Client(stub.endpoint) as client:
                assert await client.txn(**GUARDED)
            assert stub.count("Txn") == 3

        run(main())

    def test_what_became_of_the_first_attempt_is_not_guessed(self) -> None:
        """The comparison fails the second time: perhaps because of the first."""

        async def main() -> None:
            stub = Stub({"Txn": [HANG_UP, done(succeeded=False)]})
            async with stub.serving(), Client(stub.endpoint) as client:
                with pytest.raises(TransportFailure) as caught:
                    await client.txn(**GUARDED)
                assert caught.value.sent
            assert stub.count("Txn") == 2

        run(main())

    def test_nor_when_a_later_attempt_is_refused(self) -> None:
        async def main() -> None:
            stub = Stub({"Txn": [HANG_UP, errors.NoSpace()]})
            async with stub.serving(), Client(stub.endpoint) as client:
                with pytest.raises(TransportFailure) as caught:
                    await client.txn(**GUARDED)
                assert isinstance(caught.value.__cause__, errors.NoSpace)

        run(main())

    def test_a_plain_refusal_is_the_answer(self) -> None:
        async def main() -> None:
            stub = Stub({"Txn": [done(succeeded=False)]})
            async with stub.serving(), Client(stub.endpoint) as client:
                assert not await client.txn(**GUARDED)
            assert stub.count("Txn") == 1

        run(main())

    def test_any_other_that_writes_is_not(self) -> None:
        async def main() -> None:
            stub = Stub({"Txn": [HANG_UP, done(succeeded=True)]})
            async with stub.serving(), Client(stub.endpoint) as client:
                with pytest.raises(TransportFailure):
                    await client.txn(when=[compare("k").version == 0], then=[Put("k", "1")])
            assert stub.count("Txn") == 1

        run(main())

    def test_one_that_only_reads_is(self) -> None:
        async def main() -> None:
            stub = Stub({"Txn": [HANG_UP, done(succeeded=False)]})
            async with stub.serving(), Client(stub.endpoint) as client:
                assert not await client.txn(when=[compare("k").version > 0], otherwise=[Get("k")])
            assert stub.count("Txn") == 2

        run(main())


class TestRefusals:
    """Answers that come before anything is done, and those that may come after."""

    def test_without_a_leader_a_write_goes_to_the_next(self) -> None:
        async def main() -> None:
            cut_off, well = Stub({"Put": [errors.NoLeader()]}), Stub({"Put": [kv.PutResponse()]})
            async with (
                cut_off.serving(),
                well.serving(),
                Client([cut_off.endpoint, well.endpoint]) as client,
            ):
                await client.put("a", "1")
                await client.put("a", "2")
            # It rests: the second write does not ask it again.
            assert (cut_off.count("Put"), well.count("Put")) == (1, 2)

        run(main())

    @pytest.mark.parametrize("error", [errors.LeaderChanged(), errors.RequestTimeout(), errors.Stopped()])
    def test_a_write_that_may_have_been_done_is_not_repeated(self, error: errors.EtcdError) -> None:
        async def main() -> None:
            stub = Stub({"Put": [error, kv.PutResponse()], "Range": [error, kv.RangeResponse()]})
            async with stub.serving(), Client(stub.endpoint) as client:
                with pytest.raises(type(error)):
                    await client.put("a", "1")
                assert (await client.get("a")).kvs == ()
            assert (stub.count("Put"), stub.count("Range")) == (1, 2)

        run(main())

    def test_a_learner_is_left_for_another(self) -> None:
        async def main() -> None:
            learner = Stub({"Put": [errors.NotSupportedForLearner()]})
            voter = Stub({"Put": [kv.PutResponse()]})
            async with learner.serving(), voter.serving():
                async with Client([learner.endpoint, voter.endpoint]) as client:
                    await client.put("a", "1")
                async with Client(learner.endpoint) as client:
                    with pytest.raises(errors.NotSupportedForLearner):
                        await client.put("a", "1")
            assert (learner.count("Put"), voter.count("Put")) == (2, 1)

        run(main())


def token(text: str) -> auth.AuthenticateResponse:
    return auth.AuthenticateResponse(token=text)


class TestLogins:
    def test_a_lost_login_does_not_make_a_write_uncertain(self) -> None:
        async def main() -> None:
            stub = Stub({"Authenticate": [HANG_UP, token("one")], "Put": [kv.PutResponse()]})
            async with stub.serving(), Client(stub.endpoint, user="u", password="p") as client:
                await client.put("a", "1")
            assert (stub.count("Authenticate"), stub.count("Put")) == (2, 1)
            assert stub.last("Put").token == b"one"

        run(main())

    @pytest.mark.parametrize("refusal", [errors.InvalidAuthToken(), errors.AuthOldRevision()])
    def test_a_refused_token_is_renewed_once_for_all(self, refusal: errors.EtcdError) -> None:
        async def main() -> None:
            stub = Stub(
                {"Authenticate": [token("one"), token("two")], "Put": [refusal] * 5 + [kv.PutResponse()]}
            )
            async with stub.serving(), Client(stub.endpoint, user="u", password="p") as client:
                await asyncio.gather(*[client.put("a", "1") for _ in range(5)])
            assert (stub.count("Authenticate"), stub.count("Put")) == (2, 10)
            assert stub.last("Put").token == b"two"

        run(main())

    def test_not_for_ever(self) -> None:
        async def main() -> None:
            stub = Stub({"Authenticate": [token("one")], "Put": [errors.InvalidAuthToken()]})
            async with stub.serving(), Client(stub.endpoint, user="u", password="p") as client:
                with pytest.raises(errors.InvalidAuthToken):
                    await client.put("a", "1")
            assert stub.count("Put") == 4
            async with stub.serving(), Client(stub.endpoint) as client:
                with pytest.raises(errors.InvalidAuthToken):
                    await client.put("a", "1")
            assert (stub.count("Authenticate"), stub.count("Put")) == (4, 5)

        run(main())


class TestEndpoints:
    def test_one_that_takes_connections_and_says_nothing(self) -> None:
        async def main() -> None:
            stub = Stub({"Put": [kv.PutResponse()]})
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as mute:
                endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
                async with stub.serving(), Client([endpoint, stub.endpoint], dial_timeout=5.0) as client:
                    began = loop.time()
                    await client.put("a", "1")
                    assert loop.time() - began < 2.0

        run(main())

    @pytest.mark.parametrize("said", [SILENCE, errors.ContextDeadlineExceeded()])
    def test_one_that_stops_answering_is_left_after_a_look(self, said: Answer) -> None:
        async def main() -> None:
            stuck = Stub({"Range": [said], "Status": [errors.NoLeader()]})
            well = Stub({"Range": [kv.RangeResponse()], "Status": [maintenance.StatusResponse()]})
            async with (
                stuck.serving(),
                well.serving(),
                Client([stuck.endpoint, well.endpoint], timeout=0.2) as client,
            ):
                with pytest.raises(EtcdError) as caught:
                    await client.get("a")
                assert caught.value.code == Code.DEADLINE_EXCEEDED
                assert stuck.last("Range").deadline
                examination = client._pool._examination
                assert examination is not None
                await examination
                await client.get("a")
            assert stuck.last("Status").require_leader
            assert (stuck.count("Range"), well.count("Range")) == (1, 1)

        run(main())

    def test_one_that_is_only_slow_is_kept(self) -> None:
        async def main() -> None:
            script = {"Range": [SILENCE, kv.RangeResponse()], "Status": [maintenance.StatusResponse()]}
            slow, other = Stub(script), Stub({"Range": [kv.RangeResponse()]})
            async with (
                slow.serving(),
                other.serving(),
                Client([slow.endpoint, other.endpoint], timeout=0.2) as client,
            ):
                with pytest.raises(TransportFailure):
                    await client.get("a")
                examination = client._pool._examination
                assert examination is not None
                await examination
                await client.get("a")
            assert (slow.count("Range"), other.count("Range")) == (2, 0)

        run(main())

    def test_a_deadline_holds_while_others_wait_for_ever(self) -> None:
        async def main() -> None:
            async with Client(f"127.0.0.1:{free_port()}") as client:
                watch = client.watch("a")
                watch._start()
                loop = asyncio.get_running_loop()
                await asyncio.sleep(0)  # the watch is connecting now, without a deadline
                for _ in range(2):
                    began = loop.time()
                    with pytest.raises(TransportFailure) as caught:
                        await client.options(timeout=0.1).get("a")
                    assert caught.value.code == Code.DEADLINE_EXCEEDED
                    assert loop.time() - began < 2.0
                watch.cancel()

        run(main())

    def test_so_it_does_while_another_logs_in(self) -> None:
        async def main() -> None:
            stub = Stub({"Authenticate": [SILENCE]})
            async with stub.serving(), Client(stub.endpoint, user="u", password="p") as client:
                watch = client.watch("a")
                watch._start()
                while not stub.count("Authenticate"):  # noqa: ASYNC110  it lies behind a socket
                    await asyncio.sleep(0.005)
                with pytest.raises(TransportFailure, match="logging in"):
                    await client.options(timeout=0.1).get("a")
                watch.cancel()
            assert stub.count("Authenticate") == 1

        run(main())

    def test_what_stood_in_the_way_is_told(self) -> None:
        async def main() -> None:
            async with Client(
                [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"], timeout=0.1
            ) as client:
                with pytest.raises(TransportFailure, match=r"latest error: .*Error while dialing"):
                    await client.get("a")

        run(main())


class TestMetadata:
    def test_who_requires_a_leader(self) -> None:
        async def main() -> None:
            stub = Stub({"Range": [kv.RangeResponse()]})
            async with stub.serving():
                async with Client(stub.endpoint) as client:
                    await client.get("a")
                    assert not stub.last("Range").require_leader
                    await client.options(require_leader=True).namespace("n/").get("a")
                    assert stub.last("Range").require_leader
                    for wanted in (True, False):
                        watch = client.watch("a", require_leader=wanted)
                        watch._start()
                        while stub.count("Watch") < 2 - wanted:  # noqa: ASYNC110  it lies behind a socket
                            await asyncio.sleep(0.005)
                        assert stub.last("Watch").require_leader is wanted
                async with Client(stub.endpoint, require_leader=True) as client:
                    await client.get("a")
                    assert stub.last("Range").require_leader

        run(main())

    def test_deadlines_are_options(self) -> None:
        async def main() -> None:
            stub = Stub({"Range": [SILENCE], "Put": [kv.PutResponse()]})
            async with stub.serving(), Client(stub.endpoint) as client:
                loop = asyncio.get_running_loop()
                began = loop.time()
                with pytest.raises(TransportFailure):
                    await client.options(timeout=0.1).get("a")
                assert loop.time() - began < 3.0
                await client.put("a")
                assert stub.last("Put").deadline
                await client.options(timeout=None).put("a")
                assert not stub.last("Put").deadline

        run(main())

    def test_downgrades(self) -> None:
        async def main() -> None:
            stub = Stub({"Downgrade": [maintenance.DowngradeResponse(version="3.7.0")]})
            async with stub.serving(), Client(stub.endpoint) as client:
                calls = client.maintenance
                asked = []
                for call in (
                    calls.downgrade_validate("3.6"),
                    calls.downgrade_enable("3.6"),
                    calls.downgrade_cancel(),
                ):
                    assert await call == "3.7.0"
                    request = maintenance.DowngradeRequest.decode(stub.last("Downgrade").message)
                    asked.append((request.action, request.version))
                assert asked == [(0, "3.6"), (1, "3.6"), (2, "")]

        run(main())


def test_a_lease_is_renewed_elsewhere_when_a_member_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petcd.client.keepalive._PATIENCE", 0.1)

    def renew(stream: Stream, message: bytes) -> None:
        number = lease.LeaseKeepAliveRequest.decode(message).ID
        stream.send(lease.LeaseKeepAliveResponse(ID=number, TTL=3).encode())

    async def main() -> None:
        grant = {"LeaseGrant": [lease.LeaseGrantResponse(ID=9, TTL=1)]}
        mute, well = Stub(grant), Stub(streams={"LeaseKeepAlive": renew})
        async with (
            mute.serving(),
            well.serving(),
            Client([mute.endpoint, well.endpoint]) as client,
            client.lease(1, revoke=False) as held,
        ):
            while held.expires_at < asyncio.get_running_loop().time() + 2.0:
                held.check()
                await asyncio.sleep(0.01)
        assert mute.count("LeaseKeepAlive") == 1
        assert well.count("LeaseKeepAlive") >= 1

    run(main())


class TestRenewals:
    def test_one_renewal_is_asked_for_again(self) -> None:
        def serve(stream: Stream, message: bytes) -> None:
            asked.append(message)
            if len(asked) == 1:
                stream.close(errors.NoLeader.code, errors.NoLeader.text)
            else:
                stream.send(lease.LeaseKeepAliveResponse(ID=9, TTL=30).encode())

        asked: list[bytes] = []

        async def main() -> None:
            stub = Stub(streams={"LeaseKeepAlive": serve})
            async with stub.serving(), Client(stub.endpoint) as client:
                assert await client.leases.keep_alive_once(9) == 30
            assert len(asked) == 2
            async with Client(f"127.0.0.1:{free_port()}", timeout=0.1) as client:
                with pytest.raises(TransportFailure) as caught:
                    await client.leases.keep_alive_once(9)
                assert caught.value.code == Code.DEADLINE_EXCEEDED

        run(main())

    def test_a_stream_whose_token_is_refused_logs_in_again(self) -> None:
        def serve(stream: Stream, message: bytes) -> None:
            if stream.metadata(b"token") == b"old":
                stream.close(errors.InvalidAuthToken.code, errors.InvalidAuthToken.text)
            else:
                stream.send(lease.LeaseKeepAliveResponse(ID=9, TTL=30).encode())

        async def main() -> None:
            stub = Stub(
                {
                    "Authenticate": [token("old"), token("new")],
                    "LeaseGrant": [lease.LeaseGrantResponse(ID=9, TTL=1)],
                },
                {"LeaseKeepAlive": serve},
            )
            async with (
                stub.serving(),
                Client(stub.endpoint, user="u", password="p") as client,
                client.lease(1, revoke=False) as held,
            ):
                while held.expires_at < asyncio.get_running_loop().time() + 20.0:
                    held.check()
                    await asyncio.sleep(0.01)
            assert stub.count("Authenticate") == 2
            assert stub.last("LeaseKeepAlive").token == b"new"

        run(main())

    def test_who_may_not_renew_has_lost_the_lease(self) -> None:
        def serve(stream: Stream, message: bytes) -> None:
            stream.close(errors.PermissionDenied.code, errors.PermissionDenied.text)

        async def main() -> None:
            grant = {"LeaseGrant": [lease.LeaseGrantResponse(ID=9, TTL=1)]}
            stub = Stub(grant, {"LeaseKeepAlive": serve})
            async with (
                stub.serving(),
                Client(stub.endpoint) as client,
                client.lease(1, revoke=False) as held,
                asyncio.timeout(0.9),
            ):
                await held.lost.wait()
                with pytest.raises(LeaseLost) as caught:
                    held.check()
                assert caught.value.lease == 9

        run(main())


def test_what_is_left_of_the_time_is_what_the_server_is_told() -> None:
    """A second attempt has less of it than the first."""

    async def main() -> None:
        script: dict[str, list[Answer]] = {
            "Authenticate": [auth.AuthenticateResponse(token="t.1")],
            "Range": [errors.InvalidAuthToken(), kv.RangeResponse()],
        }
        stub = Stub(script)
        async with stub.serving(), Client(stub.endpoint, user="u", password="p", timeout=2.0) as client:
            slow = client._pool._credentials.log_in

            async def log_in(connection: ClientConnection, most: float | None) -> None:
                await asyncio.sleep(0.3)
                await slow(connection, most)

            client._pool._credentials.log_in = log_in  # type: ignore[method-assign]
            await client.get("a")
        told = [heard.seconds for path, heard in stub.heard if path.endswith("/Range")]
        assert len(told) == 2 and told[0] < 1.8 and told[1] < told[0] - 0.2

    asyncio.run(main())
