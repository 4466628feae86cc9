"""The small parts: budgets, deadlines, message frames, texts and timeouts."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.net.deadlines import TICK_SECONDS, Deadlines
from petcd.net.grpc.messages import GrpcFault, MessageReader, go_quote
from petcd.net.grpc.router import Method, Router, is_grpc
from petcd.net.grpc.status import decode_text, encode_text, format_timeout, parse_timeout
from petcd.net.http2.budget import Budget


class TestBudget:
    def test_burst_then_rate(self) -> None:
        budget = Budget(10, 2, now=0.0)
        assert [budget.spend(0.0) for _ in range(11)] == [True] * 10 + [False]
        budget = Budget(10, 2, now=0.0)
        assert all(budget.spend(i / 2) for i in range(1000))

    def test_never_more_than_the_burst(self) -> None:
        budget = Budget(3, 100, now=0.0)
        assert [budget.spend(1000.0) for _ in range(4)] == [True] * 3 + [False]

    def test_earned(self) -> None:
        budget = Budget(2, 0, now=0.0)
        assert budget.spend(0) and budget.spend(0)
        budget.earn(1)
        assert budget.spend(0) and not budget.spend(0)


class Item:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.tick = 0
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


class TestDeadlines:
    def test_first_item_arms_the_timer(self) -> None:
        deadlines, armed = Deadlines(), []
        deadlines.on_first = lambda: armed.append(1)
        items = [Item(1.0), Item(1.0), Item(9.0)]
        for item in items:
            deadlines.add(item)
        assert armed == [1] and len(deadlines) == 3
        for item in items:
            deadlines.discard(item)
        assert len(deadlines) == 0
        deadlines.expire(0.0)
        assert not deadlines.pending
        deadlines.add(Item(1.0))
        assert armed == [1, 1]

    def test_what_ended_is_not_kept_beyond_the_next_look(self) -> None:
        deadlines = Deadlines()
        early, late = Item(1000.0), Item(1000.0)
        deadlines.add(early)
        deadlines.discard(early)
        deadlines.add(late)
        deadlines.expire(1.0)
        deadlines.discard(late)
        assert not deadlines.pending
        kept = weakref.ref(early), weakref.ref(late)
        del early, late
        assert [item() for item in kept] == [None, None]

    def test_an_item_that_ends_others_as_it_expires(self) -> None:
        deadlines = Deadlines()
        same, later, after = Item(1.0), Item(1.05), Item(1.1)

        class Ends(Item):
            def expire(self) -> None:
                super().expire()
                deadlines.discard(same)
                deadlines.discard(later)
                deadlines.add(after)

        first = Ends(1.0)
        for item in (first, same, later, last := Item(1.2)):
            deadlines.add(item)
        deadlines.expire(0.5)
        deadlines.expire(2.0)
        assert [item.expired for item in (first, same, later, last)] == [1, 0, 0, 1]
        assert deadlines.pending, "what came meanwhile"
        deadlines.expire(2.0)
        assert after.expired == 1 and not deadlines.pending

    def test_ended_twice(self) -> None:
        deadlines = Deadlines()
        item = Item(9.0)
        deadlines.add(item)
        deadlines.expire(1.0)
        deadlines.discard(item)
        deadlines.discard(item)
        assert not deadlines.pending

    def test_forgotten(self) -> None:
        deadlines = Deadlines()
        filed, young = Item(9.0), Item(9.0)
        deadlines.add(filed)
        deadlines.expire(1.0)
        deadlines.add(young)
        deadlines.clear()
        assert not deadlines.pending
        deadlines.discard(filed)
        deadlines.expire(10.0)
        assert filed.expired == young.expired == 0

    def test_an_item_already_late_is_found(self) -> None:
        deadlines = Deadlines()
        deadlines.expire(100.0)
        item = Item(1.0)
        deadlines.add(item)
        deadlines.expire(100.0)
        assert item.expired == 1

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["add", "discard", "pass"]), st.floats(0.0, 3.0)),
            max_size=60,
        )
    )
    def test_each_expires_once_and_at_most_a_tick_late(self, steps: list[tuple[str, float]]) -> None:
        deadlines, now = Deadlines(), 50.0
        alive: dict[Item, None] = {}
        for step, amount in steps:
            if step == "add":
                item = Item(now + amount)
                deadlines.add(item)
                alive[item] = None
            elif step == "discard" and alive:
                item = list(alive)[int(amount * 1000) % len(alive)]
                del alive[item]
                deadlines.discard(item)
                item.expired += 10
            else:
                now += amount
                deadlines.expire(now)
                for item in list(alive):
                    if item.expired:
                        assert item.expired == 1
                        assert item.deadline <= now
                        del alive[item]
                    else:
                        assert item.deadline > now - 2 * TICK_SECONDS
        assert len(deadlines) == len(alive)


class TestMessages:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=300), max_size=10), st.lists(st.integers(1, 40), min_size=1))
    def test_any_cut(self, bodies: list[bytes], cuts: list[int]) -> None:
        raw = b"".join(b"\0" + len(body).to_bytes(4, "big") + body for body in bodies)
        reader, out, pos, i = MessageReader(1000), [], 0, 0
        while pos < len(raw):
            end = min(len(raw), pos + cuts[i % len(cuts)])
            out += reader.feed(raw, pos, end)
            pos, i = end, i + 1
        assert out == bodies
        assert reader.partial_bytes == 0

    def test_too_large_is_known_after_5_bytes(self) -> None:
        reader = MessageReader(10)
        for byte in b"\0\0\0\0":
            assert reader.feed(bytes((byte,)), 0, 1) == []
        with pytest.raises(GrpcFault, match=r"grpc: received message larger than max \(11 vs. 10\)"):
            reader.feed(b"\x0b", 0, 1)

    def test_quote(self) -> None:
        assert go_quote(b'a"b\\c\n\x01\xff') == '"a\\"b\\\\c\\n\\x01\\\\xff"'


class TestTexts:
    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=100))
    def test_text_comes_back(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            return
        raw = encode_text(text)
        assert all(0x20 <= byte < 0x7F for byte in raw)
        assert decode_text(raw) == text

    def test_broken_escapes_stay(self) -> None:
        assert decode_text(b"100%") == "100%"
        assert decode_text(b"%zz%4") == "%zz%4"
        assert decode_text(b"%41") == "A"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (1.0, b"1000000u"),
            (0.0, b"1u"),
            (-1.0, b"1u"),
            (100.0, b"100000m"),
            (1e9, b"99999999S"),
            (1e-9, b"1u"),
        ],
    )
    def test_timeout(self, seconds: float, text: bytes) -> None:
        assert format_timeout(seconds) == text

    @settings(max_examples=100, deadline=None)
    @given(st.floats(1e-6, 1e7))
    def test_timeout_comes_back(self, seconds: float) -> None:
        back = parse_timeout(format_timeout(seconds))
        assert back is not None
        assert back <= seconds * 1.0001
        assert back >= seconds * 0.99 - 1e-6

    def test_content_type(self) -> None:
        assert is_grpc(b"application/grpc") and is_grpc(b"application/grpc+json")
        assert not is_grpc(b"application/grpc-web")


class TestRouter:
    def test_a_path_twice(self) -> None:
        router = Router([Method(b"/a.B/C", unary=lambda call, message: None)])
        with pytest.raises(ValueError, match="repeated"):
            router.unary(b"/a.B/C", lambda call, message: None)

    def test_either_unary_or_stream(self) -> None:
        with pytest.raises(ValueError, match="either"):
            Method(b"/a.B/C")
