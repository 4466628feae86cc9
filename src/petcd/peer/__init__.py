"""Members among themselves: the transport that the ``server`` room asks for, over HTTP/1.1.

``transport.py`` is the way in. ``codec.py`` messages as bytes, ``framing.py`` the two streams' formats;
``streams.py``, ``pipeline.py``, ``pool.py``, ``probing.py``, ``sending.py`` what we dial; ``handlers.py``,
``receiving.py`` what is dialled to us; ``local.py`` and ``identity.py`` what all of them share.
"""

from petcd.peer.transport import PeerTransport

__all__ = ["PeerTransport"]
