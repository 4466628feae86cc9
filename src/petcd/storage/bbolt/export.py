"""Writing a database beside a member's requests: pages on the member's thread, the disk in a lane.

Making pages is plain computing: in a helper thread it would take the interpreter lock from the member's
thread for milliseconds at a time. So it is done there, a slice of about a third of a millisecond a callback,
and what was made is handed to the lane a megabyte at a time; with two on their way the next slice waits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from petcd.seams.clock import Clock
from petcd.seams.disk import Disk, File, Lane
from petcd.storage.backend import View
from petcd.storage.bbolt.writer import Overrides, database_chunks

WRITE_BYTES: Final = 1 << 20
_WRITES_MAX: Final = 2
_DISCARD_BYTES: Final = 2 << 20


def discard(file: File) -> None:
    """Give a file's space back and close it; blocks.

    In steps: a file system that gives much back at once holds up every sync meanwhile, the WAL's too (ext4:
    35 ms for 150 MB, several times).
    """
    try:
        for size in range(file.size() - _DISCARD_BYTES, 0, -_DISCARD_BYTES):
            file.truncate(size)
    finally:
        file.close()


class DatabaseExport:
    """One database on its way from ``view`` to a new file.

    Exactly one of ``done(file, size)`` and ``failed`` is called, unless ``abandon`` is first. The view is
    closed here in any case, the file is whoever's was told that it is done. With ``anonymous`` the file has
    no name any more and is gone when it is closed; otherwise what a failed or abandoned run leaves at
    ``path`` is the caller's to remove.
    """

    def __init__(
        self,
        view: View,
        path: str,
        *,
        disk: Disk,
        clock: Clock,
        lane: Lane,
        done: Callable[[File, int], object],
        failed: Callable[[BaseException], object],
        overrides: Overrides | None = None,
        anonymous: bool = False,
        sync: bool = True,
    ) -> None:
        """``sync`` False is for a file that nobody will read after a crash."""
        self._view: View | None = view
        self._path = path
        self._disk = disk
        self._clock = clock
        self._lane = lane
        self._done = done
        self._failed = failed
        self._anonymous = anonymous
        self._sync = sync
        self._chunks = database_chunks(view, overrides=overrides)
        self._made: list[bytes] = []
        self._made_at = 0
        self._made_bytes = 0
        self._writes = 0
        """Jobs in the lane."""
        self._due = False
        """A slice is coming."""
        self._complete = False
        self._over = False
        self._file: File | None = None
        self.size = 0
        """Bytes made so far."""
        self._submit(self._open)
        self._slice_soon()

    def abandon(self) -> None:
        """Nobody wants it any more. To be called before the lane is closed."""
        if not self._over:
            self._end()

    # ------------------------------------------------------------------ pages

    def _slice_soon(self) -> None:
        if not self._due:
            self._due = True
            self._clock.call_soon(self._slice)

    def _slice(self) -> None:
        self._due = False
        if self._over:
            return
        try:
            chunk = next(self._chunks, None)
        except Exception as error:  # noqa: BLE001 - a damaged backend is the caller's to judge
            self._fail(error)
            return
        if chunk is None:
            self._write()
            self._complete = True
            self._submit(self._sync_file)
            return
        offset, data = chunk
        if offset != self._made_at + self._made_bytes:
            self._write()
            self._made_at = offset
        self._made.append(data)
        self._made_bytes += len(data)
        self.size = max(self.size, offset + len(data))
        if self._made_bytes >= WRITE_BYTES:
            self._write()
        if self._writes < _WRITES_MAX:
            self._slice_soon()

    def _write(self) -> None:
        if self._made_bytes:
            parts, self._made = self._made, []
            offset = self._made_at
            self._made_at += self._made_bytes
            self._made_bytes = 0
            self._submit(partial(self._write_file, parts, offset))

    # ------------------------------------------------------------------ the lane

    def _submit(self, job: Callable[[], None]) -> None:
        self._writes += 1
        self._lane.submit(job, self._ran, self._broke)

    def _open(self) -> None:
        file = self._disk.open(self._path, create=True)
        self._file = file
        if self._anonymous:
            self._disk.remove(self._path)
        file.truncate(0)

    def _write_file(self, parts: list[bytes], offset: int) -> None:
        file = self._file
        if file is not None:  # else it could not be opened, and that has been said
            file.pwrite(b"".join(parts), offset)

    def _sync_file(self) -> None:
        file = self._file
        if file is not None and self._sync:
            file.sync()

    # ------------------------------------------------------------------ back from it

    def _ran(self, _result: None) -> None:
        self._writes -= 1
        if self._over:
            return
        if not self._complete:
            self._slice_soon()
        elif not self._writes:
            file, self._file = self._file, None
            self._end()
            assert file is not None, "a failure to open it ends the export"
            self._done(file, self.size)

    def _broke(self, error: BaseException) -> None:
        self._writes -= 1
        if not self._over:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._end()
        self._failed(error)

    def _end(self) -> None:
        self._over = True
        self._chunks.close()
        self._made.clear()
        view, self._view = self._view, None
        if view is not None:
            view.close()
        if self._file is not None or not self._complete:
            # Behind whatever is under way.
            self._lane.submit(self._close_file, lambda _: None, lambda _: None)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            discard(file)
