"""Watches without a transport: the hub, its streams, and the sink a transport offers."""

from petcd.mvcc.watch.hub import WatchHub
from petcd.mvcc.watch.stream import Authorize, Sink, WatchStream

__all__ = ["WatchHub", "WatchStream", "Sink", "Authorize"]
