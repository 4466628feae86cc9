"""The seams of one member, handed over as one thing."""

from __future__ import annotations

from dataclasses import dataclass, field

from petcd.seams.clock import Clock
from petcd.seams.disk import Disk
from petcd.seams.failpoints import Failpoints
from petcd.seams.net import Net
from petcd.seams.rand import Random


@dataclass(slots=True)
class World:
    """Everything a member may reach outside itself."""

    clock: Clock
    random: Random
    net: Net
    disk: Disk
    failpoints: Failpoints = field(default_factory=Failpoints)
