"""The bbolt file: how Go etcd keeps its database, and how databases are exchanged with it.

``write_database`` writes one from a view of the backend, in one pass; ``read_database`` reads one, in a
form that ``Backend.replace`` takes; ``check_database`` looks whether it is one. ``layout`` has the bytes,
``reader`` walks the pages, ``writer`` makes them, ``export`` writes them beside a member's requests.
"""

from petcd.storage.bbolt.database import DatabaseInfo, check_database, read_database
from petcd.storage.bbolt.export import DatabaseExport, discard
from petcd.storage.bbolt.reader import BboltFile, PageCount
from petcd.storage.bbolt.writer import Overrides, database_chunks, write_database

__all__ = [
    "BboltFile",
    "DatabaseExport",
    "DatabaseInfo",
    "Overrides",
    "PageCount",
    "check_database",
    "database_chunks",
    "discard",
    "read_database",
    "write_database",
]
