"""Which etcd this is, in the values that scripts look for; honest where Go has no counterpart."""

from __future__ import annotations

import os
import sys
from typing import Final

from petcd import __version__

GIT_SHA: Final = f"petcd-{__version__}"

_IMPLEMENTATIONS: Final = {"cpython": "CPython", "pypy": "PyPy"}
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def runtime() -> str:
    """In the place of Go's version: ``none (CPython 3.11.7)``."""
    name = sys.implementation.name
    return f"none ({_IMPLEMENTATIONS.get(name, name)} {'.'.join(map(str, sys.version_info[:3]))})"


def system() -> tuple[str, str]:
    """GOOS and GOARCH."""
    uname = os.uname()
    return uname.sysname.lower(), _MACHINES.get(uname.machine, uname.machine)
