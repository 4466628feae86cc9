"""Which ranges contain a key: a treap of intervals, each node knowing the farthest end below it.

Intervals are ordered by (start, end). A point query leaves out every subtree that ends before the point and
every one that starts behind it: O(log n + matches) for the prefixes that watchers use, and thousands of
distinct ranges cost a few steps each. Insert and remove are O(log n), whatever the order they come in:
priorities are Python's keyed hash of the interval, which a client cannot foresee; results come in the order
of the intervals, so they do not depend on it.

Equal intervals share one node, and the node carries the value put with it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class _Node(Generic[V]):
    """``end`` and ``farthest`` are None where there is no upper end."""

    __slots__ = ("end", "farthest", "left", "order", "priority", "right", "start", "value")

    def __init__(self, start: bytes, end: bytes | None, value: V) -> None:
        self.start = start
        self.end = end
        self.order = (start, end is None, end or b"")
        self.priority = hash(self.order)
        self.farthest = end
        self.left: _Node[V] | None = None
        self.right: _Node[V] | None = None
        self.value = value

    def update(self) -> None:
        """Recompute ``farthest`` from the children."""
        farthest = self.end
        for child in (self.left, self.right):
            if child is not None and farthest is not None:
                end = child.farthest
                if end is None or end > farthest:
                    farthest = end
        self.farthest = farthest


class IntervalMap(Generic[V]):
    """Values by half-open interval, found by a point inside."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[V] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def get(self, start: bytes, end: bytes | None) -> V | None:
        """The value of exactly this interval."""
        order = (start, end is None, end or b"")
        node = self._root
        while node is not None:
            if order == node.order:
                return node.value
            node = node.left if order < node.order else node.right
        return None

    def put(self, start: bytes, end: bytes | None, value: V) -> None:
        """Add an interval that is not there yet."""
        self._root = _insert(self._root, _Node(start, end, value))
        self._size += 1

    def remove(self, start: bytes, end: bytes | None) -> None:
        """Take out an interval that is there."""
        self._root = _remove(self._root, (start, end is None, end or b""))
        self._size -= 1

    def at(self, point: bytes) -> list[V]:
        """The values of all intervals that contain ``point``, in the order of the intervals."""
        found: list[V] = []
        stack: list[_Node[V]] = []
        node = self._root
        while True:
            # Down to the left while something there may reach the point.
            while node is not None and (node.farthest is None or node.farthest > point):
                stack.append(node)
                node = node.left
            if not stack:
                return found
            node = stack.pop()
            if node.start > point:
                # It and all to its right start behind the point.
                node = None
                continue
            if node.end is None or node.end > point:
                found.append(node.value)
            node = node.right

    def check(self) -> None:
        """Every invariant; for tests."""
        assert _check(self._root) == self._size


def _insert(root: _Node[V] | None, node: _Node[V]) -> _Node[V]:
    if root is None:
        return node
    if node.priority > root.priority:
        node.left, node.right = _split(root, node.order)
        node.update()
        return node
    if node.order < root.order:
        root.left = _insert(root.left, node)
    else:
        root.right = _insert(root.right, node)
    root.update()
    return root


def _split(
    root: _Node[V] | None, order: tuple[bytes, bool, bytes]
) -> tuple[_Node[V] | None, _Node[V] | None]:
    """The nodes below ``order`` and those above it."""
    if root is None:
        return None, None
    if root.order < order:
        root.right, above = _split(root.right, order)
        root.update()
        return root, above
    below, root.left = _split(root.left, order)
    root.update()
    return below, root


def _join(below: _Node[V] | None, above: _Node[V] | None) -> _Node[V] | None:
    if below is None:
        return above
    if above is None:
        return below
    if below.priority > above.priority:
        below.right = _join(below.right, above)
        below.update()
        return below
    above.left = _join(below, above.left)
    above.update()
    return above


def _remove(root: _Node[V] | None, order: tuple[bytes, bool, bytes]) -> _Node[V] | None:
    assert root is not None, "the interval is there"
    if root.order == order:
        return _join(root.left, root.right)
    if order < root.order:
        root.left = _remove(root.left, order)
    else:
        root.right = _remove(root.right, order)
    root.update()
    return root


def _check(node: _Node[V] | None) -> int:
    if node is None:
        return 0
    size = 1 + _check(node.left) + _check(node.right)
    farthest = node.farthest
    for child, below in ((node.left, True), (node.right, False)):
        if child is not None:
            assert child.priority <= node.priority
            assert (child.order < node.order) == below
    node.update()
    assert node.farthest == farthest
    return size
