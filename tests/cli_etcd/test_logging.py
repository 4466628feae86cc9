"""Log lines as zap writes them, and where they go."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path

import pytest

from petcd.cli.etcd import logging
from petcd.logs import Level, Logger
from petcd.server.config import Config, ConfigError
from petcd.server.url import parse_url


def collecting(
    encoder: str = "json", stamp: str = "2026-01-02T03:04:05.000006Z"
) -> tuple[Logger, list[bytes]]:
    lines: list[bytes] = []
    output = logging.Output(encoder, [lambda _level, data: lines.append(data)], lambda: stamp)
    return Logger(output, Level.DEBUG), lines


def test_a_json_line_has_zap_s_members_in_zap_s_order() -> None:
    logger, lines = collecting()
    logger.warn("it happened", **{"local-member-id": "1f", "took": "1ms", "n": 3, "on": True, "none": None})
    text = lines[0].decode()
    assert re.fullmatch(
        r'\{"level":"warn","ts":"2026-01-02T03:04:05\.000006Z","caller":"cli_etcd/test_logging\.py:\d+",'
        r'"msg":"it happened","local-member-id":"1f","took":"1ms","n":3,"on":true,"none":null\}\n',
        text,
    )


def test_a_line_without_fields_closes() -> None:
    logger, lines = collecting()
    logger.info("x")
    assert json.loads(lines[0])["msg"] == "x"


def test_every_kind_of_value_is_written() -> None:
    logger, lines = collecting()
    logger.bind(room="mvcc").info(
        'quote " and \n',
        urls=[parse_url("http://a:1")],
        data=b"\xff",
        error=ValueError("no"),
        members={"a", "b"},
        text="ä日\udc80",
        deep={"a": (1, 2)},
    )
    assert lines[0].count(b"\n") == 1
    record = json.loads(lines[0])
    assert record["msg"] == 'quote " and \n'
    assert record["room"] == "mvcc"
    assert record["urls"] == ["http://a:1"]
    assert record["error"] == "no"
    assert record["members"] == ["a", "b"]
    assert record["text"] == "ä日?"
    assert record["deep"] == {"a": [1, 2]}


def test_fields_that_json_cannot_hold_do_not_stop_the_member() -> None:
    logger, lines = collecting()
    circle: list[object] = []
    circle.append(circle)
    logger.info("x", circle=circle, keys={b"a": 1})
    assert json.loads(lines[0])["msg"] == "x"


def test_a_console_line() -> None:
    logger, lines = collecting("console")
    logger.error("lost it", peer="a", n=1)
    text = lines[0].decode()
    assert re.fullmatch(
        r"2026-01-02T03:04:05\.000006Z\terror\tcli_etcd/test_logging\.py:\d+\t"
        r'lost it\t\{"peer": "a", "n": 1\}\n',
        text,
    )
    logger.info("plain")
    assert lines[1].decode().endswith("\tplain\n")


def test_every_level_has_its_name() -> None:
    logger, lines = collecting()
    for level in Level:
        logger.log(level, "x", {})
    names = [json.loads(line)["level"] for line in lines]
    assert names == ["debug", "info", "warn", "error", "panic", "fatal"]


def test_levels_below_the_configured_one_are_dropped() -> None:
    logger, lines = collecting()
    logger.level = logging.parse_level("error")
    logger.warn("x")
    logger.error("y")
    assert [json.loads(line)["msg"] for line in lines] == ["y"]


def test_repetition_is_thinned() -> None:
    logger, lines = collecting()
    for _ in range(450):
        logger.info("again")
    logger.info("other")
    assert len(lines) == 100 + 3 + 1


def test_a_new_second_starts_anew() -> None:
    now = [0]
    lines: list[bytes] = []
    output = logging.Output(
        "json",
        [lambda _level, data: lines.append(data)],
        logging.Stamp(lambda: now[0]),
    )
    logger = Logger(output)
    for _ in range(150):
        logger.info("again")
    now[0] = 1_000_000_000
    logger.info("again")
    assert len(lines) == 101


def test_the_stamp_is_iso_8601_with_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, text in (
            ("UTC", "1970-01-02T10:17:36.000789Z"),
            ("XYZ-2", "1970-01-02T12:17:36.000789+0200"),
        ):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert logging.Stamp(lambda: 123_456_000_789_123)() == text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_failing_output_does_not_stop_the_member() -> None:
    read, write = os.pipe()
    os.close(read)
    lines: list[bytes] = []
    output = logging.Output("json", [logging.write_to(write), lambda _level, data: lines.append(data)])
    Logger(output).info("x")
    os.close(write)
    assert len(lines) == 1


def test_files_are_appended_to(tmp_path: Path) -> None:
    for word in ("one", "two"):
        logger = logging.make_logger(Config(log_outputs=("a.log", "b.log")))
        logger.info(word)
    for name in ("a.log", "b.log"):
        records = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [record["msg"] for record in records] == ["one", "two"]


def test_streams(capfd: pytest.CaptureFixture[str]) -> None:
    logging.make_logger(Config(log_outputs=("stdout",), log_format="console")).info("out")
    logging.make_logger(Config(log_outputs=("default",))).info("err")
    out, err = capfd.readouterr()
    assert out.endswith("\tout\n")
    assert json.loads(err)["msg"] == "err"


def test_a_file_that_cannot_be_opened_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r'^couldn\'t open sink "no/where.log": open no/where.log: no such file'
    ):
        logging.make_logger(Config(log_outputs=("no/where.log",)))


def test_the_journal_gets_priority_and_text(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        write = logging.Journal(path)
        Logger(logging.Output("json", [write])).error("broken", disk="sda")
        entry = journal.recv(4096).decode()
        write.close()
    head, _, message = entry.partition("MESSAGE=")
    assert head == "PRIORITY=3\nSYSLOG_IDENTIFIER=etcd\nPACKAGE=petcd\n"
    assert json.loads(message)["msg"] == "broken"


def test_without_a_journal_stderr_takes_over(tmp_path: Path) -> None:
    read, write = os.pipe()
    journal = logging.Journal(str(tmp_path / "none"), write)
    Logger(logging.Output("json", [journal])).info("x")
    journal.close()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert json.loads(pipe.read())["msg"] == "x"


def test_a_file_is_put_aside_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "e.log"
    path.write_bytes(b"x" * (1024 * 1024 - 10) + b"\n")
    config = Config(
        log_outputs=(str(path),),
        enable_log_rotation=True,
        log_rotation_config_json='{"maxsize": 1, "maxbackups": 2}',
    )
    logging.check(config)
    for stale in ("2001-01-01T00-00-00.000", "2002-01-01T00-00-00.000", "2003-01-01T00-00-00.000"):
        (tmp_path / f"e-{stale}.log").write_text("")
    logger = logging.make_logger(config)
    logger.info("fresh")
    assert [json.loads(line)["msg"] for line in path.read_text().splitlines()] == ["fresh"]
    aside = sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith("e-"))
    assert len(aside) == 2
    assert aside[0] == "e-2003-01-01T00-00-00.000.log"
    assert (tmp_path / aside[1]).stat().st_size > 1024 * 1024 - 20


@pytest.mark.parametrize(
    ("outputs", "shape", "text"),
    [
        (
            ("default",),
            "{}",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            ("a", "b"),
            "{}",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (("a",), "{", "improperly formatted log rotation config: "),
        (("a",), '{"maxsize": "x"}', "invalid log rotation config: "),
        (("a",), "[]", "invalid log rotation config: "),
        (("a",), '{"compress": true}', "compress in --log-rotation-config-json is not supported"),
    ],
)
def test_rotation_refused(outputs: tuple[str, ...], shape: str, text: str) -> None:
    config = Config(log_outputs=outputs, enable_log_rotation=True, log_rotation_config_json=shape)
    with pytest.raises(ConfigError) as caught:
        logging.check(config)
    assert str(caught.value).startswith(text)


def test_a_record_is_cheap() -> None:
    """Not a benchmark: a caller lookup that walks files or a stamp made anew each time would show."""
    output = logging.Output("json", [lambda _level, _data: None])
    logger = Logger(output)
    started = time.perf_counter()
    for number in range(2000):
        logger.info("x", n=number)
    assert time.perf_counter() - started < 1.0
