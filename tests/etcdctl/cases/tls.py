"""TLS: certificates and what goes without them (contract cli sections 2.2, 2.6, 2.8)."""

# ruff: noqa: E501  a line of the table is a command line
from __future__ import annotations

from tests.etcdctl.case import c
from tests.etcdctl.reasons import COLUMNS, FIELDS_JSON, NO_CA, SKIP_VERIFY, STDERR, TOOK

_SOON = "--command-timeout=400ms"
_LATER = "--command-timeout=3s"
"""For what ends well, with ours."""

SERVER = [
    c("put", "a", "1", "--cacert={CA}"),
    c("get", "a", "--cacert={CA}"),
    c("get", "a", env={"ETCDCTL_CACERT": "{CA}"}),
    c("get", "a", "--cacert={CA}", env={"ETCDCTL_CACERT": "{CA}"}),
    c("get", "a", "--cacert={CA}", "--cert={CERT}", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert={CERT}"),
    c("get", "a", "--cacert={CA}", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert=", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert={CERT}", "--key="),
    c("get", "a", "--cacert={CA}", "--cert=/nonexistent/cert", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert={CERT}", "--key=/nonexistent/key"),
    c("get", "a", "--cacert={CA}", "--cert={KEY}", "--key={CERT}"),
    c("get", "a", "--cacert={CA}", "--cert={CA}", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert={CERT}", "--key={CERT}"),
    c("get", "a", "--cacert={CA}", "--cert=/dev/null", "--key={KEY}"),
    c("get", "a", "--cacert={CA}", "--cert={CERT}", "--key=/dev/null"),
    c("get", "a", "--cacert={KEY}", differs=NO_CA),
    c("get", "a", "--cacert={STRANGER}", _SOON),
    c("get", "a", _SOON),
    c("get", "a", "--insecure-transport=false", _SOON),
    c("get", "a", "--insecure-transport=false", "--insecure-skip-tls-verify"),
    c("get", "a", "--insecure-skip-tls-verify", _LATER, differs=SKIP_VERIFY, expect=(b"a\n1\n", b"", 0)),
    c("get", "a", "--cacert={STRANGER}", "--insecure-skip-tls-verify"),
    c("get", "a", "--endpoints=https://{ENDPOINT}", "--cacert={CA}"),
    c("get", "a", "--endpoints=https://{ENDPOINT}", _SOON),
    c("get", "a", "--endpoints=https://{ENDPOINT}", "--insecure-skip-tls-verify", _LATER, differs=SKIP_VERIFY, expect=(b"a\n1\n", b"", 0)),
    c("get", "a", "--endpoints=http://{ENDPOINT}", "--cacert={CA}", _SOON),
    c("member", "list", "--cacert={CA}"),
    c("endpoint", "health", "--cacert={CA}", differs=STDERR),
    c("endpoint", "health", "--cacert={CA}", "--cluster", differs=STDERR),
    c("endpoint", "status", "--cacert={CA}", differs=COLUMNS),
    c("endpoint", "hashkv", "--cacert={CA}", "-w", "json", differs=FIELDS_JSON),
    c("defrag", "--cacert={CA}", differs=TOOK),
    c("lock", "m", "--cacert={CA}", "--", "echo", "held"),
    c("lease", "grant", "10", "--cacert={CA}"),
]  # fmt: skip

MUTUAL = [
    c("put", "a", "1", "--cacert={CA}", "--cert={CERT}", "--key={KEY}"),
    c("get", "a", env={"ETCDCTL_CACERT": "{CA}", "ETCDCTL_CERT": "{CERT}", "ETCDCTL_KEY": "{KEY}"}),
    c("get", "a", "--cacert={CA}", _SOON),
    c("get", "a", "--cert={CERT}", "--key={KEY}", _SOON),
    c("get", "a", "--insecure-skip-tls-verify", "--cert={CERT}", "--key={KEY}"),
    c("put", "a", "2", "--cacert={CA}", _SOON),
    c("get", "a", "--cacert={STRANGER}", "--cert={CERT}", "--key={KEY}", _SOON),
    c("endpoint", "health", "--cacert={CA}", "--cert={CERT}", "--key={KEY}", "-w", "json"),
]  # fmt: skip
