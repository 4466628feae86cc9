"""The messages of etcd, declared in Python, and their codec. See docs/design.md.

``wire`` holds the format below the messages, ``message`` what a message is, ``codegen`` how its codec is
compiled, ``splice`` the hot paths that build no message; one module per protobuf package beside them.
"""

from petcd.pb.message import Message, which
from petcd.pb.wire import DecodeError, varint

__all__ = ["Message", "DecodeError", "varint", "which"]
