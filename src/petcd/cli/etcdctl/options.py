"""The global flags and ``etcdctl options`` (contract cli section 2.2)."""

from __future__ import annotations

from typing import Final

from petcd.cli.etcdctl.grammar import Flag, boolean, duration, integer, string, strings

SECOND: Final = 1_000_000_000

GLOBAL_FLAGS: Final[tuple[Flag, ...]] = (
    strings("endpoints", "gRPC endpoints", default=("127.0.0.1:2379",)),
    boolean("debug", "enable client-side debug logging"),
    string(
        "write-out",
        "set the output format (fields, json, protobuf, simple, table); "
        "note that json encodes keys and values in base64",
        "w",
        default="simple",
    ),
    boolean("hex", "print byte strings as hex encoded strings"),
    duration("dial-timeout", "dial timeout for client connections", default=2 * SECOND),
    duration(
        "command-timeout",
        "timeout for short running command (excluding dial timeout)",
        default=5 * SECOND,
    ),
    duration("keepalive-time", "keepalive time for client connections", default=2 * SECOND),
    duration("keepalive-timeout", "keepalive timeout for client connections", default=6 * SECOND),
    integer("max-request-bytes", "client request send limit in bytes (if 0, it defaults to 2.0 MiB)"),
    integer("max-recv-bytes", "client response receive limit in bytes (if 0, it defaults to 2^31-1)"),
    boolean("insecure-transport", "disable transport security for client connections", default=True),
    boolean("insecure-discovery", "accept insecure SRV records describing cluster endpoints", default=True),
    boolean(
        "insecure-skip-tls-verify",
        "skip server certificate verification "
        "(CAUTION: this option should be enabled only for testing purposes)",
    ),
    string("cert", "identify secure client using this TLS certificate file"),
    string("key", "identify secure client using this TLS key file"),
    string("cacert", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    string(
        "auth-jwt-token",
        "JWT token used for authentication (if this option is used, --user and --password are ignored)",
    ),
    string("user", "username[:password] for authentication (prompt if password is not supplied)"),
    string(
        "password",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    string("discovery-srv", "domain name to query for SRV records describing cluster endpoints", "d"),
    string("discovery-srv-name", "service name to query when using DNS discovery"),
)
