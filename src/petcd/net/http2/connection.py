"""One HTTP/2 connection as a machine without I/O, for both roles (RFC 9113).

Bytes go in through ``receive``; bytes to send gather in ``out`` and ``wake`` is called when the first of
them appears, so the owner writes each connection once per turn. ``failed`` or ``finished`` set means: write
``out``, then close. Time is asked of the ``now`` that was handed in.

The send window of a stream is kept as the peer's initial window plus ``credits[sid]`` (what WINDOW_UPDATE
gave less what was sent). So a change of SETTINGS_INITIAL_WINDOW_SIZE adjusts every open stream at once
(6.9.2), and a unary call that was answered within the initial window costs no entry at all.

What the peer may do wrong ends in one of two ways: ``ProtocolFault`` (GOAWAY, the connection ends) or
``reset`` (RST_STREAM, one stream ends). Nothing else may come out of ``receive``, whatever the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from petcd.net.http2 import frames
from petcd.net.http2.budget import Budget
from petcd.net.http2.frames import (
    FRAME,
    FRAME_BYTES_DEFAULT,
    U32,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    ProtocolFault,
)
from petcd.net.http2.limits import Limits

_DETACHED_MAX = 1024
_CALL_WORK_BYTES: Final = 32
"""What a stream id is worth beside bytes of DATA, where a client earns idle frames."""


class Http2Stream:
    """What a role keeps for an open stream: it hears the stream's frames.

    ``remote_closed`` says that the peer has ended its side; ``receive_left`` is our window for its DATA.
    """

    __slots__ = ()

    remote_closed: bool
    receive_left: int
    holding = False
    """Do not open the window again by itself; ``grant`` will."""

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        """Bytes ``[start, end)`` of ``data``; ``remote_closed`` is already set when ``end_stream``."""
        raise ProtocolFault(frames.INTERNAL_ERROR, "data on a stream that takes none")

    def on_reset(self, code: int) -> None:
        """The peer ended both sides, or the connection is lost (REFUSED_STREAM: the peer never looked at
        it)."""

    def on_window(self) -> None:
        """All of this stream's waiting bytes are out, or few enough."""


class Sender:
    """Bytes of one stream that wait for the peer's windows, and what follows them.

    ``ending`` is a whole frame (a trailers HEADERS) or b"" for END_STREAM on the last DATA frame; None leaves
    the stream open.
    """

    __slots__ = ("chunks", "ending", "notify", "offset", "ready", "sid", "waiting")

    def __init__(self, sid: int, notify: Http2Stream | None) -> None:
        self.sid = sid
        self.chunks: deque[bytes] = deque()
        self.offset = 0
        self.waiting = 0
        self.ending: bytes | None = None
        self.notify = notify
        self.ready = False
        """Held back by the connection's window alone."""


class Http2Connection:
    """The part that both roles share. A role overrides the hooks at the end."""

    __slots__ = (
        "__weakref__",
        "_await_ping",
        "_block",
        "_block_flags",
        "_continuations",
        "_detached",
        "_drain_token",
        "_fragments",
        "_fragments_bytes",
        "_idle_budget",
        "_ping_at",
        "_ping_sent_bytes",
        "_ping_strikes",
        "_ready",
        "_reset_budget",
        "_rest",
        "_settings_budget",
        "_work_seen",
        "credits",
        "draining",
        "failed",
        "failure",
        "finished",
        "flush_mark",
        "flushed_total",
        "goaway_sid",
        "heard_at",
        "initial_window",
        "last_sid",
        "limits",
        "now",
        "out",
        "paused",
        "peer_frame_max",
        "peer_header_list_max",
        "peer_streams_max",
        "receive_left",
        "send_window",
        "senders",
        "settings_seen",
        "stalled_since",
        "streams",
        "waiting",
        "wake",
        "window_granted",
    )

    client = False

    def __init__(self, limits: Limits, now: Callable[[], float], wake: Callable[[Any], object]) -> None:
        self.limits = limits
        self.now = now
        self.wake = wake
        self.out: list[bytes] = []
        self.streams: dict[int, Any] = {}
        self.senders: dict[int, Sender] = {}
        self._ready: deque[Sender] = deque()
        self.credits: dict[int, int] = {}
        self.last_sid = 0
        """Highest stream id the peer has opened (server) or we have opened (client)."""
        self.send_window = WINDOW_DEFAULT
        self.window_granted = WINDOW_DEFAULT
        """All the connection window the peer ever gave; less ``send_window`` it is the DATA bytes sent."""
        self.flushed_total = 0
        self.flush_mark = WINDOW_DEFAULT - limits.unsent_bytes_high
        """With ``send_window`` below this, so much is framed that it must go out now (``overflow``)."""
        self.initial_window = WINDOW_DEFAULT
        self.peer_frame_max = FRAME_BYTES_DEFAULT
        self.peer_streams_max = 0xFFFFFFFF
        self.peer_header_list_max = 0
        self.receive_left = limits.connection_window_bytes
        self.waiting = 0
        """Bytes in all ``senders``."""
        self.paused = False
        """The socket takes no more: nothing is framed until it does."""
        self.stalled_since = 0.0
        self.settings_seen = False
        self.draining = False
        self.failed = False
        self.finished = False
        self.failure = ""
        self.goaway_sid = -1
        """Last stream id of the GOAWAY received; -1 before one."""
        self.heard_at = 0.0
        self._rest = b""
        self._block = 0
        self._block_flags = 0
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._continuations = 0
        # Streams we ended before the peer ended its side: its late frames are ignored, not punished (5.1).
        self._detached: dict[int, None] = {}
        self._reset_budget: Budget | None = None
        self._settings_budget: Budget | None = None
        self._idle_budget: Budget | None = None
        self._work_seen = 0
        self._ping_at = -1e9
        self._ping_strikes = 0
        self._ping_sent_bytes = 0
        self._await_ping = 0.0
        self._drain_token = b""

    # ---- receiving

    def receive(self, data: bytes) -> None:
        """Take what the socket gave. Never raises; see ``failed``."""
        if self.failed:
            return
        if self._rest:
            data = self._rest + data
        try:
            pos = self._parse(data)
        except ProtocolFault as fault:
            self.fail(fault.code, fault.text)
            return
        self._rest = data[pos:] if pos < len(data) else b""
        if self.receive_left < self.limits.connection_window_bytes >> 1:
            if self.receive_left < 0:
                self.fail(frames.FLOW_CONTROL_ERROR, "connection window exceeded")
                return
            increment = self.limits.connection_window_bytes - self.receive_left
            self.receive_left += increment
            self.put(frames.window_update(0, increment))

    def _parse(self, data: bytes) -> int:
        """Handle every complete frame of ``data``; how far it got."""
        pos, size = 0, len(data)
        unpack, frame_max = FRAME.unpack_from, self.limits.frame_bytes_max
        while size - pos >= 9:
            word, flags, sid = unpack(data, pos)
            length = word >> 8
            if length > frame_max:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            end = pos + 9 + length
            if end > size:
                break
            self.frame(word & 255, flags, sid & 0x7FFFFFFF, data, pos + 9, end)
            if self.failed:
                return size
            pos = end
        return pos

    def frame(self, kind: int, flags: int, sid: int, data: bytes, start: int, end: int) -> None:
        """One frame whose payload is ``[start, end)``."""
        if self._block and (kind != frames.CONTINUATION or sid != self._block):
            raise ProtocolFault(frames.PROTOCOL_ERROR, "a header block was interrupted")
        if not self.settings_seen and kind != frames.SETTINGS:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "the first frame was not SETTINGS")
        if kind == frames.DATA:
            self._data(flags, sid, data, start, end)
        elif kind == frames.HEADERS:
            self._headers(flags, sid, data, start, end)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(sid, data, start, end)
        elif kind == frames.RST_STREAM:
            self._rst_stream(sid, data, start, end)
        elif kind == frames.PING:
            self._ping(flags, sid, data[start:end])
        elif kind == frames.SETTINGS:
            self._settings(flags, sid, data, start, end)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, sid, data[start:end])
        elif kind == frames.GOAWAY:
            self._goaway(sid, data, start, end)
        elif kind == frames.PRIORITY:
            self._priority(sid, data, start, end)
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "PUSH_PROMISE is not accepted")
        else:
            self.spend_idle_frame()

    def _data(self, flags: int, sid: int, data: bytes, start: int, end: int) -> None:
        if sid == 0:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "DATA on stream 0")
        length = end - start
        self.receive_left -= length
        start, end = _unpad(flags, data, start, end)
        stream: Any = self.streams.get(sid)
        end_stream = bool(flags & frames.END_STREAM)
        if start == end and not end_stream:
            self.spend_idle_frame()
        if stream is None:
            if self.is_idle(sid):
                raise ProtocolFault(frames.PROTOCOL_ERROR, "DATA on an idle stream")
            if sid not in self._detached:
                self.reset(sid, frames.STREAM_CLOSED)
            elif end_stream:
                del self._detached[sid]
            return
        if stream.remote_closed:
            self.reset(sid, frames.STREAM_CLOSED)
            return
        left = stream.receive_left - length
        if left < 0:
            self.reset(sid, frames.FLOW_CONTROL_ERROR)
            return
        stream.receive_left = left
        if end_stream:
            stream.remote_closed = True
            stream.on_data(data, start, end, True)
            return
        stream.on_data(data, start, end, False)
        if left < self.limits.stream_window_bytes >> 1 and not stream.holding:
            self.grant(sid, stream)

    def grant(self, sid: int, stream: Any) -> None:
        """Open the peer's window on this stream again."""
        increment = self.limits.stream_window_bytes - stream.receive_left
        if increment > 0 and not stream.remote_closed and sid in self.streams:
            stream.receive_left += increment
            self.put(frames.window_update(sid, increment))

    def _headers(self, flags: int, sid: int, data: bytes, start: int, end: int) -> None:
        if sid == 0:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS on stream 0")
        start, end = _unpad(flags, data, start, end)
        if flags & frames.PRIORITY_FLAG:
            if end - start < 5:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if U32.unpack_from(data, start)[0] & 0x7FFFFFFF == sid:
                raise ProtocolFault(frames.PROTOCOL_ERROR, "a stream depends on itself")
            start += 5
        if flags & frames.END_HEADERS:
            self.on_block(sid, data[start:end], bool(flags & frames.END_STREAM))
            return
        self._block = sid
        self._block_flags = flags
        self._fragments = [data[start:end]]
        self._fragments_bytes = end - start
        self._continuations = 0

    def _continuation(self, flags: int, sid: int, payload: bytes) -> None:
        if not self._block:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._continuations += 1
        self._fragments_bytes += len(payload)
        if (
            self._continuations > self.limits.continuations_max
            or self._fragments_bytes > self.limits.header_block_bytes_max
        ):
            raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "header block too large")
        self._fragments.append(payload)
        if flags & frames.END_HEADERS:
            block = b"".join(self._fragments)
            self._block = 0
            self._fragments = []
            self.on_block(sid, block, bool(self._block_flags & frames.END_STREAM))

    def _rst_stream(self, sid: int, data: bytes, start: int, end: int) -> None:
        if end - start != 4:
            raise ProtocolFault(frames.FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes")
        if sid == 0 or self.is_idle(sid):
            raise ProtocolFault(frames.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        (code,) = U32.unpack_from(data, start)
        self._detached.pop(sid, None)
        stream = self.forget(sid)
        if stream is not None:
            stream.on_reset(code)
        if not self.client:
            self.spend_reset()

    def _priority(self, sid: int, data: bytes, start: int, end: int) -> None:
        if sid == 0:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if end - start != 5:
            self.reset(sid, frames.FRAME_SIZE_ERROR)
        elif U32.unpack_from(data, start)[0] & 0x7FFFFFFF == sid:
            self.reset(sid, frames.PROTOCOL_ERROR)
        self.spend_idle_frame()

    def _settings(self, flags: int, sid: int, data: bytes, start: int, end: int) -> None:
        if sid:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if start != end:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, "SETTINGS ack with a payload")
            if not self.settings_seen:
                raise ProtocolFault(frames.PROTOCOL_ERROR, "the first frame was a SETTINGS ack")
            self.spend_idle_frame()
            return
        if (end - start) % 6:
            raise ProtocolFault(frames.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
        now = self.now()
        if self._settings_budget is None:
            limits = self.limits
            self._settings_budget = Budget(limits.settings_burst, limits.settings_per_second, now)
        # A frame may hold thousands of settings; each adjustment is work.
        if not self._settings_budget.spend(now, 1.0 + (end - start) / 600):
            raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "settings flood")
        first = not self.settings_seen
        self.settings_seen = True
        window = self.initial_window
        for key, value in frames.SETTING.iter_unpack(data[start:end]):
            self._setting(key, value)
        if self.initial_window != window:
            if self.credits and max(self.credits.values()) + self.initial_window > WINDOW_MAX:
                raise ProtocolFault(frames.FLOW_CONTROL_ERROR, "a stream's window overflows")
            for sender in self.senders.values():
                self._make_ready(sender)
        self.put(frames.SETTINGS_ACK)
        self.on_settings(first)
        if self.senders:
            self.pump()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
            if value > WINDOW_MAX:
                raise ProtocolFault(frames.FLOW_CONTROL_ERROR, "initial window too large")
            self.initial_window = value
        elif key == frames.SETTINGS_MAX_FRAME_SIZE:
            if not FRAME_BYTES_DEFAULT <= value <= frames.FRAME_BYTES_LIMIT:
                raise ProtocolFault(frames.PROTOCOL_ERROR, "max frame size out of range")
            # Larger frames would only make a slow stream hold up the others.
            self.peer_frame_max = min(value, 1 << 18)
        elif key == frames.SETTINGS_ENABLE_PUSH:
            if value > 1 or (self.client and value):
                raise ProtocolFault(frames.PROTOCOL_ERROR, "enable push is not 0 or 1")
        elif key == frames.SETTINGS_MAX_CONCURRENT_STREAMS:
            self.peer_streams_max = value
        elif key == frames.SETTINGS_HEADER_TABLE_SIZE:
            self.on_table_size(value)
        elif key == frames.SETTINGS_MAX_HEADER_LIST_SIZE:
            self.peer_header_list_max = value

    def _ping(self, flags: int, sid: int, payload: bytes) -> None:
        if sid:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ProtocolFault(frames.FRAME_SIZE_ERROR, "PING is not 8 bytes")
        if flags & frames.ACK:
            self._await_ping = 0.0
            if payload == self._drain_token and self._drain_token:
                self._drain_token = b""
                self.put(frames.goaway(self.last_sid, frames.NO_ERROR))
                self.goaway_sent()
            self.on_ping_ack(payload)
            self.spend_idle_frame()
            return
        self.put(frames.ping(payload, frames.ACK))
        self.spend_idle_frame()
        if not self.client and self.limits.keepalive_min_seconds > 0.0:
            self._judge_ping()

    def _judge_ping(self) -> None:
        """grpc's enforcement: a ping too early is a strike, unless we sent DATA since the last (clients
        then measure)."""
        limits, now = self.limits, self.now()
        sent = self.window_granted - self.send_window
        if sent != self._ping_sent_bytes:
            self._ping_strikes = 0
            self._ping_sent_bytes = sent
        else:
            least = limits.keepalive_min_seconds
            if not self.streams and not self.senders and not limits.keepalive_without_streams:
                least = 7200.0
            if now < self._ping_at + least:
                self._ping_strikes += 1
                if self._ping_strikes > limits.ping_strikes_max:
                    raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "too_many_pings")
        self._ping_at = now

    def _goaway(self, sid: int, data: bytes, start: int, end: int) -> None:
        if sid:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "GOAWAY on a stream")
        if end - start < 8:
            raise ProtocolFault(frames.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
        last, code = frames.TWO_U32.unpack_from(data, start)
        self.goaway_sid = last & 0x7FFFFFFF
        self.spend_idle_frame()
        self.on_goaway(self.goaway_sid, code, data[start + 8 : end])

    def _window_update(self, sid: int, data: bytes, start: int, end: int) -> None:
        if end - start != 4:
            raise ProtocolFault(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes")
        increment = U32.unpack_from(data, start)[0] & 0x7FFFFFFF
        if increment < self.limits.window_update_bytes_min:
            self.spend_idle_frame()
        if sid == 0:
            if not increment:
                raise ProtocolFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.send_window += increment
            self.window_granted += increment
            self.flush_mark += increment
            if self.send_window > WINDOW_MAX:
                raise ProtocolFault(frames.FLOW_CONTROL_ERROR, "connection window overflows")
            if self.senders:
                self.pump()
            return
        if self.is_idle(sid):
            raise ProtocolFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        sender = self.senders.get(sid)
        if sender is None and sid not in self.streams:
            return  # closed already: the update crossed our answer
        if not increment:
            self.reset(sid, frames.PROTOCOL_ERROR)
            return
        credit = self.credits.get(sid, 0) + increment
        if credit + self.initial_window > WINDOW_MAX:
            self.reset(sid, frames.FLOW_CONTROL_ERROR)
            return
        self.credits[sid] = credit
        if sender is None:
            return
        if self.paused:
            self._make_ready(sender)
        else:
            self._pump_one(sender)

    # ---- budgets

    def spend_reset(self, cost: float = 1.0) -> None:
        """Rapid reset, and streams the peer makes us reset: the same work lost."""
        now = self.now()
        budget = self._reset_budget
        if budget is None:
            limits = self.limits
            budget = self._reset_budget = Budget(limits.resets_burst, limits.resets_per_second, now)
        if not budget.spend(now, cost):
            raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "stream reset flood")

    def spend_idle_frame(self) -> None:
        now = self.now()
        budget = self._idle_budget
        if budget is None:
            limits = self.limits
            budget = self._idle_budget = Budget(limits.idle_frames_burst, limits.idle_frames_per_second, now)
        work = self.window_granted - self.send_window + self.last_sid * _CALL_WORK_BYTES
        if work != self._work_seen:
            budget.earn((work - self._work_seen) / self.limits.idle_frame_bytes)
            self._work_seen = work
        if not budget.spend(now):
            raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    # ---- sending

    def put(self, part: bytes) -> None:
        """Append bytes of whole frames."""
        if not self.out:
            self.wake(self)
        self.out.append(part)

    def put_headers(self, sid: int, block: bytes, flags: int) -> None:
        """A header block in one frame, or in CONTINUATION frames where it is too long (6.10)."""
        most = self.peer_frame_max
        if len(block) <= most:
            self.put(FRAME.pack(len(block) << 8 | frames.HEADERS, flags | frames.END_HEADERS, sid) + block)
            return
        self.put(frames.frame(frames.HEADERS, flags, sid, block[:most]))
        for start in range(most, len(block), most):
            last = frames.END_HEADERS if start + most >= len(block) else 0
            self.put(frames.frame(frames.CONTINUATION, last, sid, block[start : start + most]))

    def take(self) -> bytes:
        """All that is to be sent, once."""
        data = b"".join(self.out)
        self.out.clear()
        self.flushed_total = self.window_granted - self.send_window
        self.flush_mark = self.send_window - self.limits.unsent_bytes_high
        return data

    def overflow(self) -> None:
        """Give the owner a chance to write (and to hear that the socket is full) before the turn's end."""

    def unflushed(self) -> int:
        """DATA bytes framed since the last ``take``."""
        return self.window_granted - self.send_window - self.flushed_total

    def window(self, sid: int) -> int:
        """What may be sent on this stream now."""
        return min(self.send_window, self.initial_window + self.credits.get(sid, 0))

    def queue(self, sid: int, chunk: bytes, ending: bytes | None, notify: Http2Stream | None) -> Sender:
        """Send ``chunk`` as DATA when the windows allow, after what already waits; then ``ending``."""
        sender = self.senders.get(sid)
        if sender is None:
            if not self.senders:
                self.stalled_since = self.now()
            sender = self.senders[sid] = Sender(sid, notify)
        if chunk:
            sender.chunks.append(chunk)
            sender.waiting += len(chunk)
            self.waiting += len(chunk)
        if ending is not None:
            sender.ending = ending
        if self.paused:
            self._make_ready(sender)
        else:
            self._pump_one(sender)
        return sender

    def _make_ready(self, sender: Sender) -> None:
        if not sender.ready:
            sender.ready = True
            self._ready.append(sender)

    def pump(self) -> None:
        """Send what the connection's window now allows: streams in turn, one frame of each per round.

        Only streams that their own window does not hold back are looked at, so an update of the connection's
        window costs what it lets out, however many streams wait.
        """
        ready, senders = self._ready, self.senders
        while ready and self.send_window > 0 and not self.paused:
            sender = ready.popleft()
            sender.ready = False
            if senders.get(sender.sid) is sender:
                self._pump_one(sender, 1)

    def _pump_one(self, sender: Sender, frames_max: int = 1 << 30) -> None:
        sid, chunks, out = sender.sid, sender.chunks, []
        granted, moved = self.credits, 0
        while chunks and frames_max:
            room = min(self.send_window, self.initial_window + granted.get(sid, 0), self.peer_frame_max)
            if room <= 0:
                break
            frames_max -= 1
            parts = []
            taken = 0
            # Small messages share a frame; a large one takes several.
            while chunks and taken < room:
                chunk = chunks[0]
                offset = sender.offset
                left = len(chunk) - offset
                if left <= room - taken:
                    parts.append(chunk[offset:] if offset else chunk)
                    taken += left
                    chunks.popleft()
                    sender.offset = 0
                else:
                    step = room - taken
                    parts.append(chunk[offset : offset + step])
                    sender.offset = offset + step
                    taken = room
            last = not chunks and sender.ending == b""
            out.append(FRAME.pack(taken << 8, frames.END_STREAM if last else 0, sid))
            out += parts
            self.send_window -= taken
            granted[sid] = granted.get(sid, 0) - taken
            moved += taken
        done = not chunks
        if moved:
            sender.waiting -= moved
            self.waiting -= moved
            self.stalled_since = self.now()
        if done:
            ending = sender.ending
            if ending:
                out.append(ending)
            elif ending == b"" and not moved:
                out.append(FRAME.pack(frames.DATA, frames.END_STREAM, sid))
        if out:
            if not self.out:
                self.wake(self)
            self.out += out
        if done:
            del self.senders[sid]
            if ending is not None:
                self.credits.pop(sid, None)
                self.on_local_end(sid)
        elif self.initial_window + granted.get(sid, 0) > 0:
            self._make_ready(sender)
        if self.send_window < self.flush_mark:
            self.overflow()
        notify = sender.notify
        if notify is not None and moved and sender.waiting <= self.limits.writable_bytes_low:
            notify.on_window()

    def forget(self, sid: int) -> Any:
        """Drop all state of a stream; what the role kept for it, or None."""
        self.credits.pop(sid, None)
        sender = self.senders.pop(sid, None)
        if sender is not None:
            self.waiting -= sender.waiting
        return self.streams.pop(sid, None)

    def detach(self, sid: int) -> None:
        """We ended this stream, the peer did not yet: its late frames are to be ignored."""
        detached = self._detached
        detached[sid] = None
        if len(detached) > _DETACHED_MAX:
            del detached[next(iter(detached))]

    def reset(self, sid: int, code: int) -> None:
        """RST_STREAM because of what the peer did; it counts against the peer."""
        stream = self.forget(sid)
        self.put(frames.rst_stream(sid, code))
        self.detach(sid)
        if stream is not None:
            stream.on_reset(code)
        self.spend_reset()

    def fail(self, code: int, text: str) -> None:
        """End the connection: GOAWAY, and every stream hears of it."""
        if self.failed:
            return
        self.failed = True
        self.failure = text
        self._rest = b""
        self.put(frames.goaway(self.last_sid if not self.client else 0, code, text.encode()[:256]))
        self.on_failed(code, text)
        self.lost()

    def lost(self) -> None:
        """No more bytes either way: forget all streams and tell them."""
        self.failed = True
        self.senders.clear()
        self._ready.clear()
        self.credits.clear()
        self.waiting = 0
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.on_reset(frames.CANCEL)

    def pause(self) -> None:
        """The socket is full."""
        self.paused = True
        self.stalled_since = self.now()

    def resume(self) -> None:
        self.paused = False
        self.stalled_since = self.now()
        if self.senders:
            self.pump()

    # ---- shutdown and keepalive

    def drain(self) -> None:
        """Say GOAWAY without cutting off calls that are under way to us (6.8): the last id follows after a
        round trip."""
        if self.draining or self.failed:
            return
        self.draining = True
        self._drain_token = b"drain..."
        self.put(frames.goaway(frames.STREAM_ID_MAX, frames.NO_ERROR) + frames.ping(self._drain_token))

    def goaway_sent(self) -> None:
        """The final GOAWAY is out; finished once the streams are."""
        if not self.streams and not self.senders:
            self.finished = True

    def keepalive(self, now: float, heard: bool) -> bool:
        """Called now and then with whether bytes came since: pings a silent peer; False when it stays
        silent."""
        limits = self.limits
        if heard:
            self.heard_at = now
            self._await_ping = 0.0
        if self._await_ping:
            return now < self._await_ping + limits.keepalive_timeout_seconds
        if limits.keepalive_interval_seconds and now >= self.heard_at + limits.keepalive_interval_seconds:
            self._await_ping = now
            self.put(frames.ping(b"alive..."))
        return True

    # ---- hooks of a role

    def is_idle(self, sid: int) -> bool:
        """Whether this stream was never opened by the side that may open it."""
        return sid > self.last_sid or not sid & 1

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        """A complete header block. It must be decoded in any case, because the table depends on it."""
        raise ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS")

    def on_settings(self, first: bool) -> None:
        """The peer's SETTINGS came and are in force."""

    def on_table_size(self, table_bytes_max: int) -> None:
        """The peer's decoder offers a table of this size."""

    def on_ping_ack(self, payload: bytes) -> None:
        """A PING of ours was answered."""

    def on_goaway(self, last_sid: int, code: int, text: bytes) -> None:
        """The peer will open (server) or take (client) no more streams above ``last_sid``."""

    def on_local_end(self, sid: int) -> None:
        """Everything queued for the stream is out, its ending included."""

    def on_failed(self, code: int, text: str) -> None:
        """We ended the connection for what the peer did."""


def _unpad(flags: int, data: bytes, start: int, end: int) -> tuple[int, int]:
    if not flags & frames.PADDED:
        return start, end
    if start == end:
        raise ProtocolFault(frames.FRAME_SIZE_ERROR, "a padded frame without its length")
    end -= data[start]
    start += 1
    if end < start:
        raise ProtocolFault(frames.PROTOCOL_ERROR, "more padding than frame")
    return start, end
