"""The process around a member: what it finds on the machine, its loop, its signals, its end.

Ends by the same signal that stopped it (0 as pid 1), by 1 for a refusal to start or a fatal error, by 2 for a
bug. Source: contract/config-metrics.md sections 2.2, 7.1, 7.2 and 7.4.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

from petcd.cli.etcd import hostinfo
from petcd.cli.etcd.gofail import arm_failpoints
from petcd.cli.etcd.report import describe, expected, location, reason
from petcd.cli.etcd.settings import Settings, parse_cluster, use_default_host, wants_default_host
from petcd.cli.etcd.startlog import announce
from petcd.logs import Level, Logger
from petcd.server.config import Config, ConfigError

if TYPE_CHECKING:
    from petcd.embed import Etcd

_SWITCH_SECONDS: Final = 0.001
_GC_THRESHOLDS: Final = (5_000, 1 << 30, 1 << 30)
"""New objects are looked at after 5,000 more of them, and never again: 50,000 at a time held the loop for
up to 60 ms, and 1,000 at a time are mostly calls under way, which cost a twentieth of the throughput."""
_DESCRIPTORS_MIN: Final = 150
_SIGNAL_NAMES: Final = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}


class _Ended(Exception):
    """The process is to end with this code; everything has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(settings: Settings, logger: Logger) -> int:
    """Run the member until it ends; the exit code. Does not return after a signal."""
    # Until the member serves, a signal ends the process as it ends any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        prepare(settings, logger)
        sys.setswitchinterval(_SWITCH_SECONDS)
        loop = _new_loop()
        stopped_by = loop.run_until_complete(_serve(settings.config, logger, loop))
    except _Ended as ended:
        return _leave(ended.code)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # noqa: BLE001 - the operator gets a record, never a traceback
        return _leave(fail_start(error, settings, logger))
    return _end_by(stopped_by)


def _leave(code: int) -> int:
    """End without waiting for threads that may hang on a broken disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def _end_by(number: int) -> int:
    if os.getpid() == 1:
        return _leave(0)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def prepare(settings: Settings, logger: Logger) -> None:
    """Everything between a checked configuration and the member itself. Raises ConfigError, _Ended."""
    config = settings.config
    _find_host(settings, logger)
    if not config.data_dir:
        config.data_dir = f"{config.name}.etcd"
        logger.warn("'data-dir' was empty; using default", **{"data-dir": config.data_dir})
    _raise_descriptor_limit(logger)
    initialised = _look_at_data_dir(config, logger)
    _check_ports(config)
    logger.info("configuring peer listeners", **{"listen-peer-urls": _texts(config.listen_peer_urls)})
    logger.info("configuring client listeners", **{"listen-client-urls": _texts(config.listen_client_urls)})
    _ = config.compaction_retention
    config.initial_cluster = parse_cluster(settings.cluster_text)
    if not initialised:
        problem = config.local_peer_urls_problem(hostinfo.resolve)
        if problem:
            raise ConfigError(problem)
    announce(config, logger, initialised=initialised)


def _texts(urls: Any) -> list[str]:
    return [str(url) for url in urls]


def _find_host(settings: Settings, logger: Logger) -> None:
    host = ""
    if wants_default_host(settings.config):
        try:
            host = hostinfo.default_host()
        except OSError as error:
            logger.info("failed to detect default host", error=describe(error))
    if use_default_host(settings, host):
        logger.info("detected default host for advertise", host=host)


def _raise_descriptor_limit(logger: Logger) -> None:
    """As Go does: every connection is a descriptor."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            logger.warn("cannot raise the file descriptor limit", limit=soft, error=str(error))
    if soft != resource.RLIM_INFINITY and soft <= _DESCRIPTORS_MIN:
        logger.fatal(
            "file descriptor limit of etcd process is too low; please set higher",
            limit=soft,
            **{"recommended-limit": _DESCRIPTORS_MIN},
        )
        raise _Ended(1)


def _look_at_data_dir(config: Config, logger: Logger) -> bool:
    """Whether a member has been founded there; warn of what should not be there."""
    from petcd.storage.datadir import BACKUP_NAME

    path = config.data_dir
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208 - paths are plain texts in a configuration
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        names, mode = [], stat.S_IFDIR | 0o700
    except OSError as error:
        logger.fatal("failed to list data directory", dir=path, error=f"open {path}: {reason(error)}")
        raise _Ended(1) from None
    for name in names:
        if name not in ("member", "proxy") and not name.startswith(BACKUP_NAME):
            logger.warn("found invalid file under data directory", **{"filename": name, "data-dir": path})
    if "proxy" in names:
        raise ConfigError("the data directory belongs to a v2 proxy, which is gone")
    fields = {"data-dir": path, "dir-type": "member" if "member" in names else "empty"}
    if "member" in names:
        logger.info("server has already been initialized", **fields)
    else:
        logger.info("Initialize and start etcd server", **fields)
    if stat.S_IMODE(mode) != 0o700:
        logger.warn(
            "check file permission",
            error=f'directory "{path}" exist, but the permission is "{stat.filemode(mode)}". The recommended '
            'permission is "-rwx------" to prevent possible unprivileged access to the data',
        )
    return os.path.isdir(config.wal_path)  # noqa: PTH112


def _check_ports(config: Config) -> None:
    for url in (
        *config.listen_peer_urls,
        *config.listen_client_urls,
        *config.listen_client_http_urls,
        *config.listen_metrics_urls,
    ):
        if url.port > 0xFFFF:
            raise ConfigError(f"listen tcp: address {url.port}: invalid port")


async def _serve(config: Config, logger: Logger, loop: asyncio.AbstractEventLoop) -> int:
    """Run the member until a signal; its number. Raises _Ended after a fatal error, or a removal."""
    from petcd.embed import Etcd
    from petcd.seams.real import real_world
    from petcd.server.member import MemberRemoved

    crashed: asyncio.Future[BaseException] = loop.create_future()
    loop.set_exception_handler(_on_callback_error(logger, crashed))
    world = real_world(loop)
    arm_failpoints(world.failpoints, os.environ.get("GOFAIL_FAILPOINTS", ""))
    try:
        etcd = await Etcd.start(config, world, logger)
    except MemberRemoved:
        raise _Ended(0) from None
    signalled: asyncio.Future[int] = loop.create_future()
    _watch_signals(loop, signalled)
    _notify_ready(logger)
    _collect_young_garbage()
    failed: asyncio.Future[Any] = asyncio.ensure_future(etcd.failed)
    await asyncio.wait((signalled, failed, crashed), return_when=asyncio.FIRST_COMPLETED)
    if not signalled.done():
        if failed.done() and isinstance(failed.exception(), MemberRemoved):
            await _stop(etcd, logger)
            raise _Ended(0)
        raise _Ended(_report_failure(crashed if crashed.done() else failed, logger))
    number = signalled.result()
    logger.info("received signal; shutting down", signal=_SIGNAL_NAMES[signal.Signals(number)])
    hostinfo.notify("STOPPING=1")
    await _stop(etcd, logger)
    return number


def _collect_young_garbage() -> None:
    """Let the collector look at new objects only, and at each of them once.

    What the start left behind stays for good, a restored index above all: walking it would stop the loop for
    seconds. What survives one look is an index entry, a log entry or a connection, and goes the same way.
    Connections take their cycles apart when they end, so that counting references suffices for them.
    """

    def keep(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 0:
            gc.freeze()

    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.callbacks.append(keep)
    gc.enable()


async def _stop(etcd: Etcd, logger: Logger) -> None:
    try:
        await etcd.stop()
    except Exception as error:  # noqa: BLE001 - the process ends either way, and says why
        logger.error("failed to stop cleanly", error=describe(error), location=location(error))


def _watch_signals(loop: asyncio.AbstractEventLoop, signalled: asyncio.Future[int]) -> None:
    def on_signal(number: int) -> None:
        if signalled.done():
            _end_by(number)  # asked twice: at once
        else:
            signalled.set_result(number)

    for number in _SIGNAL_NAMES:
        loop.add_signal_handler(number, on_signal, int(number))
    loop.add_signal_handler(signal.SIGQUIT, _dump_stacks)


def _dump_stacks() -> None:
    import faulthandler

    faulthandler.dump_traceback(2, all_threads=True)
    os._exit(2)


def _notify_ready(logger: Logger) -> None:
    logger.info("notifying init daemon")
    try:
        hostinfo.notify("READY=1")
    except OSError as error:
        logger.error("failed to notify systemd for readiness", error=describe(error))
    else:
        logger.info("successfully notified init daemon")


def _on_callback_error(logger: Logger, crashed: asyncio.Future[BaseException]) -> Any:
    """A connection's or a task's failure is its own; a failed callback may leave the member torn."""

    def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "handle" in context and isinstance(error, BaseException) and not isinstance(error, OSError):
            if not crashed.done():
                crashed.set_result(error)
            return
        fields = {"error": describe(error), "location": location(error)} if error is not None else {}
        logger.error(str(context.get("message", "a callback failed")), **fields)

    return on_error


def _report_failure(future: asyncio.Future[Any], logger: Logger) -> int:
    error = future.exception()
    if error is None:
        error = future.result()
    if not isinstance(error, BaseException):
        error = RuntimeError(f"the member ended: {error}")
    return fail(error, logger, "etcd server failed")


def fail_start(error: BaseException, settings: Settings, logger: Logger) -> int:
    """Say why there is no member; the exit code."""
    text = describe(error)
    if expected(error) and "include" in text and "--initial-cluster" in text:
        logger.warn("failed to start", error=text)
        logger.warn("forgot to set --initial-cluster?")
        logger.warn("forgot to set --initial-advertise-peer-urls?")
        if not settings.config.discovery.asked_for:
            logger.warn("V3 discovery settings (i.e., --discovery-token, --discovery-endpoints) are not set")
        return 1
    return fail(error, logger, "discovery failed")


def fail(error: BaseException, logger: Logger, message: str) -> int:
    """One record for the end of the process: fatal for what can happen, panic for a bug."""
    if expected(error):
        logger.fatal(message, error=describe(error))
        code = 1
    else:
        fields = {"error": describe(error), "location": location(error)}
        message = f"{type(error).__name__}: this is a bug in petcd"
        logger.log(Level.PANIC, message, fields)
        code = 2
    if logger.level <= Level.DEBUG:
        import traceback

        traceback.print_exception(error)
    return code
