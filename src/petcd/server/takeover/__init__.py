"""Taking over a data directory of Go etcd 3.4 to 3.7 at a member's first start (docs/migrating.md).

Go's write-ahead log and ``.snap`` files are ours as they are; only the database is another file. So nothing
of the log is rewritten: the database is converted as of its consistent index, and what the log holds beyond
that is applied by the start that follows, once, like after any crash.

    ``look``        reads everything that will be relied on, and refuses what cannot be served; writes nothing
    ``membership``  members and version as of the consistent index
    ``backup``      Go's files, kept beside; and the order of the steps, with what a crash leaves
    ``convert``     the database in our form
"""

from petcd.server.takeover.convert import Takeover
from petcd.server.takeover.look import GoData

__all__ = ["GoData", "Takeover"]
