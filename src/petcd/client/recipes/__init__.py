"""Recipes: what programs that share a cluster do with each other. See docs/recipes.md.

Each is an async context manager over ``petcd.client.Client`` and survives the failure of members.
"""

from __future__ import annotations

from petcd.client.recipes._claims import Item
from petcd.client.recipes._typed import ConfigurationError
from petcd.client.recipes.barrier import Barrier, DoubleBarrier
from petcd.client.recipes.configuration import Configuration
from petcd.client.recipes.discovery import Discovery, Instance, Registration
from petcd.client.recipes.election import Election, Leader
from petcd.client.recipes.jobs import LeaderJob
from petcd.client.recipes.lock import Lock
from petcd.client.recipes.queue import PriorityQueue, Queue
from petcd.client.recipes.rwlock import ReadLock, ReadWriteLock, WriteLock
from petcd.client.recipes.semaphore import Semaphore
from petcd.client.recipes.stm import Attempt, Stm

__all__ = [
    "Lock",
    "ReadWriteLock",
    "ReadLock",
    "WriteLock",
    "Semaphore",
    "Election",
    "Leader",
    "Barrier",
    "DoubleBarrier",
    "Queue",
    "PriorityQueue",
    "Item",
    "Stm",
    "Attempt",
    "Registration",
    "Discovery",
    "Instance",
    "Configuration",
    "ConfigurationError",
    "LeaderJob",
]
