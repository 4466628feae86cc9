"""The four seams: Clock, Random, Net, Disk, and the failpoints beside them.

Everything that is not a core reaches the world through these and through nothing else, so that a whole
member runs under the simulation. The protocols stand here; ``petcd.seams.real`` is the world as it is, and
``petcd.testing`` holds the simulated one.
"""

from petcd.seams.clock import Clock, Timer
from petcd.seams.disk import Disk, File, Lane
from petcd.seams.failpoints import Failpoints
from petcd.seams.net import Address, Connection, Listener, Net, Transport
from petcd.seams.rand import Random
from petcd.seams.world import World

__all__ = [
    "World",
    "Clock",
    "Timer",
    "Random",
    "Net",
    "Address",
    "Connection",
    "Listener",
    "Transport",
    "Disk",
    "File",
    "Lane",
    "Failpoints",
]
