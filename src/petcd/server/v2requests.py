"""What a request of the v2 store in the log means for a member without one.

Up to release 3.4 members publish themselves, and leaders set the cluster's version, by writing to the v2
store; 3.5 and 3.6 still read that. Both have a form of their own today. What writes to the v2 key space
itself has none. Source: contract peer section 7.2.
"""

from __future__ import annotations

import json
import re
from typing import Final

from petcd.pb.etcdserverpb import Request
from petcd.pb.membershippb import Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest

_ATTRIBUTES: Final = re.compile(r"/0/members/([0-9a-f]{1,16})/attributes")
_VERSION: Final = "/0/version"
_VERSION_TEXT: Final = re.compile(r"\d+\.\d+\.\d+")
_WITHOUT_EFFECT: Final = frozenset({"SYNC", "QGET", "GET", "HEAD"})
"""Expiry of v2 keys, of which there are none, and reads."""


class UnknownV2Request(Exception):
    """A committed entry writes to the v2 key space: without it, applying on would diverge."""


def meaning_of(request: Request) -> ClusterMemberAttrSetRequest | ClusterVersionSetRequest | None:
    """The request in today's form; None when it changes nothing. Raises: UnknownV2Request."""
    if request.Method in _WITHOUT_EFFECT:
        return None
    if request.Method == "PUT":
        if request.Path == _VERSION and _VERSION_TEXT.fullmatch(request.Val):
            return ClusterVersionSetRequest(ver=request.Val)
        match = _ATTRIBUTES.fullmatch(request.Path)
        if match is not None:
            name, client_urls = parse_attributes(request.Val)
            return ClusterMemberAttrSetRequest(
                member_ID=int(match[1], 16),
                member_attributes=Attributes(name=name, client_urls=client_urls),
            )
    raise UnknownV2Request(f"a request of the v2 API: {request.Method} {request.Path}")


def parse_attributes(text: str) -> tuple[str, list[str]]:
    """Name and client URLs out of a member's ``attributes``. Raises: UnknownV2Request."""
    try:
        shape = json.loads(text)
        name, urls = shape.get("name") or "", shape.get("clientURLs") or []
    except (ValueError, AttributeError):
        raise UnknownV2Request("a member's attributes are not a JSON object") from None
    if not isinstance(name, str) or not isinstance(urls, list) or not all(isinstance(u, str) for u in urls):
        raise UnknownV2Request("a member's attributes are no name and URLs")
    return name, urls
