"""Numbers as Go's ``fmt`` prints them, for reports that other programs read."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Final

_EXPONENT_MIN: Final = -4
_EXPONENT_MAX: Final = 5


def shortest(value: float) -> str:
    """``%g``: the fewest digits that name the number; an exponent below 0.0001 and from a million on."""
    if not isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    _, digits, last = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(last, int)
    exponent = last + len(digits) - 1 if value else 0
    if _EXPONENT_MIN <= exponent <= _EXPONENT_MAX:
        return repr(value).removesuffix(".0")
    fraction = "".join(map(str, digits[1:]))
    mantissa = f"{digits[0]}.{fraction}" if fraction else str(digits[0])
    sign = "-" if value < 0 else ""
    return f"{sign}{mantissa}e{exponent:+03d}"


def four_places(value: float) -> str:
    """``%4.4f``."""
    return f"{value:.4f}"
