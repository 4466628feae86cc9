"""petcd: etcd in pure Python.

The rooms of this package, and which may import which, are drawn in docs/design.md.
"""

from typing import Final

__version__: Final = "0.1.0"

ETCD_VERSION: Final = "3.7.1"
"""The etcd release whose API, flags and peer protocol this package serves."""
