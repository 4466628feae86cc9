"""From flags to connections: endpoints, TLS, who we are, and which members are meant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.channels import Dialer, Identity, every
from petcd.cli.benchmark.failures import Failure
from petcd.cli.etcdctl.commands import complain
from petcd.cli.etcdctl.session import describe
from petcd.client.endpoints import Endpoint, parse
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import cluster, maintenance

if TYPE_CHECKING:
    import ssl

    from petcd.cli.benchmark.bench import Bench
    from petcd.cli.etcdctl.grammar import FlagSet


def endpoints(flags: FlagSet) -> list[Endpoint]:
    """Raises Failure for what is no endpoint."""
    try:
        found = [parse(text.strip()) for text in flags["endpoints"]]
    except ValueError as error:
        raise Failure(str(error)) from None
    if not found:
        raise Failure("no endpoints")
    return found


def dialer(flags: FlagSet) -> Dialer:
    """Raises Failure for files that make no TLS."""
    return Dialer(_tls(flags), flags["dial-timeout"] / 1e9)


def _tls(flags: FlagSet) -> ssl.SSLContext | None:
    cert, key, ca, trusting = (flags[name] for name in ("cert", "key", "cacert", "insecure-skip-tls-verify"))
    if not (cert or key or ca or trusting):
        return None
    import ssl

    if bool(cert) != bool(key):
        raise Failure("bad tls config: --cert and --key must both be given")
    for name in filter(None, (cert, key, ca)):
        try:
            with open(name, "rb"):
                pass
        except OSError as error:
            raise Failure(f"bad tls config: {name}: {(error.strerror or str(error)).lower()}") from None
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise Failure(f"bad tls config: {error}") from None
    context.set_alpn_protocols(["h2"])
    if trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def identity(flags: FlagSet) -> Identity:
    """``--user``; asks for a password that is not there."""
    name, colon, password = flags["user"].partition(":")
    if name and not colon:
        from petcd.cli.etcdctl.prompt import ask_password

        password = ask_password("Password: ")
    return Identity(name, password)


async def narrow_to_leader(bench: Bench) -> None:
    """``--target-leader``: of the endpoints only the leader's is left. Raises Failure."""
    trouble = "none of them leads"
    for endpoint in bench.endpoints:
        try:
            connection = await bench.dialer.dial(endpoint)
        except EtcdError as error:
            trouble = error.text
            continue
        try:
            await bench.identity.log_in(connection)
            answer = await connection.unary(
                paths.STATUS, maintenance.StatusRequest().encode(), metadata=bench.identity.metadata
            )
        except EtcdError as error:
            trouble = describe(error)
            continue
        finally:
            connection.close()
        status = maintenance.StatusResponse.decode(answer)
        if status.header is not None and status.header.member_id == status.leader:
            bench.endpoints[:] = [endpoint]
            return
    raise Failure(f"failed to find a leader endpoint: {trouble}")


@contextlib.asynccontextmanager
async def synchronize(bench: Bench) -> AsyncIterator[None]:
    """``--auto-sync-interval``: while entered, all channels follow the members of the cluster."""
    interval = bench.flags["auto-sync-interval"] / 1e9
    if not interval:
        yield
        return
    task = asyncio.ensure_future(every(interval, lambda: _synchronize(bench)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _synchronize(bench: Bench) -> None:
    try:
        answer = await bench.channels[0].unary(paths.MEMBER_LIST, cluster.MemberListRequest().encode())
        members = cluster.MemberListResponse.decode(answer).members
        found = [parse(url) for member in members if not member.isLearner for url in member.clientURLs]
    except (EtcdError, ValueError) as error:
        complain(f"warning: cannot follow the members: {error}")
        return
    if found:
        bench.endpoints[:] = found
        for channel in bench.channels:
            await channel.follow(found)
