"""A file made in the place of another keeps its owner: a tool run by root must not lock the member out."""

from __future__ import annotations

import os
import stat
from contextlib import suppress


def keep_owner(source: str, target: str) -> None:
    """Give ``target`` the mode of ``source`` and, where that is allowed, its owner and group.

    Raises: OSError.
    """
    status = os.stat(source)  # noqa: PTH116 - paths are plain strings below the seams
    with suppress(PermissionError):  # only root may give files away
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101 - as above
