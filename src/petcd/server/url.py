"""The URLs of a member: parsed as Go's url.Parse parses them, with its texts for what is wrong.

Listen and advertise URLs are ``http``, ``https``, ``unix`` or ``unixs``; the first two need ``host:port`` and
take no path. A list of them is kept sorted and without duplicates, because it goes into the member id
(contract/config-metrics.md section 2.1, last paragraph; section 3, type ``urls``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.server.gotext import quote

if TYPE_CHECKING:
    from petcd.seams.net import Address

_HEX: Final = frozenset("0123456789abcdefABCDEF")
_HOST_REFUSED: Final = frozenset(' \\^`{|}#/?@"<>')
_SCHEME_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SCHEME_OTHERS: Final = frozenset("0123456789+-.")


class UrlError(ValueError):
    """A text that is not a URL etcd takes; ``str()`` is Go's text."""


class Url:
    """One URL, immutable by convention; equal and ordered by its text.

    ``host`` is the bare host name (no brackets) and ``port`` its number, 0 where none is given. A Unix socket
    has ``socket_path`` instead.
    """

    __slots__ = ("host", "netloc", "path", "port", "rest", "scheme")

    def __init__(self, scheme: str, netloc: str, path: str = "", rest: str = "") -> None:
        self.scheme = scheme
        self.netloc = netloc
        self.path = path
        self.rest = rest
        """What etcd carries along and never looks at: query and fragment, or an opaque part."""
        host, port = netloc.rpartition("@")[2], ""
        if host.startswith("["):
            host, _, port = host[1:].partition("]")
            port = port.removeprefix(":")
        elif ":" in host:
            host, _, port = host.rpartition(":")
        self.host = host
        self.port = int(port) if port.isdigit() else 0

    @property
    def tls(self) -> bool:
        return self.scheme in ("https", "unixs")

    @property
    def unix(self) -> bool:
        return self.scheme in ("unix", "unixs")

    @property
    def socket_path(self) -> str:
        """The file of a Unix socket; a ``host:port`` there is a plain file name, as in Go."""
        return self.netloc + self.path if self.unix else ""

    def address(self) -> Address:
        """Where the network seam listens or connects."""
        from petcd.seams.net import Address

        return Address(self.socket_path, -1) if self.unix else Address(self.host, self.port)

    def __str__(self) -> str:
        if self.netloc or self.path:
            return f"{self.scheme}://{self.netloc}{self.path}{self.rest}"
        return f"{self.scheme}:{self.rest}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and str(self) == str(other)

    def __lt__(self, other: Url) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_url(text: str) -> Url:
    """One URL that a member may listen on or advertise. Raises UrlError."""
    text = text.strip()
    url = _parse(text)
    if url.scheme in ("http", "https"):
        if not has_port(url.netloc.rpartition("@")[2]):
            raise UrlError(f'URL address does not have the form "host:port": {text}')
        if url.path:
            raise UrlError(f"URL must not contain a path: {text}")
    elif url.scheme not in ("unix", "unixs"):
        raise UrlError(f"URL scheme must be http, https, unix, or unixs: {text}")
    return url


def parse_urls(text: str) -> tuple[Url, ...]:
    """A comma-separated list, sorted and without duplicates. Raises UrlError."""
    return tuple(sorted({parse_url(part) for part in text.split(",")}))


def join_urls(urls: tuple[Url, ...]) -> str:
    return ",".join(map(str, urls))


def has_port(netloc: str) -> bool:
    """Whether Go's net.SplitHostPort takes it."""
    host, colon, port = netloc.rpartition(":")
    if not colon:
        return False
    if host.startswith("["):
        return host.endswith("]") and "]" not in host[1:-1]
    return ":" not in host and "]" not in port


def _parse(text: str) -> Url:
    if any(ch < " " or ch == "\x7f" for ch in text):
        raise UrlError(f"parse {quote(text)}: net/url: invalid control character in URL")
    body, hash_mark, fragment = text.partition("#")
    scheme, body = _split_scheme(text, body)
    body, mark, query = body.partition("?")
    rest = mark + query + hash_mark + fragment
    if not body.startswith("/"):
        if scheme:  # opaque, as in unix:name
            return Url(scheme, "", "", body + rest)
        if ":" in body.partition("/")[0]:
            raise UrlError(f"parse {quote(text)}: first path segment in URL cannot contain colon")
    if not body.startswith("//"):
        return Url(scheme, "", body, rest)
    netloc, slash, path = body[2:].partition("/")
    _check_netloc(text, netloc)
    return Url(scheme, netloc, slash + path, rest)


def _split_scheme(text: str, body: str) -> tuple[str, str]:
    for at, ch in enumerate(body):
        if ch in _SCHEME_LETTERS:
            continue
        if ch == ":":
            if at == 0:
                raise UrlError(f"parse {quote(text)}: missing protocol scheme")
            return body[:at].lower(), body[at + 1 :]
        if ch not in _SCHEME_OTHERS or at == 0:
            break
    return "", body


def _check_netloc(text: str, netloc: str) -> None:
    userinfo, _, host = netloc.rpartition("@")
    if any(ch in ' <>"\\^`{|}[]/?#' for ch in userinfo):
        raise UrlError(f"parse {quote(text)}: net/url: invalid userinfo")
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise UrlError(f"parse {quote(text)}: missing ']' in host")
        port = host[end + 1 :]
    else:
        colon = host.rfind(":")
        port = host[colon:] if colon >= 0 else ""
    if port and not (port[0] == ":" and (port[1:].isdecimal() or not port[1:]) and port.isascii()):
        raise UrlError(f"parse {quote(text)}: invalid port {quote(port)} after host")
    at = 0
    while at < len(host):
        ch = host[at]
        if ch == "%":
            escape = host[at : at + 3]
            # A host may only escape what is not ASCII (and a zone's %25, inside brackets).
            valid = len(escape) == 3 and escape[1] in _HEX and escape[2] in _HEX
            if not valid or (int(escape[1:], 16) < 0x80 and not (escape == "%25" and host.startswith("["))):
                raise UrlError(f"parse {quote(text)}: invalid URL escape {quote(escape)}")
            at += 3
            continue
        if ch in _HOST_REFUSED and ch not in '"<>':
            raise UrlError(f"parse {quote(text)}: invalid character {quote(ch)} in host name")
        at += 1
