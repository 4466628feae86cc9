"""The differential cases, by group: the examples of contract cli sections 2 and 3, and what else is typed."""

from __future__ import annotations

from tests.etcdctl.case import Group
from tests.etcdctl.cases import auth, cluster, concurrency, grammar, kv, lease, three, tls, txn, watch

GROUPS = {
    group.name: group
    for group in (
        Group("kv", kv.CASES),
        Group("txn", txn.CASES),
        Group("lease", lease.CASES),
        Group("watch", watch.CASES),
        Group("concurrency", concurrency.CASES),
        Group("cluster", cluster.CASES),
        Group("grammar", grammar.CASES),
        Group("three", three.CASES, where="trio"),
        # petcd does not serve TLS yet, nor does it know users.
        Group("tls", tls.SERVER, where="tls", kinds=("go",)),
        Group("mutual", tls.MUTUAL, where="mutual", kinds=("go",)),
        Group("auth", auth.CASES, kinds=("go",)),
    )
}
