"""``-w table``: the box-drawing tables of 3.7, or the ASCII ones up to 3.6 (contract cli section 1.7).

``PETCDCTL_TABLES=ascii`` chooses the older form, which scripts cut at ``|``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import write
from petcd.cli.etcdctl.printers import Printer, rows

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
    from petcd.pb import etcdserverpb as pb

_WRAP: Final = 30


def _wide(text: str) -> int:
    """Columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _title(name: str) -> str:
    return name.replace("_", " ").replace(".", " ").upper().strip()


def _center(text: str, width: int) -> str:
    gap = width - _wide(text)
    return " " * (gap // 2) + text + " " * (gap - gap // 2)


def _right(text: str, width: int) -> str:
    return " " * (width - _wide(text)) + text


def _wrap(text: str) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and len(joined) > _WRAP:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def render(header: Sequence[str], body: Sequence[Sequence[str]], *, ascii_only: bool) -> str:
    """A table as a text that ends with a newline."""
    titles = [_title(name) for name in header]
    cells = [
        [
            _wrap(cell) if ascii_only and len(cell) > _WRAP else [cell if ascii_only else cell.strip()]
            for cell in row
        ]
        for row in body
    ]
    widths = [
        max([_wide(title), *(_wide(line) for row in cells for line in row[at])])
        for at, title in enumerate(titles)
    ]
    bars = [("-" if ascii_only else "─") * (width + 2) for width in widths]
    side = "|" if ascii_only else "│"

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join(bars) + right + "\n"

    def line(parts: Sequence[str]) -> str:
        return side + side.join(f" {part} " for part in parts) + side + "\n"

    out = [rule("+", "+", "+") if ascii_only else rule("┌", "┬", "┐")]
    out.append(line([_center(title, width) for title, width in zip(titles, widths, strict=True)]))
    out.append(rule("+", "+", "+") if ascii_only else rule("├", "┼", "┤"))
    for row in cells:
        for at in range(max(len(cell) for cell in row)):
            parts = [cell[at] if at < len(cell) else "" for cell in row]
            out.append(line([_right(part, width) for part, width in zip(parts, widths, strict=True)]))
    out.append(rule("+", "+", "+") if ascii_only else rule("└", "┴", "┘"))
    return "".join(out)


class FormatPrinter(Printer):
    name = "table"

    def _table(self, header: Sequence[str], body: Sequence[Sequence[str]]) -> None:
        write(render(header, body, ascii_only=os.environ.get("PETCDCTL_TABLES") == "ascii"))

    def member_list(self, response: pb.MemberListResponse) -> None:
        self._table(rows.MEMBER_HEADER, [rows.member(member) for member in response.members])

    def endpoint_health(self, rows_: list[Health]) -> None:
        self._table(rows.HEALTH_HEADER, [rows.health(row) for row in rows_])

    def endpoint_status(self, rows_: list[EndpointStatus]) -> None:
        self._table(rows.STATUS_HEADER, [rows.status(row) for row in rows_])

    def endpoint_hashkv(self, rows_: list[EndpointHash]) -> None:
        self._table(rows.HASH_HEADER, [rows.hash_kv(row) for row in rows_])
