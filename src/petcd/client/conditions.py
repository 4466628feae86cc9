"""The conditions of a transaction, written as Python expressions: ``compare("stock").version > 0``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from petcd.client.keys import Key, Value, absolute, key_range, to_bytes
from petcd.pb.etcdserverpb import kv as pb

_EQUAL, _GREATER, _LESS, _NOT_EQUAL = 0, 1, 2, 3
_VERSION, _CREATE, _MOD, _VALUE, _LEASE = range(5)
_FIELDS: Final = ("version", "create_revision", "mod_revision", "value", "lease")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition of a transaction. The server decides it: it has no truth here."""

    compare: pb.Compare

    def __bool__(self) -> NoReturn:
        # ``a == 1 and b == 2`` and ``0 < a < 5`` would silently drop their first half.
        raise TypeError("a comparison is decided by the server; give several as a list")

    def request(self, namespace: bytes = b"") -> pb.Compare:
        compare = self.compare
        if not namespace:
            return compare
        key, end = absolute(namespace, compare.key, compare.range_end)
        return pb.Compare(
            result=compare.result,
            target=compare.target,
            key=key,
            range_end=end,
            version=compare.version,
            create_revision=compare.create_revision,
            mod_revision=compare.mod_revision,
            value=compare.value,
            lease=compare.lease,
        )

    @property
    def guards(self) -> bytes | None:
        """The single key whose next change makes this condition false for ever, if there is one.

        Only equality with a modification revision is such: a version or an absence can come back when the
        key is deleted and made anew.
        """
        compare = self.compare
        if compare.result == _EQUAL and compare.mod_revision and not compare.range_end:
            return compare.key
        return None


class Property:
    """A property of a key, waiting for its operator."""

    __slots__ = ("_end", "_key", "_number")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, end: bytes, number: int) -> None:
        self._key = key
        self._end = end
        self._number = number

    def _make(self, result: int, operand: int | Value) -> Comparison:
        compare = pb.Compare(result=result, target=self._number, key=self._key, range_end=self._end)
        if self._number == _VALUE:
            if not isinstance(operand, bytes | str):
                raise TypeError("a value is compared with bytes or str")
            compare.value = to_bytes(operand)
        elif not isinstance(operand, int):
            raise TypeError(f"a {_FIELDS[self._number]} is compared with an int")
        else:
            setattr(compare, _FIELDS[self._number], operand)
        return Comparison(compare)

    def __eq__(self, operand: object) -> Comparison:  # type: ignore[override]
        return self._make(_EQUAL, operand)  # type: ignore[arg-type]

    def __ne__(self, operand: object) -> Comparison:  # type: ignore[override]
        return self._make(_NOT_EQUAL, operand)  # type: ignore[arg-type]

    def __gt__(self, operand: int | Value) -> Comparison:
        return self._make(_GREATER, operand)

    def __lt__(self, operand: int | Value) -> Comparison:
        return self._make(_LESS, operand)

    # The wire has no "or equal": the neighbouring operand says the same.

    def __ge__(self, operand: int | Value) -> Comparison:
        if isinstance(operand, int):
            return self._make(_GREATER, operand - 1)
        raise TypeError("values are compared with ==, !=, <, <= and >: no value is the last before another")

    def __le__(self, operand: int | Value) -> Comparison:
        return self._make(_LESS, operand + 1 if isinstance(operand, int) else to_bytes(operand) + b"\0")


class compare:  # noqa: N801  it reads as a verb: compare("k").version == 0
    """A key, or every key of a range, of which a transaction compares a property."""

    __slots__ = ("_end", "_key")

    def __init__(
        self, key: Key, end: Key | None = None, *, prefix: bool = False, from_key: bool = False
    ) -> None:
        self._key, self._end = key_range(key, end, prefix=prefix, from_key=from_key)

    @property
    def version(self) -> Property:
        """How often it was put since it was created; 0 while the key does not exist."""
        return Property(self._key, self._end, _VERSION)

    @property
    def create_revision(self) -> Property:
        """The revision that created it; 0 while the key does not exist."""
        return Property(self._key, self._end, _CREATE)

    @property
    def mod_revision(self) -> Property:
        """The revision of its last change; 0 while the key does not exist."""
        return Property(self._key, self._end, _MOD)

    @property
    def value(self) -> Property:
        """False for a key that does not exist, whatever it is compared with."""
        return Property(self._key, self._end, _VALUE)

    @property
    def lease(self) -> Property:
        """The id of its lease; 0 for none."""
        return Property(self._key, self._end, _LEASE)
