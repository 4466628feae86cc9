"""Every bound of one HTTP/2 connection, in one place.

The first group is etcd's contract (wire-v3.md 2.2, config-metrics.md 8.1); the rest is what history teaches
(history.md part 3). A budget is written ``<what>_burst`` and ``<what>_per_second``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    message_bytes_max: int = 1572864 + 524288
    """A gRPC message we receive; ``max-request-bytes`` + 512 KiB."""
    streams_max: int = 0xFFFFFFFF
    """``max-concurrent-streams``, of one connection."""
    keepalive_min_seconds: float = 5.0
    """Pings closer than this are strikes; 0 switches the enforcement off."""
    keepalive_without_streams: bool = False
    keepalive_interval_seconds: float = 7200.0
    """Ping a connection that was silent so long; 0 switches it off."""
    keepalive_timeout_seconds: float = 20.0
    handshake_seconds_max: float = 10.0
    """From accept to the preface and SETTINGS (or the first byte of HTTP/1.1)."""

    header_list_bytes_max: int = 64 << 10
    """Advertised. A list up to four times this is refused as one call, beyond that the connection ends."""
    header_block_bytes_max: int = 256 << 10
    """Encoded bytes of one block over all its CONTINUATION frames."""
    continuations_max: int = 32
    frame_bytes_max: int = 16384
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 16 << 20
    partial_bytes_max: int = 64 << 20
    """Unfinished messages of one connection together."""

    unsent_bytes_high: int = 4 << 20
    """Replies waiting for the peer's window or its socket: beyond this its new calls wait too."""
    unsent_bytes_low: int = 1 << 20
    parked_bytes_max: int = 4 << 20
    """Calls that wait so, by the size of their messages (and 256 bytes each)."""
    stalled_seconds_max: float = 120.0
    """A peer that takes nothing of what waits for so long loses its connection."""
    writable_bytes_low: int = 64 << 10
    """A stream that was blocked hears ``on_writable`` once it has no more than this waiting."""

    resets_burst: float = 1000.0
    resets_per_second: float = 100.0
    resets_per_call: float = 0.25
    """A call that ran to its end earns this many resets: a busy client may cancel more."""
    settings_burst: float = 100.0
    settings_per_second: float = 5.0
    idle_frames_burst: float = 5000.0
    """Frames that carry nothing: empty DATA, PRIORITY, tiny WINDOW_UPDATE, unknown types, ping and
    settings."""
    idle_frames_per_second: float = 1000.0
    idle_frame_bytes: int = 8
    """Taking so many bytes of our DATA earns a client one more: some acknowledge every message of a stream
    with two window updates and a ping."""
    window_update_bytes_min: int = 512
    """A smaller WINDOW_UPDATE counts as an idle frame."""
    ping_strikes_max: int = 2
