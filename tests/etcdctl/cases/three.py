"""Three members: who leads, and what is asked of all of them (contract cli sections 2.8, 3.9 to 3.12)."""

from __future__ import annotations

from tests.etcdctl.case import c
from tests.etcdctl.reasons import BOX, COLUMNS, FIELDS, FIELDS_JSON, REVISION_ZERO, STDERR, TOOK, TOOK_FAILED

CASES = [
    c("member", "list"),
    c("member", "list", "-w", "json"),
    # Which member answers shows in the header.
    c("member", "list", "-w", "protobuf", "--endpoints={LEADER_AT}"),
    c("member", "list", "-w", "fields", differs=REVISION_ZERO),
    c("member", "list", "-w", "table", differs=BOX),
    c("endpoint", "status", differs=COLUMNS),
    c("endpoint", "status", "-w", "json", differs=FIELDS_JSON),
    c("endpoint", "status", "-w", "fields", differs=FIELDS),
    c("endpoint", "status", "-w", "table", differs=BOX & COLUMNS),
    c("endpoint", "status", "--cluster", differs=COLUMNS),
    c("endpoint", "status", "--cluster", "--endpoints={LEADER_AT}", differs=COLUMNS),
    c("endpoint", "status", "--endpoints={LEADER_AT},{NOBODY}", "--command-timeout=300ms", differs=COLUMNS),
    c("endpoint", "hashkv", differs=COLUMNS),
    c("endpoint", "hashkv", "--cluster", "-w", "json", differs=FIELDS_JSON),
    c("endpoint", "hashkv", "--rev=1", "-w", "fields", differs=FIELDS),
    c("endpoint", "health", "--cluster", "--endpoints={FOLLOWER_AT}", differs=STDERR),
    c("endpoint", "health", "--endpoints={FOLLOWER_AT}", "-w", "fields"),
    c("endpoint", "health", "--endpoints={NOBODY}", "-w", "json", "--command-timeout=300ms"),
    c("defrag", differs=TOOK),
    c("defrag", "--cluster", "--endpoints={LEADER_AT}", differs=TOOK),
    c("defrag", "--endpoints={LEADER_AT},{NOBODY}", "--command-timeout=1s", differs=TOOK & TOOK_FAILED),
    c("put", "shared", "1"),
    c("get", "shared"),
    c("get", "shared", "--consistency=s", "--endpoints={FOLLOWER_AT}"),
    c("get", "shared", "--endpoints={NOBODY},{FOLLOWER_AT},{LEADER_AT}"),
    c("alarm", "list"),
    c("alarm", "disarm"),
    c("member", "remove", "1234"),
    c("member", "promote", "{FOLLOWER}"),
    c("member", "add", "x", "--peer-urls=http://{LEADER_AT}/"),
    c("move-leader", "1234"),
    c("move-leader", "{FOLLOWER}", "--endpoints={FOLLOWER_AT}"),
    c("move-leader", "{LEADER}"),
    c("move-leader", "{FOLLOWER}"),
    c("move-leader", "{FOLLOWER}", "-w", "json"),
    c("snapshot", "save", "/nonexistent/never.db"),
]  # fmt: skip
