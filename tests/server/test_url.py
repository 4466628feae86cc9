"""URLs as Go parses them."""

import pytest

from petcd.server.url import Url, UrlError, parse_url, parse_urls


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("http://127.0.0.1:2379", "http", "127.0.0.1", 2379),
        ("HTTPS://Example.com:1", "https", "Example.com", 1),
        ("http://[::1]:2379", "http", "::1", 2379),
        ("http://:2379", "http", "", 2379),
        ("http://u:p@1.2.3.4:1", "http", "1.2.3.4", 1),
        ("http://1.2.3.4:", "http", "1.2.3.4", 0),
        ("  http://1.2.3.4:5 ", "http", "1.2.3.4", 5),
    ],
)
def test_reads_host_and_port(text: str, scheme: str, host: str, port: int) -> None:
    url = parse_url(text)
    assert (url.scheme, url.host, url.port) == (scheme, host, port)


@pytest.mark.parametrize(
    "text", ["http://1.2.3.4:5", "http://[::1]:5", "unix:///tmp/x", "http://1.2.3.4:5?x=1#f"]
)
def test_prints_what_it_read(text: str) -> None:
    assert str(parse_url(text)) == text


@pytest.mark.parametrize(
    ("text", "path"), [("unix:///run/e.sock", "/run/e.sock"), ("unixs://localhost:1234", "localhost:1234")]
)
def test_a_unix_socket_has_a_path(text: str, path: str) -> None:
    url = parse_url(text)
    assert url.unix
    assert url.address() == (path, -1)
    assert url.tls is text.startswith("unixs")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
        ("", "URL scheme must be http, https, unix, or unixs: "),
        ("ftp://1.2.3.4:99", "URL scheme must be http, https, unix, or unixs: ftp://1.2.3.4:99"),
        ("http://a", 'URL address does not have the form "host:port": http://a'),
        ("http://a:1:2", 'URL address does not have the form "host:port": http://a:1:2'),
        ("http://1.2.3.4:80/path", "URL must not contain a path: http://1.2.3.4:80/path"),
        ("127.0.0.1:99", 'parse "127.0.0.1:99": first path segment in URL cannot contain colon'),
        (":foo", 'parse ":foo": missing protocol scheme'),
        ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
        ("http://[::1]:x", 'parse "http://[::1]:x": invalid port ":x" after host'),
        ("http://1.2.3.4:x", 'parse "http://1.2.3.4:x": invalid port ":x" after host'),
        ("http://a b:1", 'parse "http://a b:1": invalid character " " in host name'),
        ("http://1\x01:5", 'parse "http://1\\x01:5": net/url: invalid control character in URL'),
        ("http://%41:5", 'parse "http://%41:5": invalid URL escape "%41"'),
        ("http://%zz:5", 'parse "http://%zz:5": invalid URL escape "%zz"'),
    ],
)
def test_refuses_in_go_s_words(text: str, reason: str) -> None:
    with pytest.raises(UrlError) as caught:
        parse_url(text)
    assert str(caught.value) == reason


def test_a_list_is_sorted_and_without_duplicates() -> None:
    urls = parse_urls("http://b:2, http://a:1,http://b:2")
    assert urls == (Url("http", "a:1"), Url("http", "b:2"))
