"""Failpoints from the environment."""

from __future__ import annotations

import time

import pytest

from petcd.cli.etcd import gofail
from petcd.cli.etcd.gofail import arm_failpoints
from petcd.seams import Failpoints
from petcd.server.config import ConfigError


def test_nothing_is_armed_without_being_asked() -> None:
    failpoints = Failpoints()
    arm_failpoints(failpoints, "")
    assert not failpoints.armed


def test_terms_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    panics: list[str] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(gofail, "_panic", panics.append)
    failpoints = Failpoints()
    arm_failpoints(failpoints, 'a=2*sleep(1500)->1*off->sleep("20ms"); b=1*panic("x")')
    for _ in range(5):
        failpoints.hit("a")
    assert slept == [1.5, 1.5, 0.02, 0.02]
    failpoints.hit("b")
    failpoints.hit("b")
    assert panics == ["x"]


@pytest.mark.parametrize("text", ["a", "a=jump", "a=sleep(x)", "a=sleep", "a=1*"])
def test_what_cannot_be_understood(text: str) -> None:
    with pytest.raises(ConfigError, match="GOFAIL_FAILPOINTS"):
        arm_failpoints(Failpoints(), text)
